"""Synthetic embeddings and classes for pytorch-metric-learning."""

<<<<<<< HEAD
from .augmenters import (
    BaseAugmenter,
    Compose,
    ProxySynthesis,
    RealBatch,
    SphericalEmbeddingExpansion,
    SymmetricalSynthesis,
    SyntheticBatch,
)
=======
from . import augmenters
from .augmenters import *  # noqa: F403
>>>>>>> docs
from .losses import SynthesisLoss, register_proxies
from .regularizers import SynthesisRegularizer

__version__ = "0.1.0"

<<<<<<< HEAD
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
=======
# Those of the augmenters are named in one place, where a new one is added.
__all__ = ["SynthesisLoss", "SynthesisRegularizer", "register_proxies"]
__all__ += augmenters.__all__
>>>>>>> docs
