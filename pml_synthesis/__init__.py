"""Synthetic embeddings and classes for pytorch-metric-learning."""

from . import augmenters
from .augmenters import *  # noqa: F403
from .estimate_after_epochs import EstimateAfterEpochs
from .losses import SynthesisLoss, register_proxies
from .regularizers import SynthesisRegularizer

__version__ = "0.1.0"

# Those of the augmenters are named in one place, where a new one is added.
__all__ = ["EstimateAfterEpochs", "SynthesisLoss", "SynthesisRegularizer", "register_proxies"]
__all__ += augmenters.__all__
