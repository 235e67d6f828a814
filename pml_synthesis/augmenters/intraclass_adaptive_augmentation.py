"""IAA, intra-class adaptive augmentation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from .._checks import expect, expect_flag, expect_integer, is_number
from ..functional.class_statistics import class_moments, merged_moments, neighbor_correction
from ..functional.precision import finest_dtype
from ..functional.unit_vectors import unit
from ..schedules import Schedule, known_values
from .base_augmenter import BaseAugmenter
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch

_LEAST = {"num_classes": 1, "embedding_size": 1, "num_copies": 1, "num_neighbors": 0}


class IntraclassAdaptiveAugmentation(BaseAugmenter):
    r"""Moves copies of each embedding at random, as far as its class varies in each dimension.

    With N(v) = v / ||v||, and v_c the variance of class c, dimension by dimension,

    .. math::
        \tilde z_{im} = N \big( z_i + \sqrt{\lambda v_{y_i}} \odot g_{im} \big), \quad
        g_{im} \sim \mathcal N(0, I), \quad m = 1, \dots, M

    The embeddings are taken as they are, not normalised before. Gradients reach them through the
    copies; the variances are constants. There are no new classes, and no proxies are needed. To a
    pair loss the copies are candidates (see :class:`SyntheticBatch`): positives and negatives of
    real anchors, but not positives of their own sources. A proxy loss takes them as it takes real
    embeddings.

    **Statistics of the classes** come from :meth:`estimate`, which is to be called with the
    embeddings of the training set after some of the epochs: by
    :class:`~pml_synthesis.EstimateAfterEpochs` in a trainer of PML. Until then nothing is made, and
    never of a class that was in no estimate. With w = max(n / (n_seen + n), 1 - momentum) for a
    class of n new embeddings, of which n_seen were counted before,

    .. math::
        v \leftarrow (1 - w) v + w v_{new} + w (1 - w) (m - m_{new})^2, \qquad
        m \leftarrow (1 - w) m + w m_{new}

    **Neighbour correction.** The variance of few embeddings is a poor estimate. For a class of n
    <= 40 of them, the variances of the `num_neighbors` classes nearest in :math:`\lVert m_i^2 -
    m_c^2 \rVert`, and of all classes, take part:

    .. math::
        v'_c = (1 - a) v_c + a \Big[ 0.9 \, \frac{\sum_i w_i v_i}{\sum_i w_i}
        + 0.1 \, \frac{\sum_i n_i v_i}{\sum_i n_i} \Big], \quad
        w_i = n_i \, e^{- \lVert m_i^2 - m_c^2 \rVert^2 / 2 - \lVert v_i - v_c \rVert^2 / 2}

    with a = 1 / (1 + log(1 + 0.1 (n - 1))). A class of one embedding has no variance of its own (a
    = 1) and lends none to others. If there are fewer classes, there are fewer neighbours; where
    there is none, the mean over all classes stands for theirs; where no class has two embeddings,
    nothing is corrected.

    **Memory.** The buffers take

    .. math:: 12 \, C D \text{ bytes}, \quad \text{or } 8 \, C D \text{ without the correction}

    in float32, and 8 C bytes count embeddings. They are part of the `state_dict`. In a distributed
    run all processes give the same embeddings to :meth:`estimate`, in any order.

    Args:
        num_classes: C; labels are from 0 to C - 1.
        embedding_size: D.
        num_copies: M.
        strength: lambda, a number of 0 at least, or a schedule from the training step to one, such
            as :class:`~pml_synthesis.schedules.StepSchedule`; at 0 nothing is made.
        num_neighbors: how many classes correct the variance of a class, or 0 for no correction.
        momentum: the largest share in [0, 1] that earlier estimates keep in a new one.
        running: whether the statistics are those of all training batches so far, with w = n /
            (n_seen + n), instead of those of :meth:`estimate`. This is how ISDA estimates them, and
            another method: old embeddings count as much as new ones. There is no correction, so
            `num_neighbors` must be 0.
        released_roots: whether copy m has :math:`\sqrt \lambda \, v^{1 / 2^m}` in the place of
            :math:`\sqrt{\lambda v}`, as in the released code, which takes one more root for each
            copy.
        seed: see :class:`BaseAugmenter`.
        collect_stats: see :class:`BaseAugmenter`. Records `current_strength`, `num_rows`,
            `num_estimated` (classes) and `mean_cosine` (of the copies to their sources).

    Raises:
        ValueError: if an argument is not of this form; in a call, if labels or embeddings do not
            fit the sizes, or the strength is negative.

    Source: Fu, Mao, Hu, Liu, Zhang, "Intra-class Adaptive Augmentation with Neighbor Correction for
    Deep Metric Learning", TMM 2022, arXiv 2211.16264, sections IV-A, C and D, and its released
    code, which has other deviations from the second copy on (`released_roots`), no neighbour
    correction (`num_neighbors=0`), and keeps no state.

    Example:
        >>> iaa = IntraclassAdaptiveAugmentation(3, 16, num_copies=2, seed=0)
        >>> embeddings, labels = torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> len(iaa(embeddings, labels))
        0
        >>> iaa.estimate(embeddings, labels)
        >>> iaa(embeddings, labels).embeddings.shape
        torch.Size([12, 16])
    """

    requires_proxies = False
    counters = ("num_seen",)

    mean: Tensor
    variance: Tensor
    corrected: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        num_copies: int = 3,
        strength: float | Schedule = 0.8,
        num_neighbors: int = 25,
        momentum: float = 0.2,
        running: bool = False,
        released_roots: bool = False,
        *,
        seed: int | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(seed=seed, collect_stats=collect_stats)
        self.num_classes = num_classes
        self.embedding_size = embedding_size
        self.num_copies = num_copies
        self.strength = strength
        self.num_neighbors = num_neighbors
        self.momentum = momentum
        self.running = running
        self.released_roots = released_roots
        self._check_options()

        for name in ("mean", "variance", "corrected")[: 3 if num_neighbors else 2]:
            self.register_buffer(name, torch.zeros(num_classes, embedding_size))
        #: How many embeddings of each class have been counted so far.
        self.num_seen = [0] * num_classes
        self.add_to_recordable_attributes(
            list_of_names=["current_strength", "num_rows", "num_estimated", "mean_cosine"],
            is_stat=True,
        )

    @property
    def requires_estimate(self) -> bool:  # type: ignore[override]
        """Whether :meth:`estimate` is to be called after epochs."""
        return not self.running

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Move copies of the embeddings; see :meth:`BaseAugmenter.synthesize`."""
        batch.check_sizes(self.num_classes, self.embedding_size)
        strength = self.strength(self.step) if callable(self.strength) else self.strength
        _expect_strength(strength)
        rows = self._estimated_rows(batch) if strength else batch.labels[:0]
        embeddings, labels = batch.embeddings[rows], batch.labels[rows]
        draws = torch.randn(self.num_copies, *embeddings.shape, generator=generator)
        variance = (self.corrected if self.num_neighbors else self.variance)[labels]
        deviations = self._deviations(variance.to(embeddings), strength)
        copies = unit(embeddings + deviations * draws.to(embeddings)).flatten(0, 1)
        if self.collect_stats:
            self._record(strength, embeddings, copies)
        source = rows.repeat(self.num_copies)
        return SyntheticBatch(
            embeddings=copies,
            labels=batch.labels[source],
            proxies=copies[:0],
            source=source,
            role="candidate",
        )

    def update(self, batch: RealBatch) -> None:
        """Count the batch, if the statistics are running ones; see
        :meth:`BaseAugmenter.update`."""
        if self.running:
            present, counts, mean, variance = self._refreshed(batch, least_weight=0.0)
            # A class whose embeddings overflow, or their squares, is left out of this step: with
            # such a mean all later variances would overflow.
            finite = (mean.square() + variance).isfinite().all(dim=1)
            used = finite.cpu().nonzero().squeeze(1)
            self._remember(present[used], counts[used], mean[used], variance[used])

    @torch.no_grad()
    def estimate(self, embeddings: Tensor, labels: Tensor) -> None:
        """Estimate the statistics of the classes from the embeddings of the training set.

        Classes without an embedding here keep what they have.

        Args:
            embeddings: as the network gives them to the loss, but in eval mode, in any order, [N,
                D].
            labels: of any integer type, [N], from 0 to C - 1.

        Raises:
            ValueError: if an argument does not have this form, a number is not finite, or the
                statistics are `running` ones.
        """
        once = "False where `estimate` is called: running statistics come from the batches"
        expect(not self.running, "running", once, self.running)
        batch = RealBatch.of(embeddings, labels)
        batch.check_sizes(self.num_classes, self.embedding_size)
        present, counts, mean, variance = self._refreshed(batch, 1 - self.momentum)
        finite = mean.isfinite().all() & variance.isfinite().all()
        expect(bool(finite), "embeddings", "finite, and their variances", "inf or nan")
        self._remember(present, counts, mean, variance)
        if self.num_neighbors:
            dtype = finest_dtype(self.mean.device)
            precise = self.mean[present].to(dtype), self.variance[present].to(dtype)
            corrected = neighbor_correction(*precise, counts, self.num_neighbors)
            self.corrected[present] = corrected.to(self.corrected)

    def _refreshed(
        self, batch: RealBatch, least_weight: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the classes of a batch, how many embeddings each has, and the new means and
        variances, [P, D]."""
        present, classes, counts = batch.host_labels.unique(return_inverse=True, return_counts=True)
        device, dtype = self.mean.device, finest_dtype(self.mean.device)
        new = class_moments(
            batch.embeddings, classes.to(batch.labels.device), counts, batch.canonical_order()
        )
        seen = torch.tensor([self.num_seen[c] for c in present.tolist()], dtype=torch.float64)
        weight = (counts / (seen + counts)).clamp_min(least_weight).unsqueeze(1)
        mean, variance = merged_moments(
            (self.mean[present].to(dtype), self.variance[present].to(dtype)),
            (new[0].to(device, dtype), new[1].to(device, dtype)),
            weight.to(device, dtype),
        )
        return present, counts, mean.to(self.mean), variance.to(self.variance)

    def _remember(self, present: Tensor, counts: Tensor, mean: Tensor, variance: Tensor) -> None:
        self.mean[present] = mean
        self.variance[present] = variance
        for label, count in zip(present.tolist(), counts.tolist(), strict=True):
            self.num_seen[label] += count

    def _estimated_rows(self, batch: RealBatch) -> Tensor:
        """Return the embeddings of classes with statistics, in an order that is the same in all
        processes."""
        known = torch.tensor([self.num_seen[label] > 0 for label in batch.host_labels.tolist()])
        order = batch.canonical_order()
        if known.all():
            return order
        # How many there are is known on the host, so that nobody waits for the device.
        first = known.to(order.device)[order].byte().argsort(descending=True, stable=True)
        return order[first[: int(known.sum())]]

    def _deviations(self, variance: Tensor, strength: float) -> Tensor:
        """Return the deviations of the copies, [M, B, D], or [1, B, D] where all have the same."""
        if not self.released_roots:
            return (strength * variance).sqrt().unsqueeze(0)
        roots = variance.new_tensor([0.5**m for m in range(1, self.num_copies + 1)])
        return strength**0.5 * variance ** roots.view(-1, 1, 1)

    def _record(self, strength: float, embeddings: Tensor, copies: Tensor) -> None:
        self.current_strength = strength
        self.num_rows = len(copies)
        self.num_estimated = sum(count > 0 for count in self.num_seen)
        with torch.no_grad():
            cosines = cosine_similarity(copies, embeddings.repeat(self.num_copies, 1))
        self.mean_cosine = cosines.mean().item() if len(copies) else 0.0

    def _check_options(self) -> None:
        for name, least in _LEAST.items():
            expect_integer(name, getattr(self, name), least)
        for value in known_values(self.strength):
            _expect_strength(value)
        share = is_number(self.momentum) and 0 <= self.momentum <= 1
        expect(share, "momentum", "a number in [0, 1]", self.momentum)
        for name in ("running", "released_roots"):
            expect_flag(name, getattr(self, name))
        uncorrected = not (self.running and self.num_neighbors)
        expect(uncorrected, "num_neighbors", "0 with running statistics", self.num_neighbors)


def _expect_strength(value: Any) -> None:
    expected = "a number of 0 at least, or a schedule of such"
    expect(is_number(value) and value >= 0, "strength", expected, value)
