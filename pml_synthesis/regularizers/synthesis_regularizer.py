"""The hook that adds a term of synthetic rows to an unmodified PML loss."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.reducers import MultipleReducers
from pytorch_metric_learning.regularizers import BaseRegularizer
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.module import register_module_module_registration_hook

from .._checks import expect
from ..augmenters import BaseAugmenter, SyntheticBatch
from ..losses.evaluation import (
    attributes_replaced,
    call_weight,
    evaluate_with_weight,
    stats_kept,
    with_norms,
)
from ..losses.loss_calls import LossCall, announce_calls, current_call
from ..losses.mined_tuples import mined_weights_inherited
from ..losses.proxy_bindings import ProxyBinding, require_binding


class SynthesisRegularizer(BaseRegularizer):
    r"""Adds the loss of the synthetic rows alone to a PML loss, whose `embedding_regularizer` it
    is.

    .. math:: L(x, y; \; p) + \lambda L(\tilde x, \tilde y; \; p \cup \tilde p)

    with :math:`(\tilde x, \tilde y, \tilde p)` made by the augmenter from (x, y, p) and
    :math:`\lambda` the `embedding_reg_weight` of the loss. The term is the `compute_loss` of that
    loss without its regularization, reduced by its reducer (by its default one where that gives no
    scalar), and shows up as `embedding_reg_loss`. A synthetic row inherits the mined weight and the
    class weight of its source. In eval mode, and where nothing is synthesised, the term is 0.

    One object may serve several losses. The loss is PML's and treats its weight as PML does: given
    half embeddings it casts its weight for good, which :class:`~pml_synthesis.SynthesisLoss` does
    not. Not for threads (DataParallel).

    Args:
        augmenter: what makes the synthetic batch.
        collect_stats: as everywhere in PML.

    Raises:
        ValueError: if `augmenter` is no augmenter; when it is given to a loss whose proxies are
            unknown, or as a `weight_regularizer`.
        RuntimeError: if it is called other than by a loss that it was given to.

    Source: the form of the loss in the released code of Le, Woo, "Spherical Embedding Expansion",
    PAKDD 2024.

    Example:
        >>> from pytorch_metric_learning import losses
        >>> from pml_synthesis import SphericalEmbeddingExpansion
        >>> see = SphericalEmbeddingExpansion(num_expansions=8)
        >>> loss = losses.ProxyAnchorLoss(
        ...     3, 16, embedding_regularizer=SynthesisRegularizer(see), embedding_reg_weight=0.2)
        >>> loss(torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2])).shape
        torch.Size([])
    """

    def __init__(self, augmenter: BaseAugmenter, collect_stats: bool | None = None) -> None:
        # Not BaseRegularizer's: distance and reducer are those of the loss.
        ModuleWithRecords.__init__(self, collect_stats=collect_stats)
        is_augmenter = isinstance(augmenter, BaseAugmenter)
        expect(is_augmenter, "augmenter", "an augmenter", augmenter)
        self.augmenter = augmenter

    def forward(self, x: Tensor) -> Tensor:
        """Return the term, a scalar, for embeddings of shape [B, D] in a call of the loss."""
        call = current_call()
        if call is None or call.loss.embedding_regularizer is not self:
            raise RuntimeError(
                "SynthesisRegularizer works only inside of a loss. Give it to a proxy loss as "
                "embedding_regularizer=SynthesisRegularizer(...) and call that loss (not its "
                "forward) with embeddings and labels."
            )
        if not self.training:
            return torch.sum(x * 0)
        binding = require_binding(call.loss, who="SynthesisRegularizer")
        batch = self.augmenter(x, call.labels, binding.proxies(call.loss))
        if len(batch) == 0:
            return torch.sum(x * 0)
        return _loss_of_synthetic(batch, x, call, binding)


def _loss_of_synthetic(
    batch: SyntheticBatch, embeddings: Tensor, call: LossCall, binding: ProxyBinding
) -> Tensor:
    """Return the loss of the synthetic rows alone, with the synthetic classes."""
    assert call.labels is not None  # The augmenter would have refused.
    loss, labels = call.loss, call.labels.to(embeddings.device, torch.int64)
    rows, new_proxies = with_norms(batch, loss, binding, embeddings)

    def compute() -> Any:
        return loss.compute_loss(rows, batch.labels, call.indices_tuple, rows, batch.labels)

    unregularized: dict[str, Any] = {}
    if getattr(loss, "weight_regularizer", None) is not None:
        unregularized["weight_regularizer"] = None
    weight = call_weight(loss, binding, embeddings)
    with (
        stats_kept(loss),
        attributes_replaced(loss, **unregularized),
        mined_weights_inherited(labels, batch.source),
    ):
        extended = binding.extended_weight(weight, new_proxies)
        loss_dict = evaluate_with_weight(loss, binding, extended, compute)
        term = loss.reducer(loss_dict, rows, labels[batch.source])
        if not _is_scalar(term):
            defaults = {name: loss.get_default_reducer() for name in loss_dict}
            term = MultipleReducers(defaults)(loss_dict, rows, labels[batch.source])
    return term.reshape(())


def _is_scalar(term: Any) -> bool:
    return isinstance(term, Tensor) and term.numel() == 1


def _on_registration(module: Module, name: str, submodule: Module | None) -> None:
    """Prepare a loss that is given a SynthesisRegularizer to tell it more than the embeddings."""
    if not isinstance(submodule, SynthesisRegularizer):
        return
    if not isinstance(module, BaseMetricLossFunction):
        return
    if name != "embedding_regularizer":
        raise ValueError(
            f"A SynthesisRegularizer was given to {type(module).__name__} as `{name}`; give it as "
            "`embedding_regularizer`."
        )
    require_binding(module, who="SynthesisRegularizer")
    announce_calls(module)


# Fires whenever a module is assigned to another. One hook for all: made by each regularizer, it
# would miss copies.
register_module_module_registration_hook(_on_registration)
