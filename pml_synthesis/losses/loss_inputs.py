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
        """Move the labels to the embeddings, and take a list of mined indices as a tuple.

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
        given = cls(embeddings, labels, *others)
        if isinstance(given.indices_tuple, list):
            return given._replace(indices_tuple=tuple(given.indices_tuple))
        return given

    def check_tuple(self) -> None:
        """Check the mined tuple, which a hook extends to synthetic embeddings.

        Raises:
            ValueError: unless it is None, or three or four tensors of indices.
        """
        mined = self.indices_tuple
        if mined is None:
            return
        several = isinstance(mined, tuple) and len(mined) in (3, 4)
        form = "three (a, p, n) or four (a, p, a, n) tensors of indices, as PML's miners return"
        expect(several, "indices_tuple", form, mined)
        for indices in mined:
            expect_tensor("indices_tuple", indices)
            fits = indices.ndim == 1 and is_integer_dtype(indices.dtype)
            expect(fits, "indices_tuple", form, mined)

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
