"""Chooses how a loss is evaluated: with class proxies or without."""

from __future__ import annotations

from pytorch_metric_learning.miners import BaseMiner

from ..pml import BaseMetricLossFunction
from .loss_inputs import LossInputs
from .pair_evaluation import PairEvaluation
from .proxy_bindings import find_binding
from .proxy_evaluation import ProxyEvaluation


def evaluation_of(
    loss: BaseMetricLossFunction, inputs: LossInputs, miner: BaseMiner | None = None
) -> ProxyEvaluation | PairEvaluation:
    """Return what evaluates a loss for the inputs of one call."""
    binding = find_binding(loss)
    if binding is None:
        return PairEvaluation(loss, inputs, miner)
    return ProxyEvaluation(loss, binding, inputs, miner)
