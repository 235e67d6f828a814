"""Evaluates a loss without class proxies, unchanged, on synthetic embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.miners import BaseMiner
from pytorch_metric_learning.reducers import PerAnchorReducer
from torch import Tensor

from .._checks import expect, expect_between
from ..augmenters import SyntheticBatch
from ..augmenters.synthetic_batch import Role
from ..pml import BaseMetricLossFunction, all_pairs, substituted, unregularized_loss
from .hardened_distance import HardenedDistance
from .loss_inputs import LossInputs
from .numbered_embeddings import NumberedEmbeddings
from .pair_tuples import (
    candidate_pairs,
    drop_foreign_mixes,
    join_pairs,
    repeat_for_anchors,
    repeat_for_candidates,
)
from .real_parents import ParentReducer, regularizer_of_real, weighed_terms, with_source_norms

# Their elements are pairs or triplets, so a weight multiplies an element. Others sum over
# candidates inside of a logarithm, which a weight of the element does not reach.
_WEIGHED = (losses.ContrastiveLoss, losses.MarginLoss, losses.TripletMarginLoss)
# They do not compare embeddings by a matrix of distances, or not only by it.
_WITHOUT_MATRIX = (
    losses.AngularLoss,
    losses.ManifoldLoss,
    losses.SmoothAPLoss,
    losses.ThresholdConsistentMarginLoss,
    losses.VICRegLoss,
)
# Takes `ref_emb` and does not use it.
_WITHOUT_REFERENCES = (losses.ThresholdConsistentMarginLoss,)


class PairEvaluation:
    """Evaluates a loss without proxies for the inputs of one call.

    Args:
        loss: the loss.
        inputs: what it is called with.
        miner: a PML miner that is run on the real embeddings and those of the role "all", or None.
    """

    proxies = None

    def __init__(
        self, loss: BaseMetricLossFunction, inputs: LossInputs, miner: BaseMiner | None = None
    ) -> None:
        self.loss = loss
        self.inputs = inputs
        self.miner = miner

    def plain(self) -> Any:
        """Return the loss of the real batch."""
        tuples = self.inputs.mined(self.miner, *self.inputs[:2])
        return self.loss(*self.inputs[:2], tuples, *self.inputs[3:])

    def cast(self, function: Callable[[Any], Any]) -> Any:
        """Return function(loss): a loss without proxies has nothing to cast."""
        return function(self.loss)

    def joined(self, batch: SyntheticBatch) -> Any:
        """Return the loss of the real batch with the synthetic embeddings in their roles.

        Args:
            batch: the synthetic batch, without new classes.

        Raises:
            ValueError: if the loss cannot honour a role or weights.
        """
        self._check(batch)
        embeddings, labels, _, ref_emb, ref_labels = self.inputs
        assert labels is not None  # The augmenter has refused it.
        changes: dict[str, Any] = regularizer_of_real(self.loss, self.inputs)
        # Of no embeddings where the role has none.
        everywhere = batch.of_role("all") or SyntheticBatch.empty(embeddings)
        candidates = batch.of_role("candidate")

        rows = torch.cat([embeddings, self._with_norms(everywhere)])
        row_labels = torch.cat([labels, everywhere.labels])
        tuples = self._mined(batch, everywhere, row_labels)
        if self.miner is None and tuples is not None:
            for indices in tuples if ref_emb is None else ():
                # Beyond the batch they would name synthetic embeddings.
                expect_between("indices_tuple", indices, 0, len(labels))
            tuples = repeat_for_anchors(tuples, everywhere.source, len(labels))
        if candidates is not None:
            tuples, ref_emb, ref_labels = self._with_candidates(
                candidates, tuples, rows, row_labels
            )
        hardened = self._hardened(self.loss.distance, batch)
        if hardened:
            rows = NumberedEmbeddings.of(rows, len(labels))
            ref_emb = None if ref_emb is None else NumberedEmbeddings.of(ref_emb, len(labels))
        parents = torch.cat([labels, everywhere.parent_labels(labels)])
        weights = self._weights(everywhere, candidates)
        changes["reducer"] = ParentReducer(self.loss.reducer, parents, weights)
        with substituted(self.loss, changes | hardened) as twin, self._explained(candidates):
            return twin(rows, row_labels, tuples, ref_emb, ref_labels)

    def alone(self, batch: SyntheticBatch) -> Tensor:
        """Return the loss of the synthetic embeddings alone, a scalar without regularization.

        Those of the role "all" are compared with one another, candidates with the real anchors.

        Raises:
            ValueError: if the loss cannot honour weights, or the role is "negative".
        """
        self._check(batch)
        embeddings, labels = self.inputs[:2]
        assert labels is not None  # The augmenter has refused it.
        alone = "one that makes positives too: the role 'negative' only changes the distances of "
        alone += "the real embeddings; use SynthesisLoss"
        expect(batch.of_role("negative") is None, "augmenter", alone, "the role 'negative'")
        terms = []
        everywhere, candidates = batch.of_role("all"), batch.of_role("candidate")
        if everywhere is not None:
            rows, weights = self._with_norms(everywhere), everywhere.weights
            both = None if weights is None else (weights, weights)
            parents = everywhere.parent_labels(labels)
            term = self._term(rows, everywhere.labels, parents, both, None, rows, everywhere.labels)
            terms.append(term)
        if candidates is not None:
            pairs = candidate_pairs(labels, candidates.labels, candidates.source, start=0)
            if candidates.partner is not None:
                pairs = drop_foreign_mixes(pairs, labels, candidates.partner, start=0)
            rows, weights = self._with_norms(candidates), candidates.weights
            both = None if weights is None else (torch.ones_like(embeddings[:, 0]), weights)
            call = pairs, rows, candidates.labels
            with self._explained(candidates):
                terms.append(self._term(embeddings, labels, labels, both, *call))
        return torch.stack(terms).sum()

    def _term(
        self,
        rows: Tensor,
        labels: Tensor,
        parents: Tensor,
        weights: tuple[Tensor, Tensor] | None,
        *call: Any,
    ) -> Tensor:
        # Not in the reducer: where it gives no scalar, another one takes its place.
        weigh = partial(weighed_terms, weights=weights)
        with substituted(self.loss, {}, records=False) as twin:
            return unregularized_loss(twin, rows, labels, parents, *call, weigh=weigh)

    @contextmanager
    def _explained(self, candidates: SyntheticBatch | None) -> Iterator[None]:
        """Say of a loss that takes no reference embeddings that it takes no candidates."""
        try:
            yield
        except ValueError as error:
            if candidates is None or "ref_emb" not in str(error):
                raise
            raise ValueError(self._refusal("candidate")) from error

    def _refusal(self, role: Role, name: str | None = None) -> str:
        name = name or type(self.loss).__name__
        return (
            f"The augmenter made embeddings of the role {role!r}, which {name} cannot honour: see "
            "the page of losses in the documentation. ContrastiveLoss, MultiSimilarityLoss and "
            "TripletMarginLoss can."
        )

    def _with_candidates(
        self, candidates: SyntheticBatch, tuples: Any, rows: Tensor, row_labels: Tensor
    ) -> tuple[Any, Tensor, Tensor]:
        """Return tuples, reference embeddings and their labels, the candidates among them."""
        labels = self.inputs.labels
        assert labels is not None
        start = len(rows)
        if tuples is None:
            pairs = candidate_pairs(labels, candidates.labels, candidates.source, start)
            tuples = join_pairs(all_pairs(row_labels), pairs)
        else:
            tuples = repeat_for_candidates(tuples, candidates.source, start)
        if candidates.partner is not None:
            tuples = drop_foreign_mixes(tuples, row_labels, candidates.partner, start)
        ref_emb = torch.cat([rows, self._with_norms(candidates)])
        return tuples, ref_emb, torch.cat([row_labels, candidates.labels])

    def _mined(self, batch: SyntheticBatch, everywhere: SyntheticBatch, labels: Tensor) -> Any:
        """Return what the miner finds by its own distances, hardened like those of the loss."""
        if self.miner is None:
            return self.inputs.indices_tuple
        distance = self.miner.distance
        rows = torch.cat([self.inputs.embeddings, self._with_norms(everywhere, distance)])
        hardened = self._hardened(distance, batch)
        if hardened:
            rows = NumberedEmbeddings.of(rows, len(self.inputs.embeddings))
        with substituted(self.miner, hardened) as twin:
            return self.inputs.mined(twin, rows, labels)

    def _hardened(self, distance: Any, batch: SyntheticBatch) -> dict[str, Any]:
        """Return, by name, the distance hardened by those of the role "negative", if there are."""
        negatives = batch.of_role("negative")
        if negatives is None:
            return {}
        embeddings, labels = self.inputs[:2]
        assert labels is not None  # The augmenter has refused it.
        synthetic = self._with_norms(negatives, distance), negatives.source
        return {"distance": HardenedDistance(distance, embeddings, labels, *synthetic)}

    def _check(self, batch: SyntheticBatch) -> None:
        name = type(self.loss).__name__
        fitting = f"one that makes no new classes, since {name} has no known proxies"
        expect(batch.num_new_classes == 0, "augmenter", fitting, "new classes")
        weighed = [part for part in batch.parts if part.weights is not None]
        allowed = isinstance(self.loss, _WEIGHED) and all(p.role != "negative" for p in weighed)
        fitting = (
            f"one that makes embeddings without weights: {name} sums over them inside of a "
            "logarithm or hardens distances by them; "
            f"{', '.join(loss.__name__ for loss in _WEIGHED)} and proxy losses take weights"
        )
        expect(not weighed or allowed, "augmenter", fitting, "weights")
        counted = all(part.counted for part in batch.parts)
        fitting = f"one whose embeddings are all counted: a mean of {name} is not over embeddings"
        expect(counted, "augmenter", fitting, "embeddings that are not counted")
        roles = {part.role for part in batch.parts if len(part)}
        for role, without in (("negative", _WITHOUT_MATRIX), ("candidate", _WITHOUT_REFERENCES)):
            if role in roles and isinstance(self.loss, without):
                raise ValueError(self._refusal(role))
        # It compares positives with negatives, and finds real ones alone among its distances.
        if "candidate" in roles and getattr(self.loss, "swap", False):
            raise ValueError(self._refusal("candidate", f"{name}(swap=True)"))
        if "candidate" in roles and any(
            isinstance(part, PerAnchorReducer) for part in self.loss.reducer.modules()
        ):
            raise ValueError(
                "The augmenter made embeddings of the role 'candidate', which PerAnchorReducer "
                "cannot honour: its table has the embeddings of the batch alone. Use another one."
            )
        if self.inputs.ref_emb is not None:
            fitting = "one that makes embeddings of the role 'all' where `ref_emb` is given"
            expect(roles <= {"all"}, "augmenter", fitting, " and ".join(sorted(roles)))

    def _with_norms(self, batch: SyntheticBatch, distance: Any = None) -> Tensor:
        """Return synthetic embeddings, with norms where a distance, by default that of the loss,
        uses norms."""
        distance = self.loss.distance if distance is None else distance
        if getattr(distance, "normalize_embeddings", True):
            return batch.embeddings
        return with_source_norms(batch.embeddings, batch.norm_source, self.inputs.embeddings)

    def _weights(
        self, everywhere: SyntheticBatch, candidates: SyntheticBatch | None
    ) -> tuple[Tensor, Tensor] | None:
        """Return the weights of anchors and of what they meet, or None where all are 1."""
        parts = [everywhere] if candidates is None else [everywhere, candidates]
        if all(part.weights is None for part in parts):
            return None
        of_parts = [
            torch.ones_like(part.embeddings[:, 0]) if part.weights is None else part.weights
            for part in parts
        ]
        of_all = torch.cat([torch.ones_like(self.inputs.embeddings[:, 0]), *of_parts])
        given = self.inputs.ref_emb
        return of_all, of_all if given is None else torch.ones_like(given[:, 0])
