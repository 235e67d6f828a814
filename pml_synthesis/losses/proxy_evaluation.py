"""Evaluates a loss with class proxies, unchanged, on synthetic embeddings and classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from pytorch_metric_learning.miners import BaseMiner
from pytorch_metric_learning.reducers import DoNothingReducer, MultipleReducers, SumReducer
from torch import Tensor
from torch.nn import Module

from ..augmenters import SyntheticBatch
from ..functional.unit_vectors import unit
from ..pml import (
    BaseMetricLossFunction,
    RowWeights,
    cast_like,
    row_weights,
    substituted,
    unregularized_loss,
)
from .joined_cosines import (
    KnownCosines,
    cosines_suffice,
    joined_cosines,
    shortest_proxy,
    stand_in,
)
from .loss_inputs import LossInputs
from .proxy_bindings import ProxyBinding
from .real_parents import KnownTerm, ParentReducer, regularizer_of_real, with_source_norms


class ProxyEvaluation:
    """Evaluates a proxy loss for the inputs of one call.

    Args:
        loss: the loss.
        binding: where it keeps its proxies.
        inputs: what it is called with.
        miner: a PML miner that is run on the embeddings of the call, or None.

    Raises:
        ValueError: if `ref_emb` or `ref_labels` is given.
    """

    def __init__(
        self,
        loss: BaseMetricLossFunction,
        binding: ProxyBinding,
        inputs: LossInputs,
        miner: BaseMiner | None = None,
    ) -> None:
        if inputs.ref_emb is not None or inputs.ref_labels is not None:
            raise ValueError(
                "Expected argument `ref_emb` and `ref_labels` to be None, but they were given: "
                f"{type(loss).__name__} compares embeddings with its proxies, not with other "
                "embeddings."
            )
        self.loss = loss
        self.binding = binding
        self.inputs = inputs
        self.miner = miner

    @property
    def proxies(self) -> Tensor:
        """The proxies, [C, D] or [C, K, D]."""
        return self.binding.proxies_in(self.loss, self._weight)

    @cached_property
    def _weight(self) -> Tensor:
        self.binding.prepare(self.loss)
        return self.binding.weight_of(self.loss)

    @cached_property
    def _call_weight(self) -> Tensor:
        return cast_like(self._weight, self.inputs.embeddings)

    def plain(self) -> Any:
        """Return the loss of the real batch."""
        tuples = self.inputs.mined(self.miner, *self.inputs[:2])
        return self.cast(lambda loss: loss(*self.inputs[:2], tuples))

    def cast(self, function: Callable[[Any], Any]) -> Any:
        """Return function(loss) for the loss with a weight of the dtype of the embeddings."""
        weight = self.binding.weight_of(self.loss)
        if cast_like(weight, self.inputs.embeddings) is weight:
            return function(self.loss)
        with substituted(self.loss, {self.binding.weight: self._call_weight}) as twin:
            return function(twin)

    def joined(self, batch: SyntheticBatch) -> Any:
        """Return the loss of the real and the synthetic batch together."""
        embeddings, labels = self.inputs[:2]
        assert labels is not None  # The augmenter has refused it.
        new_rows, new_proxies = self._with_norms(batch)
        rows = torch.cat([embeddings, new_rows])
        row_labels = torch.cat([labels, batch.labels])
        parents = torch.cat([labels, batch.parent_labels(labels, len(self.proxies))])

        changes: dict[str, Any] = regularizer_of_real(self.loss, self.inputs)
        changes |= self._weight_regularizer_of_real()
        changes["reducer"] = ParentReducer(self.loss.reducer, parents, factors=self._factors(batch))
        if batch.num_new_classes and cosines_suffice(self.loss, self._call_weight, embeddings):
            of_real = self._call_weight, embeddings
            cosines = joined_cosines(batch, self.binding, *of_real, shortest_proxy(self.loss))
            changes["distance"] = KnownCosines(self.loss.distance, cosines)
            weight = stand_in(self._call_weight, cosines.shape[1], self.binding.class_dim)
        else:
            weight = self.binding.extended_weight(self._call_weight, new_proxies)
        changes |= self.binding.attributes(self.loss, weight)

        tuples = self.inputs.mined(self.miner, rows, row_labels)
        if self.miner is None:
            mined_labels = labels
            behind = torch.cat([torch.arange(len(labels), device=labels.device), batch.source])
        else:
            mined_labels = row_labels
            behind = torch.arange(len(row_labels), device=labels.device)
        weights = None
        if batch.weights is not None:
            weights = torch.cat([batch.weights.new_ones(len(labels)), batch.weights])
            weights = self._scaled(weights)
        return self._weighed(
            (row_labels, tuples),
            mined_labels,
            behind,
            weights,
            changes,
            lambda twin: twin(rows, row_labels, tuples),
        )

    def alone(self, batch: SyntheticBatch) -> Tensor:
        """Return the loss of the synthetic embeddings alone, a scalar without regularization."""
        labels = self.inputs.labels
        assert labels is not None  # The augmenter has refused it.
        rows, new_proxies = self._with_norms(batch)
        parents = batch.parent_labels(labels, len(self.proxies))
        weight = self.binding.extended_weight(self._call_weight, new_proxies)
        changes = self.binding.attributes(self.loss, weight)
        if getattr(self.loss, "weight_regularizer", None) is not None:
            changes["weight_regularizer"] = None
        row_labels = batch.labels.clone()  # They may be those of the real batch.
        tuples = self.inputs.indices_tuple
        weights = batch.weights
        if weights is not None:
            weights = self._scaled(weights, alone=True)
        return self._weighed(
            (row_labels, tuples),
            labels,
            batch.source,
            weights,
            changes,
            lambda twin: unregularized_loss(
                twin, rows, row_labels, parents, tuples, rows, row_labels
            ),
            records=False,
        )

    def _weighed(
        self,
        call: tuple[Tensor, Any],
        mined_labels: Tensor,
        behind: Tensor,
        weights: Tensor | None,
        changes: Mapping[str, Any],
        function: Callable[[Module], Any],
        records: bool = True,
    ) -> Any:
        """Return function(twin), in which each embedding has its own and an inherited weight.

        PML's proxy losses turn a mined tuple into weights: how often an embedding is named, divided
        by the largest such count. A tuple of the call cannot say this of synthetic embeddings
        alone, as the largest count may be that of a real one which is not among them.

        Args:
            call: the labels and the mined tuple that the loss is called with.
            mined_labels: of what the mined tuple speaks of.
            behind: for each embedding of the call the one whose mined weight it has, or -1, [N].
            weights: as the loss is to take them, [N], or None.
            changes: of the loss.
            function: of the changed loss.
            records: see :func:`~pml_synthesis.pml.substituted`.
        """
        asked = False

        def weigh(convert: Callable[[Tensor], Tensor]) -> Tensor:
            nonlocal asked
            asked = True
            mined = convert(mined_labels)
            mined = torch.cat([mined, mined.new_ones(1)])[behind]
            if weights is None:
                return mined
            return self.binding.weigh(mined, weights.to(mined))

        of_call = row_weights(RowWeights(*call, weigh))
        with substituted(self.loss, changes, records) as twin, of_call:
            value = function(twin)
        if not asked:
            self._refuse_unasked(weights)
        return value

    def _refuse_unasked(self, weights: Tensor | None) -> None:
        """Raise a ValueError if the loss was to weigh embeddings and did not ask for weights."""
        kind = type(self.loss).__name__
        if weights is not None:
            raise ValueError(
                f"The augmenter made embeddings with weights, which {kind} takes none of. Use a "
                "loss that multiplies its elements by weights, as most proxy losses do."
            )
        if self.inputs.indices_tuple is not None:
            raise ValueError(
                f"Expected `indices_tuple` to be None, but one was given, and {kind} does not ask "
                "what it makes of synthetic embeddings. A loss that uses mined tuples asks by "
                "loss_and_miner_utils.convert_to_weights, looked up in PML's module in each call, "
                "with the labels and the tuple that it was given. Where PML's module or "
                "pml_synthesis was reloaded, restart Python."
            )

    def _scaled(self, weights: Tensor, alone: bool = False) -> Tensor:
        """Scale weights so that a mean over embeddings is divided by their sum."""
        sums = all(self._sums(name, alone) for name in self._sub_losses())
        if sums or self.binding.weighs_exponents:
            return weights
        return weights / weights.mean().clamp_min(torch.finfo(weights.dtype).tiny)

    def _factors(self, batch: SyntheticBatch) -> dict[str, Tensor | float]:
        """Return what a mean over embeddings is multiplied by so that it counts those alone that
        are to be counted, by the names of the sub-losses."""
        if all(part.counted for part in batch.parts):
            return {}
        ratio = batch.divisor_ratio(len(self.inputs.embeddings))
        return {name: ratio for name in self._sub_losses() if not self._sums(name)}

    def _sub_losses(self) -> list[str]:
        """Return the names of what the loss itself consists of, without its regularizers."""
        loss: Any = self.loss
        regularizers = loss.all_regularization_loss_names()
        return [name for name in loss.sub_loss_names() if name not in regularizers]

    def _sums(self, name: str, alone: bool = False) -> bool:
        """Tell whether the elements of a sub-loss are summed, or left as they are."""
        reducer: Any = self.loss.reducer
        if isinstance(reducer, MultipleReducers):
            # PML makes one for each sub-loss where there are several, as with a regularizer.
            known = name in reducer.reducers
            reducer = reducer.reducers[name] if known else reducer.default_reducer
        if alone and isinstance(reducer, DoNothingReducer):
            # The term is a scalar all the same; see unregularized_loss.
            reducer = self.loss.get_default_reducer()
        return isinstance(reducer, (SumReducer, DoNothingReducer))

    def _weight_regularizer_of_real(self) -> dict[str, Module]:
        regularizer = getattr(self.loss, "weight_regularizer", None)
        if regularizer is None:
            return {}
        rows = self._call_weight.movedim(self.binding.class_dim, 0)
        return {"weight_regularizer": KnownTerm(regularizer(rows))}

    def _with_norms(self, batch: SyntheticBatch) -> tuple[Tensor, Tensor]:
        """Return synthetic embeddings and proxies, with norms where the loss uses norms.

        A proxy has the mean norm of the real ones; unit vectors would be next to nothing beside
        them.
        """
        rows, proxies = batch.embeddings, batch.proxies
        normalizes = getattr(self.loss.distance, "normalize_embeddings", True)
        if normalizes and not self.binding.uses_norms:
            return rows, proxies
        rows = with_source_norms(rows, batch.norm_source, self.inputs.embeddings)
        if batch.num_new_classes:
            norm = torch.linalg.vector_norm(self.proxies, dim=-1).mean().to(proxies)
            # A norm that overflows would make NaNs of zeros.
            proxies = unit(proxies) * norm.clamp_max(torch.finfo(proxies.dtype).max)
        return rows, proxies
