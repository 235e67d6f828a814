"""Slow, readable versions of the methods, written from their equations, one row at a time.

The module of a method is named like the module of its augmenter, and has

    EXAMPLES      {name: arguments} of the augmenters that the tests run over, small ones. Arguments
                  called `num_classes`, `embedding_size` and `num_centers` are left out: each test
                  fills them in.
    synthesize    what the augmenter makes, a SyntheticBatch, from (augmenter, embeddings, labels,
                  proxies, generator); of the augmenter it reads the options, and the memory.
    REFUSED_BY    the proxy losses, if any, that give an error with the augmenter.
"""

from .joined_loss import (
    joined_loss,
    real_parents,
    synthetic_batch,
    synthetic_loss,
    synthetic_parts,
)
from .methods import (
    PUBLIC_AUGMENTERS,
    build,
    fill_memory,
    has_memory,
    module_name,
    reference_of,
    synthesize,
)
from .soft_labels import soft_label_loss

__all__ = [
    "PUBLIC_AUGMENTERS",
    "build",
    "fill_memory",
    "has_memory",
    "joined_loss",
    "module_name",
    "real_parents",
    "reference_of",
    "soft_label_loss",
    "synthesize",
    "synthetic_batch",
    "synthetic_loss",
    "synthetic_parts",
]
