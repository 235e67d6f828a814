"""The hook that joins a synthetic batch to the real one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords
from torch import Tensor
from torch.nn import Module

from .._checks import expect, expect_tensor, is_integer_dtype
from ..augmenters import BaseAugmenter, SyntheticBatch
from .evaluation import (
    attributes_replaced,
    call_weight,
    evaluate_with_weight,
    with_norms,
)
from .joined_cosines import KnownCosines, cosines_suffice, joined_cosines, stand_in
from .loss_calls import LossCall, announced
from .mined_tuples import mined_weights_inherited, repeat_for_synthetic
from .proxy_bindings import ProxyBinding, find_binding, require_binding


class SynthesisLoss(BaseMetricLossFunction):
    r"""Calls a PML loss, unchanged, on the real batch and the synthetic one together.

    .. math:: L(x \cup \tilde x, \; y \cup \tilde y; \; p \cup \tilde p)

    with :math:`(\tilde x, \tilde y, \tilde p)` made by the augmenter from :math:`(x, y, p)`. In
    eval mode, without an augmenter and where the augmenter makes nothing, it is L(x, y; p) itself.
    Whatever the wrapped loss has keeps its meaning: its regularizers see the real rows and proxies
    alone, and a synthetic row inherits the mined weight and the class weight of its source. With
    pair losses, each mined tuple is repeated with the synthetic row as anchor in the place of its
    source.

    It has no distance, reducer or regularizer of its own and shows those of the wrapped loss, which
    is `.loss`: a checkpoint of the plain loss loads with `synthesis_loss.loss.load_state_dict`. The
    weight of the wrapped loss is never cast; PML itself casts it to the dtype of half embeddings.
    Not for threads (DataParallel): for the length of a call, attributes of the wrapped loss are
    replaced.

    Args:
        loss: any PML loss. An augmenter that needs proxies needs one whose proxies are known (all
            proxy losses of PML, and those taught by :func:`register_proxies`).
        augmenter: what makes the synthetic batch, or None for the plain loss.

    Raises:
        ValueError: if `loss` is no PML loss, `augmenter` no augmenter, or the proxies of the loss
            are needed and unknown.

    Default reducer and reducer input: those of the wrapped loss.

    Example:
        >>> from pytorch_metric_learning import losses
        >>> from pml_synthesis import ProxySynthesis
        >>> loss = SynthesisLoss(losses.ProxyNCALoss(3, 16), augmenter=ProxySynthesis())
        >>> loss(torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2])).shape
        torch.Size([])
    """

    def __init__(self, loss: BaseMetricLossFunction, augmenter: BaseAugmenter | None) -> None:
        # Not BaseMetricLossFunction's: a wrapper has no distance, reducer and regularizer to set
        # up.
        ModuleWithRecords.__init__(self)
        is_loss = isinstance(loss, BaseMetricLossFunction) and not isinstance(loss, SynthesisLoss)
        plain = "a plain PML loss (wrap the losses inside a MultipleLosses; Compose augmenters)"
        expect(is_loss, "loss", plain, loss)
        is_augmenter = augmenter is None or isinstance(augmenter, BaseAugmenter)
        expect(is_augmenter, "augmenter", "an augmenter, or None", augmenter)
        if augmenter is not None and augmenter.requires_proxies:
            require_binding(loss, who=type(augmenter).__name__)
        binding = find_binding(loss)
        if binding is not None:
            binding.check(loss)
        self.loss = loss
        self.augmenter = augmenter

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Any:
        """Return the loss.

        Args:
            embeddings: [B, D].
            labels: of any integer type, [B].
            indices_tuple: what a PML miner returns, or None.
            ref_emb: for pair losses, as in PML.
            ref_labels: for pair losses, as in PML.

        Returns:
            A scalar, or what the reducer of the wrapped loss gives.

        Raises:
            ValueError: if `embeddings` is no tensor, `ref_emb` or `ref_labels` is given to a proxy
                loss, the augmenter is given a wrong argument, or it makes new classes for a loss
                without proxies.
        """
        expect_tensor("embeddings", embeddings)
        binding = find_binding(self.loss)
        if binding is not None and (ref_emb is not None or ref_labels is not None):
            name = type(self.loss).__name__
            raise ValueError(
                "Expected argument `ref_emb` and `ref_labels` to be None, but they were given: "
                f"{name} compares embeddings with its proxies, not with other embeddings."
            )
        given_labels = labels
        if isinstance(labels, Tensor):
            # Other types than integers are left to be refused by who takes them.
            dtype = torch.int64 if is_integer_dtype(labels.dtype) else labels.dtype
            labels = labels.to(embeddings.device, dtype)

        if not self.training or self.augmenter is None:
            return self._plain(binding, embeddings, labels, indices_tuple, ref_emb, ref_labels)
        proxies = None
        if binding is not None:
            binding.prepare(self.loss)
            proxies = binding.proxies(self.loss)
        # As they were given: labels on the host need not be copied there again.
        batch = self.augmenter(embeddings, given_labels, proxies)
        if binding is None:
            name = type(self.loss).__name__
            fitting = f"one that makes no new classes, since {name} has no known proxies"
            expect(batch.num_new_classes == 0, "augmenter", fitting, self.augmenter)
        if len(batch) == 0 and batch.num_new_classes == 0:
            return self._plain(binding, embeddings, labels, indices_tuple, ref_emb, ref_labels)
        assert labels is not None  # The augmenter would have refused.
        return self._joined(binding, batch, embeddings, labels, indices_tuple, ref_emb, ref_labels)

    def _plain(self, binding: ProxyBinding | None, embeddings: Tensor, *args: Any) -> Any:
        if binding is None:
            return self.loss(embeddings, *args)
        weight = call_weight(self.loss, binding, embeddings)
        if weight is binding.weight_of(self.loss):
            return self.loss(embeddings, *args)
        binding.prepare(self.loss)
        return evaluate_with_weight(
            self.loss, binding, weight, lambda: self.loss(embeddings, *args)
        )

    def _joined(
        self,
        binding: ProxyBinding | None,
        batch: SyntheticBatch,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Any,
        ref_emb: Tensor | None,
        ref_labels: Tensor | None,
    ) -> Any:
        new_rows, new_proxies = with_norms(batch, self.loss, binding, embeddings)
        rows = torch.cat([embeddings, new_rows])
        row_labels = torch.cat([labels, batch.labels])
        real_rows = torch.cat([c_f.torch_arange_from_size(embeddings), batch.source])

        replaced = self._regularizers_of_real(binding, embeddings, labels, indices_tuple)
        replaced["reducer"] = _ReducerByRealLabels(self.loss.reducer, labels[real_rows])
        with ExitStack() as during_the_call:
            during_the_call.enter_context(attributes_replaced(self.loss, **replaced))
            if binding is None:
                tuples = repeat_for_synthetic(indices_tuple, batch.source, len(embeddings))
                return self.loss(rows, row_labels, tuples, ref_emb, ref_labels)
            during_the_call.enter_context(mined_weights_inherited(labels, real_rows))
            weight = call_weight(self.loss, binding, embeddings)
            if batch.num_new_classes and cosines_suffice(self.loss, weight, embeddings):
                cosines = joined_cosines(batch, binding, weight, embeddings)
                known = KnownCosines(self.loss.distance, cosines)
                during_the_call.enter_context(attributes_replaced(self.loss, distance=known))
                weight = stand_in(weight, cosines.shape[1], binding.class_dim)
            else:
                weight = binding.extended_weight(weight, new_proxies)
            return evaluate_with_weight(
                self.loss, binding, weight, lambda: self.loss(rows, row_labels, indices_tuple)
            )

    def _regularizers_of_real(
        self,
        binding: ProxyBinding | None,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Any,
    ) -> dict[str, Module]:
        """Return stand-ins for the regularizers that know their terms for real rows and proxies."""
        known: dict[str, Module] = {}
        if self.loss.embedding_regularizer is not None:
            with announced(LossCall(self.loss, labels, indices_tuple)):
                term = self.loss.embedding_regularizer(embeddings)
            known["embedding_regularizer"] = _KnownTerm(term)
        if binding is not None and getattr(self.loss, "weight_regularizer", None) is not None:
            weight = call_weight(self.loss, binding, embeddings)
            term = self.loss.weight_regularizer(weight.movedim(binding.class_dim, 0))
            known["weight_regularizer"] = _KnownTerm(term)
        return known

    @property
    def distance(self) -> Module:
        """The distance of the wrapped loss."""
        return self.loss.distance

    @property
    def reducer(self) -> Module:
        """The reducer of the wrapped loss."""
        return self.loss.reducer

    @property
    def embedding_regularizer(self) -> Module | None:
        """The embedding regularizer of the wrapped loss."""
        return self.loss.embedding_regularizer

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits of the wrapped loss, those of the real classes.

        Args:
            embeddings: [B, D].

        Returns:
            [B, C].

        Raises:
            AttributeError: if the wrapped loss has none, as P2SGradLoss and pair losses.
        """
        return self.loss.get_logits(embeddings)

    def sub_loss_names(self) -> list[str]:
        """Return the names of the wrapped loss's sub-losses."""
        return self.loss.sub_loss_names()


class _KnownTerm(Module):
    """A regularizer whose term is known."""

    def __init__(self, term: Tensor) -> None:
        super().__init__()
        self.term = term

    def forward(self, _: Tensor) -> Tensor:
        return self.term


class _ReducerByRealLabels(Module):
    """A reducer that is told, of each row, the label of the real row behind it."""

    def __init__(self, reducer: Module, labels: Tensor) -> None:
        super().__init__()
        self.reducer = reducer
        self.labels = labels

    def forward(self, loss_dict: dict[str, Any], embeddings: Tensor, _: Tensor) -> Any:
        return self.reducer(loss_dict, embeddings, self.labels)
