"""DAS, densely-anchored sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from .._checks import expect, expect_flag, expect_integer, is_number
from ..functional.unit_vectors import unit
from .base_augmenter import BaseAugmenter
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch


class DenselyAnchoredSampling(BaseAugmenter):
    r"""Scales the channels that mark the class of each embedding and shifts it by a difference
    within its class.

    Of each embedding x with label y, T copies join the batch. With N(v) = v / ||v||,

    .. math:: \tilde x = N(s \odot x + r \, b)

    where s is drawn from `scale_range` in the K channels that are most often among the K largest
    ones of embeddings of class y, and is 1 in the others, and b is drawn from the last Z
    differences of two embeddings of class y in one batch. Both are drawn anew for each copy. The
    present batch is counted, and its differences are remembered, before b is drawn. Where there is
    no difference yet, b is 0.

    There are no new classes, and no proxies are needed. To a pair loss the copies are anchors,
    positives and negatives as real embeddings are. The method mines real embeddings and copies
    together: give :class:`~pml_synthesis.SynthesisLoss` the miner, as `miner=`.

    **Control.** With the released settings for CUB and Cars a copy has a cosine of 0.9999 to its
    source. What copies gain that do not move at all is shown by `scale_range=(1.0, 1.0), shift=0`.

    **Memory.** The buffers take

    .. math:: 4 \, C D \, (Z + 1) + 8 \, C \text{ bytes}

    in float32. They are part of the `state_dict`, and of each checkpoint. In a distributed run all
    processes hold the same memory, so `DistributedDataParallel(..., broadcast_buffers=False)` saves
    sending it in each step.

    Args:
        num_classes: C; labels are from 0 to C - 1.
        embedding_size: D.
        num_copies: T.
        num_channels: K, at most D.
        scale_range: the lowest and the highest factor, at least 0. That of the release is (0.5,
            2.0) on Stanford Online Products, but for Lifted and N-Pair losses.
        bank_size: Z. Differences of equal embeddings are left out.
        shift: r, at least 0; 0.1 on Stanford Online Products, but for the Margin loss.
        detach: whether the copies are constants, as on CUB and Cars. If not, gradients reach the
            embeddings through them; the differences are constants all the same.
        normalize: whether to apply N. If not, the copies keep their norms in a loss that uses
            norms, as Lifted and N-Pair losses do in the release.
        seed: see :class:`BaseAugmenter`.
        collect_stats: see :class:`BaseAugmenter`. Records `num_rows`, `mean_cosine` (of the copies
            to their sources) and `mean_differences` (remembered ones, over the embeddings).

    Raises:
        ValueError: if an argument is not of this form; in a call, if labels, embeddings or proxies
            do not fit the sizes.

    Source: Liu, Huang, Zhuang, Yang, Tan, Wang, "DAS: Densely-Anchored Sampling for Deep Metric
    Learning", ECCV 2022, arXiv 2208.00119, section 3, and its released code. Here equal counts are
    decided by the lower channel, the oldest difference always goes first, and the memory is saved.

    Example:
        >>> das = DenselyAnchoredSampling(3, 16, num_copies=2, seed=0)
        >>> embeddings, labels = torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> das(embeddings, labels).embeddings.shape
        torch.Size([12, 16])
        >>> das.num_differences
        tensor([2, 2, 2])
    """

    requires_proxies = False

    channel_counts: Tensor
    differences: Tensor
    num_differences: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        num_copies: int = 3,
        num_channels: int = 4,
        scale_range: Sequence[float] = (0.99, 1.01),
        bank_size: int = 10,
        shift: float = 0.01,
        detach: bool = True,
        normalize: bool = True,
        *,
        seed: int | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(seed=seed, collect_stats=collect_stats)
        self.num_classes = num_classes
        self.embedding_size = embedding_size
        self.num_copies = num_copies
        self.num_channels = num_channels
        self.scale_range = scale_range
        self.bank_size = bank_size
        self.shift = shift
        self.detach = detach
        self.normalize = normalize
        self._check_options()

        counts = torch.zeros(num_classes, embedding_size, dtype=torch.int32)
        self.register_buffer("channel_counts", counts)
        # Of each class the newest one last; those before the first one are zeros.
        bank = torch.zeros(num_classes, bank_size, embedding_size)
        self.register_buffer("differences", bank)
        self.register_buffer("num_differences", torch.zeros(num_classes, dtype=torch.int64))
        self.add_to_recordable_attributes(
            list_of_names=["num_rows", "mean_cosine", "mean_differences"], is_stat=True
        )

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Scale and shift copies of all embeddings; see :meth:`BaseAugmenter.synthesize`."""
        batch.check_sizes(self.num_classes, self.embedding_size)
        grouped = _Grouped.of(batch, generator)
        memory = self._with(grouped)
        embeddings = grouped.embeddings if self.detach else batch.embeddings[grouped.order]

        shape = self.num_copies, len(batch)
        draws = torch.rand(*shape, self.num_channels, dtype=torch.float64, generator=generator)
        low, high = self.scale_range
        factors = (low + (high - low) * draws).to(embeddings.dtype).to(embeddings.device)
        channels = memory.channel_counts.argsort(dim=1, descending=True, stable=True)
        channels = channels[:, : self.num_channels][grouped.place]
        scale = torch.ones_like(embeddings).expand(self.num_copies, -1, -1)
        scale = scale.scatter(2, channels.expand_as(factors), factors)

        ages = torch.randint(2**62, shape, generator=generator).to(embeddings.device)
        ages = ages % memory.num_differences[grouped.place].clamp_min(1)
        rows = (grouped.place + 1) * self.bank_size - 1 - ages
        shifts = memory.differences.flatten(0, 1).index_select(0, rows.flatten())

        moved = scale * embeddings + self.shift * shifts.view_as(scale)
        copies = unit(moved) if self.normalize else moved
        if self.collect_stats and len(batch):
            number = memory.num_differences[grouped.place].double().mean().item()
            self._record(copies, embeddings, number)
        return SyntheticBatch(
            embeddings=copies.flatten(0, 1),
            labels=batch.labels[grouped.order].repeat(self.num_copies),
            proxies=embeddings[:0],
            source=grouped.order.repeat(self.num_copies),
            keeps_norms=not self.normalize,
        )

    def update(self, batch: RealBatch) -> None:
        """Count the largest channels and remember the differences of the batch; see
        :meth:`BaseAugmenter.update`."""
        # The generator of this step: the order of the embeddings is to be that of synthesize.
        grouped = _Grouped.of(batch, self._generator())
        for name, values in self._with(grouped)._asdict().items():
            memory = getattr(self, name)
            memory[grouped.classes] = values.to(memory.dtype)

    def _with(self, grouped: _Grouped) -> _Memory:
        """Return the memory of the classes of a batch, with what the batch adds to it."""
        classes, embeddings, size = grouped.classes, grouped.embeddings, self.bank_size
        counts = self.channel_counts[classes]
        largest = _is_largest(embeddings, self.num_channels).to(counts.dtype)
        counts = counts.index_add(0, grouped.place, largest)

        # At most so many differences are new, for each class of the batch.
        most = min(size, max([1, *(grouped.sizes * (grouped.sizes - 1)).tolist()]))
        first, second, added = newest_pairs(grouped.sizes, self._kinds(grouped), most)
        newest = embeddings.index_select(0, first.flatten())
        newest = (newest - embeddings.index_select(0, second.flatten())).view(
            *first.shape, self.embedding_size
        )

        slot = torch.arange(size, device=added.device)
        moved_from = (slot + added.unsqueeze(1)).clamp_max(size - 1)
        rows = (classes.unsqueeze(1) * size + moved_from).flatten()
        bank = self.differences.flatten(0, 1).index_select(0, rows).to(newest.dtype)
        bank = bank.view(len(classes), size, self.embedding_size)
        is_new = (slot >= size - added.unsqueeze(1))[:, size - most :].unsqueeze(2)
        bank[:, size - most :] = torch.where(is_new, newest, bank[:, size - most :])
        number = self.num_differences[classes]
        return _Memory(counts, bank, (number + added).clamp_max(size))

    def _kinds(self, grouped: _Grouped) -> Tensor:
        """Return a number for equal embeddings of a class, -1 where a difference may not be finite
        in the memory, [B]."""
        half = torch.finfo(self.differences.dtype).max / 2
        usable = (grouped.embeddings.abs() < half).all(dim=1)
        return torch.where(usable, grouped.twins, -1)

    def _record(self, copies: Tensor, embeddings: Tensor, mean_differences: float) -> None:
        cosines = cosine_similarity(copies.detach(), embeddings.detach(), dim=2)
        self.num_rows = cosines.numel()
        self.mean_cosine = cosines.mean().item()
        self.mean_differences = mean_differences

    def _check_options(self) -> None:
        for name in ("num_classes", "embedding_size", "num_copies", "num_channels", "bank_size"):
            expect_integer(name, getattr(self, name))
        most = f"at most {self.embedding_size}, the `embedding_size`"
        fits = self.num_channels <= self.embedding_size
        expect(fits, "num_channels", most, self.num_channels)
        two = "two numbers of 0 at least, the lower one first"
        expect(_is_range(self.scale_range), "scale_range", two, self.scale_range)
        self.scale_range = tuple(self.scale_range)
        valid = is_number(self.shift) and self.shift >= 0
        expect(valid, "shift", "a number of 0 at least", self.shift)
        for name in ("detach", "normalize"):
            expect_flag(name, getattr(self, name))


