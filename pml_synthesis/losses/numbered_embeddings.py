"""Embeddings that know which ones of the batch they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_COPIES = (Tensor.clone, Tensor.contiguous, Tensor.detach, Tensor.to)


class NumberedEmbeddings(Tensor):
    """Embeddings that know their numbers in the batch, also when a loss selects some of them.

    N-pairs compares some of the embeddings with others. Their values do not tell which ones they
    are, since embeddings of two classes may be equal. All other results are ordinary tensors.
    """

    numbers: Tensor

    @classmethod
    def of(cls, embeddings: Tensor, size: int) -> NumberedEmbeddings:
        """Number the first ones, which are real, from 0 to `size` - 1; the others are -1."""
        numbers = torch.arange(len(embeddings), device=embeddings.device)
        return cls._with(embeddings, numbers.where(numbers < size, -1))

    @classmethod
    def _with(cls, embeddings: Tensor, numbers: Tensor) -> NumberedEmbeddings:
        numbered = embeddings.as_subclass(cls)
        numbered.numbers = numbers
        return numbered

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch; what it selects or copies keeps its numbers."""
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs or {})
            if not args or not isinstance(args[0], cls):
                return result
            if func in _COPIES:
                return cls._with(result, args[0].numbers)
            if func is Tensor.__getitem__ and isinstance(args[1], Tensor) and args[1].ndim == 1:
                return cls._with(result, args[0].numbers[args[1]])
        return result
