"""What all augmenters share: checked inputs, random numbers of their own, and a memory."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from .._checks import expect, is_integer
from ..pml import ModuleWithRecords
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch


class BaseAugmenter(ModuleWithRecords):
    """Makes a synthetic batch from a batch: the base class of all augmenters.

    A subclass implements :meth:`synthesize` and, if it remembers something over steps,
    :meth:`update`.

    Its random numbers come from the generator that `synthesize` is given, which is made anew for
    each call from the augmenter's own `seed` and `step`. Both are part of the `state_dict`, so a
    run repeats bit for bit after a restart, and the global random state is neither read nor
    advanced.

    The step counts calls in training mode, so under gradient accumulation schedules advance with
    each of the accumulated calls. In eval mode the draws of the current step are used, and neither
    the step nor the memory changes.

    A memory is kept in buffers of fixed shapes, so that a checkpoint loads into a new object, and
    in the host integers named by :attr:`counters`. An augmenter with parameters trains through the
    loss and through `SyntheticBatch.term`.

    In a distributed run all processes take seed, step and counters from rank 0 at the first call in
    training mode.

    Args:
        seed: an integer from 0 to 2**64 - 1. Default: `torch.initial_seed()`, so that
            `torch.manual_seed` decides.
        collect_stats: whether to keep statistics for record-keeper, as everywhere in PML.

    Raises:
        ValueError: if `seed` is no such integer.

    Example:
        >>> class Mirror(BaseAugmenter):
        ...     requires_proxies = False
        ...     def synthesize(self, batch, generator):
        ...         source = torch.arange(len(batch))
        ...         return SyntheticBatch(
        ...             -batch.embeddings, batch.labels, batch.embeddings[:0], source)
        >>> Mirror()(torch.ones(2, 3), torch.tensor([0, 1])).embeddings
        tensor([[-1., -1., -1.],
                [-1., -1., -1.]])
    """

    #: Whether the augmenter needs class proxies, which only proxy losses have.
    requires_proxies: bool = True

    #: Whether it learns from the whole training set, by :meth:`estimate` after some of the epochs.
    requires_estimate: bool = False

    #: The `embedding_reg_weight` of the paper, of a method whose term has a weight there.
    published_weight: float | None = None

    #: The attributes that belong to the memory beside the buffers: integers, or lists of integers
    #: of a fixed length. They are part of the `state_dict`.
    counters: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse counters that are the base class's own."""
        super().__init_subclass__(**kwargs)
        taken = sorted({"seed", "step", "stream"} & set(cls.counters))
        free = f"of {cls.__name__} to be other names than seed, step and stream"
        if taken:
            raise ValueError(f"Expected `counters` {free}, which the base class keeps: {taken}.")

    def __init__(self, seed: int | None = None, collect_stats: bool | None = None) -> None:
        super().__init__(collect_stats=collect_stats)
        if seed is None:
            seed = torch.initial_seed()
        valid = is_integer(seed) and 0 <= seed < 2**64
        expect(valid, "seed", "an integer from 0 to 2**64 - 1", seed)
        self.seed = int(seed)
        self.step = 0
        #: Index within a Compose, so that each part has its own random stream.
        self.stream = 0
        self._has_seed_of_rank_0 = False

    def forward(
        self, embeddings: Tensor, labels: Tensor, proxies: Tensor | None = None
    ) -> SyntheticBatch:
        """Synthesise embeddings and classes.

        Args:
            embeddings: floating point, [B, D].
            labels: of any integer type, [B], from 0 to C - 1.
            proxies: [C, D], or [C, K, D] where a class has K centres, or None where there are none.

        Returns:
            A SyntheticBatch with the dtype and on the device of `embeddings`.

        Raises:
            ValueError: if an argument does not have this form, or proxies are needed and none are
                given.
            RuntimeError: in training mode, if it is called during a backward pass, as gradient
                checkpointing around the loss does.
        """
        return self.augment(RealBatch.of(embeddings, labels, proxies))

    def augment(self, batch: RealBatch) -> SyntheticBatch:
        """Take a step with a checked batch: synthesise and, in training mode, remember.

        Args:
            batch: the real batch.

        Returns:
            As :meth:`forward`.
        """
        synthetic = self._synthesized(batch)
        if self.training:
            self._take_step(batch)
        return synthetic

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Make the synthetic batch: what a subclass implements.

        A pure function of the batch, the draws and the memory.

        Args:
            batch: the real batch, in float32 at least.
            generator: a generator on the host, from which all random numbers are drawn. To draw the
                same in every process of a distributed run, draw nothing that depends on the order
                of the batch (see :func:`pml_synthesis.functional.row_order`).

        Returns:
            The synthetic batch, in any dtype.
        """
        raise NotImplementedError

    def update(self, batch: RealBatch) -> None:
        """Remember what later steps need: what a subclass with a memory implements.

        Called after :meth:`synthesize` in training mode alone, without gradients. Keep the
        embeddings in an order that is the same in all processes of a distributed run
        (:meth:`RealBatch.canonical_order`).

        Args:
            batch: the real batch, in float32 at least.
        """

    def estimate(self, embeddings: Tensor, labels: Tensor) -> None:
        """Learn from the whole training set: what a subclass with :attr:`requires_estimate`
        implements.

        Called after an epoch, by :class:`~pml_synthesis.EstimateAfterEpochs` in PML's trainers; in
        a distributed run in all processes.

        Args:
            embeddings: of the training set, in any order, [N, D].
            labels: of any integer type, [N].
        """

    def get_extra_state(self) -> Tensor:
        """Return seed, step and counters as one int64 tensor, for the `state_dict`."""
        # As a signed integer: not all versions of torch have an unsigned one.
        seed = self.seed - 2**64 if self.seed >= 2**63 else self.seed
        return torch.tensor([seed, self.step, *self._counts()])

    def set_extra_state(self, state: Tensor | dict[str, int]) -> None:
        """Take seed, step and counters from a `state_dict`.

        Raises:
            ValueError: if it has other counters than this augmenter.
        """
        if isinstance(state, dict):  # As earlier releases saved it.
            state = torch.tensor([state["seed"] - 2**64 * (state["seed"] >= 2**63), state["step"]])
        seed, step, *counts = state.tolist()
        sizes = f"{len(self._counts())} counters, as an augmenter with these options has"
        expect(len(counts) == len(self._counts()), "state", sizes, len(counts))
        self.seed, self.step = seed % 2**64, step
        left = iter(counts)
        for name in self.counters:
            value = getattr(self, name)
            several = isinstance(value, list)
            setattr(self, name, [next(left) for _ in value] if several else next(left))

    def extra_repr(self) -> str:
        """Return the options as they were given."""
        options = self.options() | {"seed": self.seed}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())

    def options(self) -> dict[str, Any]:
        """Return the options of the subclass by name: those arguments of its constructor that it
        keeps as attributes of the same name."""
        of_all = inspect.signature(BaseAugmenter.__init__).parameters
        names = inspect.signature(type(self).__init__).parameters
        return {
            name: getattr(self, name)
            for name in names
            if name not in of_all
            and hasattr(self, name)
            and not isinstance(getattr(self, name), torch.nn.Module)
        }

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        """Load a checkpoint, or nothing of one that other sizes have made."""
        own = {**self._parameters, **self._buffers}
        shapes = {
            name: (tuple(state_dict[prefix + name].shape), tuple(tensor.shape))
            for name, tensor in own.items()
            if tensor is not None and prefix + name in state_dict
        }
        differing = [
            f"`{name}` of shape {given}, not {made}"
            for name, (given, made) in shapes.items()
            if given != made
        ]
        if not differing:
            super()._load_from_state_dict(state_dict, prefix, *others)
            return
        error_msgs: list[str] = others[-1]
        error_msgs.append(
            f"Expected the checkpoint to be of a {type(self).__name__} with the same sizes, but "
            f"got {', '.join(differing)}. Make the augmenter with the arguments of the saved one."
        )

    def _synthesized(self, batch: RealBatch) -> SyntheticBatch:
        """Synthesise and check, without a step."""
        name = type(self).__name__
        if batch.proxies is None:
            needed = f"the class proxies, which {name} needs; a loss without them has none to give"
            expect(not self.requires_proxies, "proxies", needed, None)
        self.reset_stats()
        if self.training:
            _refuse_recomputation(name)
            self._take_seed_of_rank_0()
        # Autocast would compute the geometry in half precision.
        with torch.autocast(batch.embeddings.device.type, enabled=False):
            synthetic = self.synthesize(batch.at_least_float32(), self._generator())
            return self._checked(synthetic, batch).to(batch.embeddings.dtype)

    def _take_step(self, batch: RealBatch) -> None:
        """Update the memory and count the step."""
        if self._remembers:
            autocast = torch.autocast(batch.embeddings.device.type, enabled=False)
            with autocast, torch.no_grad():
                self.update(batch.at_least_float32().detach())
        self.step += 1

    def _checked(self, synthetic: Any, batch: RealBatch) -> SyntheticBatch:
        """Check what a subclass made, and give it proxies of the form of the real ones."""
        method = f"{type(self).__name__}.synthesize"
        made = isinstance(synthetic, SyntheticBatch)
        expect(made, method, "one that returns a SyntheticBatch", synthetic)
        proxies = batch.proxies
        if proxies is not None and synthetic.num_new_classes == 0:
            # An augmenter that makes no classes need not know the form of proxies.
            synthetic = replace(synthetic, proxies=proxies[:0])
        elif proxies is not None:
            form, shape = tuple(proxies.shape[1:]), tuple(synthetic.proxies.shape)
            alike = f"of shape [E, {', '.join(map(str, form))}], as the real ones are"
            expect(shape[1:] == form, f"{method}(...).proxies", alike, shape)
        synthetic.check_indices(len(batch), batch.num_classes)
        return self._without_views_of_memory(synthetic)

    @property
    def _remembers(self) -> bool:
        """Whether there is an update. Most augmenters have none, and need no batch made for it."""
        return type(self).update is not BaseAugmenter.update

    def _without_views_of_memory(self, synthetic: SyntheticBatch) -> SyntheticBatch:
        """Copy what shares its memory with a buffer, which the next update overwrites."""
        if not self._remembers:
            return synthetic
        own = {_storage(buffer) for buffer in self.buffers() if buffer.numel()}
        if not own:
            return synthetic
        shared: dict[str, Any] = {
            name: value.clone()
            for name, value in vars(synthetic).items()
            if isinstance(value, Tensor) and value.numel() and _storage(value) in own
        }
        return replace(synthetic, **shared) if shared else synthetic

    def _counts(self) -> list[int]:
        values = [getattr(self, name) for name in self.counters]
        return [n for value in values for n in (value if isinstance(value, list) else [value])]

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


def _refuse_recomputation(name: str) -> None:
    """Raise a RuntimeError during a backward pass, where a training step would be taken twice."""
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            f"{name} was called in training mode during a backward pass, as gradient checkpointing "
            "around the loss does: it would take another step, with other random numbers than the "
            "forward pass. Apply torch.utils.checkpoint to the network alone, and call the loss "
            "outside of it."
        )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