class _Memory(NamedTuple):
    """What is remembered of the G classes of a batch, named as the buffers are."""

    channel_counts: Tensor  # [G, D]
    differences: Tensor  # [G, Z, D]
    num_differences: Tensor  # [G]


class _Grouped(NamedTuple):
    """A batch in an order that is the same in all processes, class by class."""

    order: Tensor  # the embeddings of the batch in this order, [B]
    embeddings: Tensor  # in this order, without gradients, [B, D]
    twins: Tensor  # the same number where embeddings of a class are equal, [B]
    classes: Tensor  # in ascending order, [G]
    place: Tensor  # of the class of each embedding among them, [B]
    sizes: Tensor  # of the classes, on the host, [G]

    @classmethod
    def of(cls, batch: RealBatch, generator: Generator) -> _Grouped:
        """Group a batch, the embeddings of a class in a random order."""
        device = batch.embeddings.device
        # A random one, since the differences of the last embeddings displace those of the others.
        drawn = torch.randperm(len(batch), generator=generator)
        labels = batch.host_labels.sort().values
        shuffle = drawn[labels[drawn].argsort(stable=True)]
        classes, place, sizes = torch.unique_consecutive(
            labels, return_inverse=True, return_counts=True
        )
        shuffle, place = torch.stack([shuffle, place]).to(device)

        order = batch.canonical_order()
        embeddings = batch.embeddings.detach()[order]
        # Equal ones follow one another in the canonical order.
        other = (embeddings[1:] != embeddings[:-1]).any(dim=1)
        twins = torch.cat([other.new_zeros(min(len(batch), 1)), other]).cumsum(0)
        return cls(
            order[shuffle], embeddings[shuffle], twins[shuffle], classes.to(device), place, sizes
        )


