"""The processes that torchrun started, of which this is one; without torchrun it is alone."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from pytorch_metric_learning.utils.distributed import is_distributed
from torch import Tensor
from torch import distributed as dist

from benchmarks.errors import SettingsError
from benchmarks.processes import end_with_parent

T = TypeVar("T")
# The others wait while rank 0 looks up neighbours, and while the slowest one reads its images.
TIMEOUT = timedelta(hours=2)


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of torchrun, if it started this one, and leave with them.

    Tensors on the CPU travel by gloo, those on CUDA devices by nccl. After an error nobody waits:
    the process ends, and torchrun ends the others. If torchrun itself is killed, all of them end.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield
        return
    end_with_parent()
    dist.init_process_group(timeout=TIMEOUT)
    yield
    dist.barrier()
    dist.destroy_process_group()


def world_size() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Return the number of this process; number 0 is the one that evaluates and writes files."""
    return dist.get_rank() if is_distributed() else 0


def from_rank_0(make: Callable[[], T]) -> T:
    """Return what rank 0 makes, in all processes; an error of its is raised in all of them."""
    if world_size() == 1:
        return make()
    made: list[Any] = [None, None]
    if rank() == 0:
        try:
            made[0] = make()
        except Exception as error:
            made[1] = error
    dist.broadcast_object_list(made, src=0)
    result, error = made
    if error is not None:
        raise error
    return result


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process: each has a CUDA device of its own.

    Raises:
        ValueError: if one CUDA device is asked for, and there are several processes.
    """
    if world_size() == 1 or device.type != "cuda":
        return device
    if device.index is not None:
        raise ValueError(
            f"it is one device for {world_size()} processes; with 'cuda' each takes one of its own."
        )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def own_part(batch_size: int) -> slice:
    """Return which rows of a batch are those of this process.

    Raises:
        SettingsError: if the processes cannot have equal parts.
    """
    if batch_size % world_size():
        raise SettingsError(
            f"batch_size: {batch_size} images cannot be shared equally by {world_size()} processes."
        )
    size = batch_size // world_size()
    return slice(rank() * size, (rank() + 1) * size)


def own_rows(count: int) -> list[int]:
    """Return which of `count` rows are for this process, as many as for any other.

    Together, in the order of the ranks, they are all rows and then the first ones again.
    """
    size = -(-count // world_size())
    return [row % count for row in range(rank() * size, (rank() + 1) * size)]


def gathered(rows: Tensor) -> Tensor:
    """Return the rows of all processes, of which each has as many, in the order of the ranks."""
    if world_size() == 1:
        return rows
    everybody = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(everybody, rows.contiguous())
    return torch.cat(everybody)
