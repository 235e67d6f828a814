"""What an augmenter is given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from .._checks import check_batch, expect
from ..functional import row_order
from ..functional.precision import working_dtype


@dataclass(frozen=True, eq=False)
class RealBatch:
    """A checked batch, with the class proxies of the loss.

    Args:
        embeddings: [B, D].
        labels: int64, [B], on the device of `embeddings`, from 0 to C - 1.
        proxies: [C, D], or [C, K, D] where a class has K centres, or None where there are none.
        host_labels: the labels once more, on the host: work on them waits for no accelerator.
        dtype: the least precise one of the given embeddings and proxies, those here being in
            float32 at least where an augmenter sees them.

    Example:
        >>> batch = RealBatch.of(torch.randn(4, 8), torch.tensor([0, 0, 1, 1]))
        >>> batch.num_classes is None, len(batch)
        (True, 4)
    """

    embeddings: Tensor
    labels: Tensor
    proxies: Tensor | None
    host_labels: Tensor
    dtype: torch.dtype

    @classmethod
    def of(
        cls, embeddings: Tensor, labels: Tensor | None, proxies: Tensor | None = None
    ) -> RealBatch:
        """Check a batch and put it together.

        Args:
            embeddings: floating point, [B, D].
            labels: of any integer type, on any device, [B].
            proxies: [C, D], [C, K, D] or None.

        Raises:
            ValueError: if an argument does not have this form.
        """
        host_labels = check_batch(embeddings, labels, proxies)
        assert labels is not None
        device = embeddings.device
        if proxies is not None:
            proxies = proxies.to(device)
        on_device = host_labels if device.type == "cpu" else labels.to(device, torch.int64)
        given = [embeddings] if proxies is None else [embeddings, proxies]
        dtype = max((part.dtype for part in given), key=lambda dtype: torch.finfo(dtype).eps)
        return cls(embeddings, on_device, proxies, host_labels, dtype)

    def __len__(self) -> int:
        """Return B, the number of embeddings."""
        return len(self.embeddings)

    @property
    def num_classes(self) -> int | None:
        """C, the number of proxies, or None where there are none."""
        return None if self.proxies is None else len(self.proxies)

    def check_sizes(self, num_classes: int, embedding_size: int) -> None:
        """Check that the batch fits a memory of each class.

        Args:
            num_classes: C, of the memory.
            embedding_size: D, of the memory.

        Raises:
            ValueError: if embeddings have another width, proxies are of another number of classes,
                or labels are not from 0 to C - 1.
        """
        shape = tuple(self.embeddings.shape)
        width = f"of shape [B, {embedding_size}], by the `embedding_size` of the memory"
        expect(shape[1] == embedding_size, "embeddings", width, shape)
        fits = self.num_classes in (None, num_classes)
        as_many = f"those of {num_classes} classes, by the `num_classes` of the memory"
        expect(fits, "proxies", as_many, f"those of {self.num_classes}")
        if len(self):
            low, high = int(self.host_labels.min()), int(self.host_labels.max())
            numbered = (
                f"from 0 to {num_classes - 1}, by the `num_classes` of the memory (those of some "
                "data sets start at 1)"
            )
            inside = low >= 0 and high < num_classes
            expect(inside, "labels", numbered, f"labels from {low} to {high}")

    def canonical_order(self) -> Tensor:
        """Return an order of the embeddings that is the same in all processes of a run, int64, [B].

        Processes that gather a batch hold the same embeddings in different orders. They are sorted
        by class, and within a class by their projection on a fixed direction.
        """
        # A fixed seed: the direction is to be the same in every process and step.
        generator = Generator().manual_seed(0)
        size = self.embeddings.shape[1]
        direction = torch.randn(size, dtype=torch.float64, generator=generator)
        return row_order(self.embeddings, self.labels, direction)

    def at_least_float32(self) -> RealBatch:
        """Return the batch with half-precision embeddings and proxies in float32."""
        if torch.finfo(self.dtype).bits >= 32:
            return self
        proxies = self.proxies
        if proxies is not None:
            proxies = proxies.to(working_dtype(proxies))
        embeddings = self.embeddings.to(working_dtype(self.embeddings))
        return replace(self, embeddings=embeddings, proxies=proxies)

    def detach(self) -> RealBatch:
        """Return the batch without gradients."""
        proxies = None if self.proxies is None else self.proxies.detach()
        return replace(self, embeddings=self.embeddings.detach(), proxies=proxies)