def newest_pairs(sizes: Tensor, kinds: Tensor, num_pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last ordered pairs of different embeddings of each class.

    The pairs of a class are ordered by their first embedding, and those of one by their second.

    Args:
        sizes: how many embeddings the G classes have, which follow one another, on the host, [G].
        kinds: integers, equal for equal embeddings, [B]. One below 0 is in no pair.
        num_pairs: Z. Only pairs whose first embedding is among the last Z of its class are looked
            at, which are all that matter where no kind is below 0.

    Returns:
        The positions of the first and of the second embeddings, [G, Z], the last pair last, and the
        number of pairs, [G]. If there are fewer than Z, those before are any.

    Example:
        >>> first, second, number = newest_pairs(torch.tensor([3]), torch.tensor([0, 1, 1]), 3)
        >>> first, second, number
        (tensor([[0, 1, 2]]), tensor([[2, 0, 0]]), tensor([3]))
    """
    ends, device = sizes.cumsum(0), kinds.device
    position = torch.arange(len(kinds))
    of_class = torch.arange(len(sizes)).repeat_interleave(sizes)
    anchors = position[ends[of_class] - position <= num_pairs]

    # All embeddings of the class of each anchor, the anchor itself among them.
    partners = sizes[of_class[anchors]]
    pair = torch.arange(int(partners.sum()))
    rank = pair - (partners.cumsum(0) - partners).repeat_interleave(partners)
    first = anchors.repeat_interleave(partners)
    of_pair = of_class[first]
    second = (ends - sizes)[of_pair] + rank
    last = (sizes * sizes.clamp_max(num_pairs)).cumsum(0) - 1

    pair, first, second, of_pair = torch.stack([pair, first, second, of_pair]).to(device)
    valid = (kinds[first] != kinds[second]) & (kinds[first] >= 0) & (kinds[second] >= 0)
    counted = valid.cumsum(0)
    in_all = counted[last.to(device)]
    newer = in_all[of_pair] - counted
    unused = len(sizes) * num_pairs
    slot = (of_pair + 1) * num_pairs - 1 - newer
    slot = torch.where(valid & (newer < num_pairs), slot, unused)
    table = torch.zeros(unused + 1, dtype=torch.int64, device=device).scatter(0, slot, pair)
    table = table[:-1].view(len(sizes), num_pairs)
    number = in_all.diff(prepend=in_all.new_zeros(1)).clamp_max(num_pairs)
    return first[table], second[table], number


def _is_largest(values: Tensor, number: int) -> Tensor:
    """Tell which values are the largest of their rows; of equal ones the first are."""
    least = values.topk(number).values[:, -1:]
    larger, equal = values > least, values == least
    missing = number - larger.sum(dim=1, keepdim=True)
    return larger | (equal & (equal.cumsum(dim=1) <= missing))


def _is_range(value: Any) -> bool:
    several = isinstance(value, Sequence) and len(value) == 2 and not isinstance(value, str)
    return several and all(is_number(end) for end in value) and 0 <= value[0] <= value[1]
