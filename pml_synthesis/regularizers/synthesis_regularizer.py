"""The hook that adds a term of synthetic embeddings to an unmodified PML loss."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.module import register_module_module_registration_hook

from .._checks import expect
from .._graph_breaks import breaks_graph
from ..augmenters import BaseAugmenter, RealBatch
from ..losses.evaluation import evaluation_of
from ..losses.loss_inputs import LossInputs
from ..losses.proxy_bindings import find_binding, require_binding
from ..losses.synthesis_loss import SynthesisLoss
from ..pml import BaseMetricLossFunction, BaseRegularizer, LossCall, ModuleWithRecords, current_call


class SynthesisRegularizer(BaseRegularizer):
    r"""Adds the loss of the synthetic embeddings alone to a PML loss, as its
    `embedding_regularizer`.

    .. math:: L(x, y; \; p) + \lambda L(\tilde x, \tilde y; \; p \cup \tilde p)

    with :math:`(\tilde x, \tilde y, \tilde p)` made by the augmenter from (x, y, p) and
    :math:`\lambda` the `embedding_reg_weight` of the loss. A warning is given if that is PML's
    default, the integer 1, and the method's paper has another one; give 1.0 if you mean 1.

    The term is the `compute_loss` of that loss without its regularization, reduced by its reducer
    (by its default one if that gives no scalar), and shows up as `embedding_reg_loss`. In eval
    mode, and if nothing is synthesised, the term is 0. A synthetic embedding inherits the mined
    weight and the class weight of its source; if it has a weight of its own, a mean over embeddings
    is divided by the sum of the weights.

    With a pair loss, synthetic embeddings of the role "all" are compared with one another, and
    those of the role "candidate" with real anchors; mined tuples, which name real pairs, do not
    concern the term. The role "negative" has no loss of its own.

    One object may serve several losses. The loss is PML's and treats its weight as PML does: given
    half embeddings it casts its weight for good, which :class:`~pml_synthesis.SynthesisLoss` does
    not.

    Args:
        augmenter: what makes the synthetic batch.
        collect_stats: as everywhere in PML.

    Raises:
        ValueError: if `augmenter` is no augmenter; when it is given to a loss whose proxies are
            needed and unknown, or as a `weight_regularizer`; in a call, if the batch is none that
            the augmenter can take.
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

    def prepare_call(
        self, loss: Module, embeddings: Tensor, labels: Tensor | None, indices_tuple: Any
    ) -> LossCall:
        """Check the batch of a call before the loss sees it, and keep it for the term.

        Raises:
            ValueError: in training mode, if the batch is none that the augmenter can take.
        """
        if not self.training:
            return LossCall(loss, None, indices_tuple)
        _warn_of_default_weight(loss, self.augmenter)
        binding = find_binding(loss)
        proxies = None if binding is None else binding.proxies(loss)
        return LossCall(loss, RealBatch.of(embeddings, labels, proxies), indices_tuple)

    # Numbers are drawn on the host: torch.compile breaks its graph here.
    @breaks_graph
    def forward(self, x: Tensor) -> Tensor:
        """Return the term, a scalar, for embeddings of shape [B, D] in a call of the loss."""
        call = current_call()
        if call is None or call.loss.embedding_regularizer is not self:
            raise RuntimeError(
                "SynthesisRegularizer works only inside of a loss. Give it to a loss as "
                "embedding_regularizer=SynthesisRegularizer(...) and call that loss (not its "
                "forward) with embeddings and labels."
            )
        nothing = torch.sum(x * 0)
        if call.batch is None:
            return nothing
        batch = self.augmenter.augment(call.batch)
        inputs = LossInputs(x, call.batch.labels, call.indices_tuple)
        value = evaluation_of(call.loss, inputs).alone(batch) if len(batch) else nothing
        return value if batch.term is None else value + batch.term.reshape(()).to(value)


def _warn_of_default_weight(loss: Module, augmenter: BaseAugmenter) -> None:
    """Warn where the term has the weight that PML gives it when nobody does: the integer 1."""
    weight: Any = loss.embedding_reg_weight
    published = augmenter.published_weight
    if published is not None and type(weight) is int and weight == 1:
        name = type(augmenter).__name__
        warnings.warn(
            f"The term of {name} has the weight 1, PML's default, but {published} in its paper. "
            f"Give {type(loss).__name__}(..., embedding_reg_weight={published}), or 1.0 if that is "
            "meant.",
            stacklevel=2,
        )


def _on_registration(module: Module, name: str, submodule: Module | None) -> None:
    """Refuse what a loss cannot use, where it is given to the loss."""
    if not isinstance(module, BaseMetricLossFunction) or isinstance(module, SynthesisLoss):
        return
    kind = type(module).__name__
    if isinstance(submodule, BaseAugmenter):
        augmenter = type(submodule).__name__
        raise ValueError(
            f"{augmenter}, an augmenter, was given to {kind} as `{name}`; give it "
            f"embedding_regularizer=SynthesisRegularizer({augmenter}(...))."
        )
    if not isinstance(submodule, SynthesisRegularizer):
        return
    if name != "embedding_regularizer":
        raise ValueError(
            f"A SynthesisRegularizer was given to {kind} as `{name}`; give it as "
            "`embedding_regularizer`."
        )
    if submodule.augmenter.requires_proxies:
        require_binding(module, who=type(submodule.augmenter).__name__)
    binding = find_binding(module)
    # During its construction a loss has no weight yet.
    if binding is not None and hasattr(module, binding.weight.split(".")[0]):
        binding.check(module)


# Fires whenever a module is assigned to another. One hook for all: made by each regularizer, it
# would miss copies.
register_module_module_registration_hook(_on_registration)
