"""The dtype that the geometry is computed in."""

import torch
from torch import Tensor


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the widest dtype among the tensors, and float32 at least.

    Half precision carries three digits: too few for unit norms and right angles.

    Example:
        >>> working_dtype(torch.zeros(2, dtype=torch.float16))
        torch.float32
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
