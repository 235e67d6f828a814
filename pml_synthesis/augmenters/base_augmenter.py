"""What all augmenters share: checked inputs, and random numbers of their own."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords
from torch import Generator, Tensor

from .._checks import check_batch, expect, is_integer
from .synthetic_batch import SyntheticBatch


class BaseAugmenter(ModuleWithRecords):
    """Makes a synthetic batch from a batch: the base class of all augmenters.

    A subclass implements :meth:`synthesize`. Its random numbers come from the generator that it is
    given there, which is made anew for each call from the augmenter's own `seed` and `step`: a run
    repeats bit for bit after a restart, does not depend on who else draws, and disturbs nobody.
    Both are part of the `state_dict`. The step counts calls in training mode, so under gradient
    accumulation schedules advance with each of the accumulated calls. In eval mode the draws of the
    current step are used and the step stays.

    In a distributed run all processes take seed and step from rank 0 at the first call in training
    mode.

    Args:
        seed: an integer from 0 to 2**64 - 1. Default: `torch.initial_seed()`, so that
            `torch.manual_seed` decides.
        collect_stats: whether to keep statistics for record-keeper, as everywhere in PML.

    Raises:
        ValueError: if `seed` is no such integer.

    Example:
        >>> class Mirror(BaseAugmenter):
        ...     requires_proxies = False
        ...     def synthesize(self, embeddings, labels, proxies, host_labels, generator):
        ...         rows = torch.arange(len(labels))
        ...         return SyntheticBatch(-embeddings, labels, embeddings[:0], rows)
        >>> Mirror()(torch.ones(2, 3), torch.tensor([0, 1])).embeddings
        tensor([[-1., -1., -1.],
                [-1., -1., -1.]])
    """

    #: Whether the augmenter needs class proxies, which only proxy losses have.
    requires_proxies: bool = True

    def __init__(self, seed: int | None = None, collect_stats: bool | None = None) -> None:
        super().__init__(collect_stats=collect_stats)
        if seed is None:
            seed = torch.initial_seed()
        valid = is_integer(seed) and 0 <= seed < 2**64
        expect(valid, "seed", "an integer from 0 to 2**64 - 1", seed)
        self.seed = int(seed)
        self.step = 0
        #: Keeps the parts of a Compose apart, which numbers them.
        self.stream = 0
        self._has_seed_of_rank_0 = False

    def forward(
        self, embeddings: Tensor, labels: Tensor, proxies: Tensor | None = None
    ) -> SyntheticBatch:
        """Synthesise rows and classes.

        Args:
            embeddings: floating point, [B, D].
            labels: of any integer type, [B], from 0 to C - 1.
            proxies: [C, D], or [C, K, D] where a class has K centres, or None where there are none.

        Returns:
            A SyntheticBatch with the dtype and on the device of `embeddings`.

        Raises:
            ValueError: if an argument does not have this form, or proxies are needed and none are
                given.
        """
        host_labels = self._check(embeddings, labels, proxies)
        return self.synthesize_checked(embeddings, labels, proxies, host_labels)

    def synthesize_checked(
        self, embeddings: Tensor, labels: Tensor, proxies: Tensor | None, host_labels: Tensor
    ) -> SyntheticBatch:
        """Take a step with checked arguments; `host_labels` are the labels on the host."""
        self.reset_stats()
        if self.training:
            self._take_seed_of_rank_0()
        device = embeddings.device
        labels = labels.to(device, torch.int64)
        if proxies is not None:
            proxies = proxies.to(device)
        # Autocast would compute the geometry in half precision.
        with torch.autocast(device.type, enabled=False):
            batch = self.synthesize(embeddings, labels, proxies, host_labels, self._generator())
        made, method = isinstance(batch, SyntheticBatch), f"{type(self).__name__}.synthesize"
        expect(made, method, "one that returns a SyntheticBatch", batch)
        if proxies is not None and batch.num_new_classes == 0:
            # An augmenter that makes no classes need not know the form of proxies.
            batch = replace(batch, proxies=proxies[:0])
        elif proxies is not None:
            form, shape = tuple(proxies.shape[1:]), tuple(batch.proxies.shape)
            alike = f"of shape [E, {', '.join(map(str, form))}], as the real ones are"
            expect(shape[1:] == form, f"{method}(...).proxies", alike, shape)
        self.step += int(self.training)
        return batch.to(embeddings.dtype)

    def synthesize(
        self,
        embeddings: Tensor,
        labels: Tensor,
        proxies: Tensor | None,
        host_labels: Tensor,
        generator: Generator,
    ) -> SyntheticBatch:
        """Make the synthetic batch: what a subclass implements.

        Args:
            embeddings: [B, D].
            labels: int64, [B], in range, on the device of `embeddings`.
            proxies: [C, D] or [C, K, D], on the device of `embeddings`, or None.
            host_labels: the labels once more, int64, on the host: work on them waits for no
                accelerator.
            generator: a generator on the host, from which all random numbers are drawn. To draw the
                same in every process of a distributed run, draw nothing that depends on the order
                of the rows (see :func:`pml_synthesis.functional.row_order`).

        Returns:
            The synthetic batch, in any dtype.
        """
        raise NotImplementedError

    def get_extra_state(self) -> dict[str, int]:
        """Return seed and step, for the `state_dict`."""
        return {"seed": self.seed, "step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take seed and step from a `state_dict`."""
        self.seed, self.step = state["seed"], state["step"]

    def extra_repr(self) -> str:
        """Return the options as they were given."""
        options = self.options() | {"seed": self.seed}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())

    def options(self) -> dict[str, Any]:
        """Return the options of the subclass by name, for `repr`."""
        return {}

    def _check(self, embeddings: Tensor, labels: Tensor, proxies: Tensor | None) -> Tensor:
        host_labels = check_batch(embeddings, labels, proxies)
        if proxies is None:
            name = type(self).__name__
            needed = f"the class proxies, which {name} needs; a loss without them has none to give"
            expect(not self.requires_proxies, "proxies", needed, None)
        return host_labels

    def _generator(self) -> Generator:
        # A digest, since the seeds of neighbouring steps and streams must not be neighbours.
        key = f"{self.seed} {self.stream} {self.step}".encode()
        digest = hashlib.blake2b(key, digest_size=8).digest()
        return Generator().manual_seed(int.from_bytes(digest, "little"))

    def _take_seed_of_rank_0(self) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if self._has_seed_of_rank_0 or not distributed:
            return
        state = [self.get_extra_state()]
        torch.distributed.broadcast_object_list(state, src=0)
        self.set_extra_state(state[0])
        self._has_seed_of_rank_0 = True
