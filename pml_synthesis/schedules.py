"""Values that change over the training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ._checks import expect, expect_integer, is_number

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
        expect_integer("num_steps", self.num_steps)

    def __call__(self, step: int) -> float:
        """Return the value at a step, counted from 0."""
        progress = min(step, self.num_steps) / self.num_steps
        share_of_start = (1 + math.cos(math.pi * progress)) / 2
        return self.end + (self.start - self.end) * share_of_start


@dataclass(frozen=True)
class StepSchedule:
    r"""A value that changes at given parts of the training.

    .. math:: v(t) = v_i \quad \text{with the last } i \text{ for which } f_i T \le t

    Args:
        values: v, one for each part, at least one.
        starts: f, where each part begins, as a fraction of T; ascending, the first one 0.
        num_steps: T, in steps (training calls of the augmenter that holds the schedule), at least
            1.

    Raises:
        ValueError: if `values` are no finite numbers, `starts` are no ascending numbers from 0 on
            or as many, or `num_steps` is no positive integer.

    Source: the strength of IAA (Fu et al., TMM 2022, released code).

    Example:
        >>> schedule = StepSchedule(values=(0.0, 0.8, 0.4), starts=(0.0, 0.3, 0.6), num_steps=10)
        >>> [schedule(step) for step in (0, 2, 3, 6, 99)]
        [0.0, 0.0, 0.8, 0.4, 0.4]
    """

    values: Sequence[float]
    starts: Sequence[float]
    num_steps: int

    def __post_init__(self) -> None:
        several = _are_numbers(self.values) and len(self.values) > 0
        expect(several, "values", "a sequence of at least one finite number", self.values)
        fitting = _are_numbers(self.starts) and len(self.starts) == len(self.values)
        ascending = fitting and list(self.starts) == sorted(self.starts) and self.starts[0] == 0
        wanted = f"{len(self.values)} ascending numbers, one for each value, the first one 0"
        expect(ascending, "starts", wanted, self.starts)
        expect_integer("num_steps", self.num_steps)

    def __call__(self, step: int) -> float:
        """Return the value at a step, counted from 0."""
        # 0.29 * 100 is 28.999999999999996, and 0.07 * 100 is 7.000000000000001.
        begun = sum(start * self.num_steps <= step + 1e-6 for start in self.starts)
        return self.values[begun - 1]


def known_values(value: Any) -> Sequence[Any]:
    """Return the extreme values of an option, a number or a schedule, as far as they are known
    without a training step.

    Example:
        >>> known_values(0.4), known_values(CosineSchedule(0.0, 0.4, num_steps=10))
        ((0.4,), (0.0, 0.4))
    """
    if isinstance(value, CosineSchedule):
        return value.start, value.end
    if isinstance(value, StepSchedule):
        return value.values
    return () if callable(value) else (value,)


def _are_numbers(values: Any) -> bool:
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and all(is_number(value) for value in values)
    )
