import math

import pytest

from pml_synthesis.schedules import CosineSchedule


def test_equals_the_formula_and_stays_at_its_end():
    schedule = CosineSchedule(0.9, 0.1, num_steps=7)
    for step in range(7):
        expected = 0.1 + 0.8 * (1 + math.cos(math.pi * step / 7)) / 2
        assert schedule(step) == pytest.approx(expected)
    assert schedule(0) == 0.9
    assert schedule(7) == schedule(1000) == 0.1


@pytest.mark.parametrize("num_steps", [0, -3, 2.5, True])
def test_wrong_num_steps(num_steps):
    with pytest.raises(ValueError, match="`num_steps` to be a positive integer, but got"):
        CosineSchedule(0.0, 1.0, num_steps)


@pytest.mark.parametrize("name", ["start", "end"])
def test_wrong_ends(name):
    values = {"start": 0.0, "end": 1.0, "num_steps": 5} | {name: float("nan")}
    with pytest.raises(ValueError, match=f"`{name}` to be a finite number, but got nan"):
        CosineSchedule(**values)
