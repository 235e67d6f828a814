"""Augmenters: each makes a synthetic batch from a batch."""

from .base_augmenter import BaseAugmenter
from .compose import Compose
from .densely_anchored_sampling import DenselyAnchoredSampling
from .embedding_expansion import EmbeddingExpansion
from .embedding_mixup import EmbeddingMixup
from .intraclass_adaptive_augmentation import IntraclassAdaptiveAugmentation
from .mem_vir import MemVir
from .proxy_synthesis import ProxySynthesis
from .real_batch import RealBatch
from .spherical_embedding_expansion import SphericalEmbeddingExpansion
from .symmetrical_synthesis import SymmetricalSynthesis
from .synthetic_batch import SyntheticBatch

__all__ = [
    "BaseAugmenter",
    "Compose",
    "DenselyAnchoredSampling",
    "EmbeddingExpansion",
    "EmbeddingMixup",
    "IntraclassAdaptiveAugmentation",
    "MemVir",
    "ProxySynthesis",
    "RealBatch",
    "SphericalEmbeddingExpansion",
    "SymmetricalSynthesis",
    "SyntheticBatch",
]
