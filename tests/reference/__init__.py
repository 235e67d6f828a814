"""Slow, readable versions of the methods, written from their equations, one row at a time."""

from .joined_loss import joined_loss, synthesize, synthetic_loss, synthetic_parts
from .proxy_synthesis import proxy_synthesis
from .simplex import simplex
from .spherical_embedding_expansion import complete, expand, spherical_embedding_expansion
from .symmetrical_synthesis import symmetrical_synthesis

__all__ = [
    "complete",
    "expand",
    "joined_loss",
    "proxy_synthesis",
    "simplex",
    "spherical_embedding_expansion",
    "symmetrical_synthesis",
    "synthesize",
    "synthetic_loss",
    "synthetic_parts",
]
