"""What a PML loss is called with."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from .._checks import expect_tensor, is_integer_dtype


class LossInputs(NamedTuple):
    """The arguments of a PML loss, the labels as int64 beside the embeddings."""

    embeddings: Tensor
    labels: Tensor | None
    indices_tuple: Any = None
    ref_emb: Tensor | None = None
    ref_labels: Tensor | None = None

    @classmethod
    def of(cls, embeddings: Tensor, labels: Tensor | None, *others: Any) -> LossInputs:
        """Move the labels to the embeddings.

        Raises:
            ValueError: if `embeddings` is no tensor.
        """
        expect_tensor("embeddings", embeddings)
        if isinstance(labels, Tensor):
            # Other types than integers are left to be refused by the augmenter or the loss.
            dtype = labels.dtype
            if is_integer_dtype(dtype):
                labels = labels.long()
            labels = labels.to(embeddings.device)
        return cls(embeddings, labels, *others)
