"""Regularizers: the hook that adds a term of synthetic rows to an unmodified PML loss."""

from .synthesis_regularizer import SynthesisRegularizer

__all__ = ["SynthesisRegularizer"]
