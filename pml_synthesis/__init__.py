"""Synthetic embeddings and classes for pytorch-metric-learning."""

from .augmenters import (
    BaseAugmenter,
    Compose,
    ProxySynthesis,
    RealBatch,
    SphericalEmbeddingExpansion,
    SymmetricalSynthesis,
    SyntheticBatch,
)
from .losses import SynthesisLoss, register_proxies
from .regularizers import SynthesisRegularizer

__version__ = "0.1.0"

__all__ = [
    "BaseAugmenter",
    "Compose",
    "ProxySynthesis",
    "RealBatch",
    "SphericalEmbeddingExpansion",
    "SymmetricalSynthesis",
    "SynthesisLoss",
    "SynthesisRegularizer",
    "SyntheticBatch",
    "register_proxies",
]
