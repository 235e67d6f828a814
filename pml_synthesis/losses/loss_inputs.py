"""What a PML loss is called with."""

from __future__ import annotations

from typing import Any, NamedTuple

from pytorch_metric_learning.miners import BaseMiner
from torch import Tensor

from .._checks import expect, expect_tensor, is_integer_dtype


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

    def mined(self, miner: BaseMiner | None, rows: Tensor, labels: Tensor | None) -> Any:
        """Return what a miner finds, or without one the tuple that was given.

        Args:
            miner: a PML miner, or None.
            rows: the embeddings that it is to see.
            labels: of them.

        Raises:
            ValueError: if there is a miner and a tuple.
        """
        if miner is None:
            return self.indices_tuple
        alone = "None where the SynthesisLoss has a miner of its own"
        expect(self.indices_tuple is None, "indices_tuple", alone, self.indices_tuple)
        return miner(rows, labels, self.ref_emb, self.ref_labels)
