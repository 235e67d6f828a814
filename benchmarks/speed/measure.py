"""Times and memory of steps, measured in turn."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

Step = Callable[[], object]
WARM_UP = 3  # rounds


def medians(steps: dict[str, Step], seconds: float = 6.0, most: int = 500) -> dict[str, float]:
    """Return the median time of each step in milliseconds, all called in turn, round by round.

    What slows the machine down for a while so slows all of them.

    Arguments:
        steps: to be measured, by name.
        seconds: after which no further round begins, though there are five at least.
        most: rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    start = time.perf_counter()
    for done in range(WARM_UP + most):
        if done >= WARM_UP + 5 and time.perf_counter() - start > seconds:
            break
        for name, step in steps.items():
            times[name].append(_timed(step))
    return {name: 1e3 * statistics.median(values[WARM_UP:]) for name, values in times.items()}


def _timed(step: Step) -> float:
    start = time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(make_step: Callable[[], Step]) -> float:
    """Return by how many MiB the first step raises the memory of a process of its own, at most.

    On the CPU this asks Linux.

    Arguments:
        make_step: builds the step; a function that can be pickled.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (make_step,))


def _peak(make_step: Callable[[], Step]) -> float:
    step = make_step()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    step()
    return (_resident("VmHWM") - before) / 2**10


def _resident(kind: str) -> int:
    """Return memory that this process holds (VmRSS) or held at most (VmHWM), in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))
