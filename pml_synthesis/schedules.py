"""Values that change over the training."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ._checks import expect, is_integer, is_number

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class CosineSchedule:
    r"""A value that moves from `start` to `end` along half a cosine and then stays.

    .. math:: v(t) = e + (s - e) (1 + \cos(\pi \min(t / T, 1))) / 2

    Args:
        start: s, the value at step 0.
        end: e, the value from step T on.
        num_steps: T, in steps (training calls of the augmenter that holds the schedule), at least
            1.

    Raises:
        ValueError: if `start` or `end` is no finite number, or `num_steps` no positive integer.

    Source: the schedule of SEE's fraction of expanded embeddings (Le, Woo, PAKDD 2024, released
    code).

    Example:
        >>> [round(CosineSchedule(0.0, 0.4, num_steps=10)(step), 2) for step in (0, 5, 10, 99)]
        [0.0, 0.2, 0.4, 0.4]
    """

    start: float
    end: float
    num_steps: int

    def __post_init__(self) -> None:
        expect(is_number(self.start), "start", "a finite number", self.start)
        expect(is_number(self.end), "end", "a finite number", self.end)
        valid = is_integer(self.num_steps) and self.num_steps >= 1
        expect(valid, "num_steps", "a positive integer", self.num_steps)

    def __call__(self, step: int) -> float:
        """Return the value at a step, counted from 0."""
        progress = min(step, self.num_steps) / self.num_steps
        share_of_start = (1 + math.cos(math.pi * progress)) / 2
        return self.end + (self.start - self.end) * share_of_start
