"""Several augmenters at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator

from .._checks import expect
from .base_augmenter import BaseAugmenter
from .real_batch import RealBatch
from .synthetic_batch import SyntheticBatch


class Compose(BaseAugmenter):
    """Gives the real batch to several augmenters and puts what they make together.

    None sees what another made. Each draws from a stream of its own, also where the seeds are the
    same. If one of them raises, none takes the step.

    Args:
        augmenters: the parts, at least one, each an object of its own. They belong to the whole:
            what a part draws depends on its place.

    Raises:
        ValueError: if there is no part, one is no augmenter, or one is there twice.

    Example:
        >>> from pml_synthesis import ProxySynthesis, SphericalEmbeddingExpansion
        >>> see = SphericalEmbeddingExpansion(num_expansions=2, fraction=1.0)
        >>> both = Compose([ProxySynthesis(), see])
        >>> batch = both(torch.randn(6, 4), torch.arange(6), torch.randn(6, 4))
        >>> len(batch), batch.num_new_classes
        (18, 6)
    """

    def __init__(self, augmenters: Sequence[BaseAugmenter]) -> None:
        super().__init__()
        several = isinstance(augmenters, Sequence) and len(augmenters) > 0
        valid = several and all(isinstance(part, BaseAugmenter) for part in augmenters)
        expect(valid, "augmenters", "a sequence of at least one augmenter", augmenters)
        unique = len({id(part) for part in augmenters}) == len(augmenters)
        expect(unique, "augmenters", "different objects (copy.deepcopy makes one)", augmenters)
        self.augmenters = torch.nn.ModuleList(augmenters)
        # Counted through nested ones too; the outermost Compose is made last and has the last word.
        parts = (part for part in self.modules() if isinstance(part, BaseAugmenter))
        for stream, part in enumerate(parts):
            part.stream = stream

    @property
    def requires_proxies(self) -> bool:  # type: ignore[override]
        """Whether one of the parts needs class proxies."""
        return any(part.requires_proxies for part in self._parts())

    def synthesize(self, batch: RealBatch, generator: Generator) -> SyntheticBatch:
        """Put together what the parts make; see :meth:`BaseAugmenter.synthesize`."""
        batches = [part._synthesized(batch) for part in self._parts()]
        return SyntheticBatch.concatenate(batches, batch.num_classes or 0)

    def update(self, batch: RealBatch) -> None:
        """Let the parts remember, once all of them have synthesised; see
        :meth:`BaseAugmenter.update`."""
        for part in self._parts():
            if part.training:
                part._take_step(batch)

    def extra_repr(self) -> str:
        """Return nothing: a whole has no options of its own, and its seed draws nothing."""
        return ""

    def _parts(self) -> list[BaseAugmenter]:
        return [part for part in self.augmenters if isinstance(part, BaseAugmenter)]
