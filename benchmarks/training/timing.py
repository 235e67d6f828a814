"""How long the parts of a training step take."""

import time
from typing import Any

import torch

PARTS = ("data", "models", "loss", "optimizers")


class StepClock:
    """Seconds of each step by part: reading data, models, loss, and optimisers.

    On a CUDA device the marks are events in its queue: they are read after the epoch, and nobody
    waits for them before. What the device waits for its data is then the time of the data.

    Arguments:
        device: where the models are.

    Example:
        >>> clock = StepClock(torch.device("cpu"))
        >>> for _ in range(3):
        ...     clock.start_step()
        ...     clock.end_part("data")
        ...     clock.end_part("models")
        >>> sorted(clock.seconds_per_step())
        ['data', 'loss', 'models', 'optimizers']
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on_cuda = device.type == "cuda"
        self.marks: list[tuple[str | None, Any]] = []

    def start_step(self) -> None:
        """Start the first part of a step."""
        self.marks.append((None, self._now()))

    def end_part(self, part: str) -> None:
        """End a part, one of PARTS, and start the next; a part may come several times."""
        self.marks.append((part, self._now()))

    def seconds_per_step(self) -> dict[str, float]:
        """Return the mean over the steps since the last call."""
        marks, self.marks = self.marks, []
        if self.on_cuda:
            torch.cuda.synchronize(self.device)
        seconds = dict.fromkeys(PARTS, 0.0)
        for (_, before), (part, after) in zip(marks, marks[1:], strict=False):
            if part is not None:
                seconds[part] += self._between(before, after)
        steps = sum(part is None for part, _ in marks)
        return {part: total / steps for part, total in seconds.items()}

    def _now(self) -> Any:
        if not self.on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _between(self, before: Any, after: Any) -> float:
        return before.elapsed_time(after) / 1000 if self.on_cuda else after - before
