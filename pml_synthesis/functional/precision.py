"""The dtypes that the geometry is computed in."""

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


def finest_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that has none.

    What decides which rows are taken, and in which order, is computed in it: processes of a
    distributed run hold the same embeddings with other last bits.

    Example:
        >>> finest_dtype(torch.device("cpu"))
        torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64
