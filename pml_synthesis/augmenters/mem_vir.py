"""MemVir."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from .._checks import expect, expect_flag, expect_integer, is_integer
from .base_augmenter import BaseAugmenter
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch

_LEAST = {
    "num_classes": 1,
    "embedding_size": 1,
    "batch_size": 1,
    "num_steps": 1,
    "step_gap": 0,
    "warm_up_steps": 0,
}


class MemVir(BaseAugmenter):
    r"""Adds the embeddings and proxies of earlier steps as virtual classes.

    In step t, with N of `num_steps` and M of `step_gap`, these join the batch for k = 1, ..., N:

    .. math:: x^{t - k (M + 1)}, \quad p^{t - k (M + 1)}, \quad \text{with the labels } y + k C

    Each remembered step has C classes of its own: an embedding of class y in that step is a
    negative of today's proxy of y, too. What is remembered is constant; embeddings that are not
    finite are left out. The first virtual classes come when the memory has a step that is old
    enough; all N steps take part after `warm_up_steps` + N (M + 1) steps.

    **Step size.** In a mean over all embeddings the share of the real ones shrinks to 1 / (N + 1).
    If the network did not change at all, a cross-entropy over cosines (NormalizedSoftmaxLoss,
    ProxyNCALoss) would be the plain loss + log(N + 1), and its gradients those of the plain loss
    divided by N + 1.

    With `normalize` the mean is divided by the number of real embeddings, as that of the plain loss
    is, and those gradients are the plain ones. The loss is then N + 1 times as large. Losses with a
    sum instead of a mean are the same with both.

    **Memory.** The buffers take

    .. math:: N (M + 1) \, (4 D (B + C K) + 8 B) \text{ bytes}

    in float32, with B of `batch_size` and K centres. They are part of the `state_dict`, and of each
    checkpoint. They have the dtype of the module (`.double()` changes it). In a distributed run all
    processes hold the same memory, so `DistributedDataParallel(..., broadcast_buffers=False)` saves
    sending it in each step.

    Args:
        num_classes: C, of the loss.
        embedding_size: D, of the loss.
        batch_size: the largest number of embeddings in a batch; that of all processes together
            where the embeddings are gathered. A smaller batch is remembered as it is.
        num_steps: N, how many earlier steps take part.
        step_gap: M, how many steps are left out between two of them.
        warm_up_steps: how many first steps are not remembered. The default is that of the release
            for Cars196, 40 epochs of 63 batches.
        normalize: whether the real embeddings keep the share in the loss that they have without
            virtual classes.
        num_centers: K, for losses with several centres per class (SoftTripleLoss,
            SubCenterArcFaceLoss), or None for one proxy per class.
        memory_device: a device on which the memory stays wherever the module is moved, such as
            "cpu" for a memory too large for the accelerator, or None for that of the module.
        seed: see :class:`BaseAugmenter`; nothing is drawn.
        collect_stats: see :class:`BaseAugmenter`. Records `num_rows`, `num_virtual_classes`, and
            `proxy_drift`: one minus the mean cosine of the proxies to the oldest remembered ones.

    Raises:
        ValueError: if an argument is not of this form; in a call, if the batch is larger than
            `batch_size` or the proxies do not have the shape that the memory was made for.

    Source: Ko, Gu, Kim, "Learning with Memory-based Virtual Classes for Deep Metric Learning", ICCV
    2021, arXiv 2103.16940, section 3. The release counts its warm-up in epochs and does not save
    the memory; `normalize` and more than one centre are not part of it.

    Example:
        >>> augmenter = MemVir(3, 16, batch_size=6, num_steps=2, step_gap=1, warm_up_steps=0)
        >>> embeddings, labels = torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> [len(augmenter(embeddings, labels, torch.randn(3, 16))) for _ in range(6)]
        [0, 0, 6, 6, 12, 12]
    """

    counters = ("num_remembered", "sizes")

    embeddings: Tensor
    labels: Tensor
    proxies: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        batch_size: int = 128,
        num_steps: int = 45,
        step_gap: int = 10,
        warm_up_steps: int = 2520,
        normalize: bool = False,
        num_centers: int | None = None,
        memory_device: torch.device | str | None = None,
        *,
        seed: int | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__(seed=seed, collect_stats=collect_stats)
        self.num_classes = num_classes
        self.embedding_size = embedding_size
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.step_gap = step_gap
        self.warm_up_steps = warm_up_steps
        self.normalize = normalize
        self.num_centers = num_centers
        self.memory_device = memory_device
        self._check_options()

        #: How many steps the memory holds, N (M + 1).
        self.num_slots = num_steps * (step_gap + 1)
        form = () if num_centers is None else (num_centers,)
        shapes = {
            "embeddings": (batch_size, embedding_size),
            "labels": (batch_size,),
            "proxies": (num_classes, *form, embedding_size),
        }
        for name, shape in shapes.items():
            dtype = torch.int64 if name == "labels" else torch.float32
            memory = torch.zeros(self.num_slots, *shape, dtype=dtype, device=memory_device)
            self.register_buffer(name, memory)
        #: How many steps have been remembered so far, those overwritten since among them.
        self.num_remembered = 0
        #: How many embeddings each slot has.
        self.sizes = [0] * self.num_slots
        self.add_to_recordable_attributes(
            list_of_names=["num_rows", "num_virtual_classes", "proxy_drift"], is_stat=True
        )

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Recall earlier steps; see :meth:`BaseAugmenter.synthesize`."""
        self._check_batch(batch)
        slots = self._recalled_slots()
        if not slots:
            return SyntheticBatch.empty(batch.embeddings, batch.proxies)
        device = batch.embeddings.device
        sizes = [self.sizes[slot] for slot in slots]
        # One copy of each, which the update of this step does not overwrite.
        embeddings, parents = (
            torch.cat([memory[slot, : self.sizes[slot]] for slot in slots]).to(device)
            for memory in (self.embeddings, self.labels)
        )
        proxies = torch.cat([self.proxies[slot] for slot in slots]).to(device)
        ages = torch.arange(1, len(slots) + 1).repeat_interleave(torch.tensor(sizes))
        if self.collect_stats:
            self._record(batch, len(embeddings), proxies)
        return SyntheticBatch(
            embeddings=embeddings,
            labels=parents + self.num_classes * ages.to(device),
            proxies=proxies,
            source=torch.full_like(parents, -1),
            parent=parents,
            counted=not self.normalize,
        )

    def update(self, batch: RealBatch) -> None:
        """Remember the batch and the proxies in the place of the oldest ones; see
        :meth:`BaseAugmenter.update`."""
        if self.step < self.warm_up_steps:
            return
        assert batch.proxies is not None
        order = batch.canonical_order()
        # One that is not finite would make the loss so whenever it is recalled.
        largest = torch.linalg.vector_norm(batch.embeddings, ord=torch.inf, dim=1)
        finite = largest <= torch.finfo(self.embeddings.dtype).max
        order = order[finite[order]].to(self.labels.device)
        slot, size = self.num_remembered % self.num_slots, len(order)
        for memory, values in ((self.embeddings, batch.embeddings), (self.labels, batch.labels)):
            torch.index_select(values.to(memory), 0, order, out=memory[slot, :size])
        self.proxies[slot].copy_(batch.proxies)
        self.sizes[slot] = size
        self.num_remembered += 1

    def _recalled_slots(self) -> list[int]:
        """Return the slots of the steps that take part, the youngest first."""
        period = self.step_gap + 1
        count = min(self.num_steps, self.num_remembered // period)
        return [(self.num_remembered - k * period) % self.num_slots for k in range(1, count + 1)]

    def _record(self, batch: RealBatch, num_rows: int, proxies: Tensor) -> None:
        assert batch.proxies is not None
        with torch.no_grad():
            oldest = proxies[-self.num_classes :].to(batch.proxies)
            cosines = cosine_similarity(batch.proxies, oldest, dim=-1)
        self.num_rows = num_rows
        self.num_virtual_classes = len(proxies)
        self.proxy_drift = 1 - cosines.mean().item()

    def _check_options(self) -> None:
        for name, least in _LEAST.items():
            expect_integer(name, getattr(self, name), least)
        expect_flag("normalize", self.normalize)
        centers = self.num_centers
        several = centers is None or (is_integer(centers) and centers >= 1)
        expect(several, "num_centers", "an integer of at least 1, or None", centers)
        device = self.memory_device
        expect(device is None or _is_device(device), "memory_device", "a device, or None", device)

    def _check_batch(self, batch: RealBatch) -> None:
        batch.check_sizes(self.num_classes, self.embedding_size)
        assert batch.proxies is not None
        expected, shape = tuple(self.proxies.shape[1:]), tuple(batch.proxies.shape)
        centers = (
            f"of shape {expected}, by the `num_centers` of the memory (losses with several centres "
            "per class, SoftTripleLoss and SubCenterArcFaceLoss, need it)"
        )
        expect(shape == expected, "proxies", centers, shape)
        most = f"at most {self.batch_size}, the `batch_size` for which the memory was made"
        expect(len(batch) <= self.batch_size, "embeddings", most, f"{len(batch)} of them")

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any) -> Any:
        """Apply a change of dtype or device to all buffers; a memory device is not left."""
        if self.memory_device is None:
            return super()._apply(fn, *args)

        def staying(memory: Tensor) -> Tensor:
            # Tried on no elements: the memory may be too large to be moved even for a moment.
            return memory.to(self.memory_device, fn(memory[:0]).dtype)

        return super()._apply(staying, *args)


def _is_device(value: Any) -> bool:
    try:
        return isinstance(value, (str, torch.device)) and bool(torch.device(value).type)
    except RuntimeError:
        return False
