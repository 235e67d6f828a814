import math

import pytest

from pml_synthesis.schedules import CosineSchedule, StepSchedule


def test_equals_the_formula_and_stays_at_its_end():
    schedule = CosineSchedule(0.9, 0.1, num_steps=7)
    for step in range(7):
        expected = 0.1 + 0.8 * (1 + math.cos(math.pi * step / 7)) / 2
        assert schedule(step) == pytest.approx(expected)
    assert schedule(0) == 0.9
    assert schedule(7) == schedule(1000) == 0.1


@pytest.mark.parametrize("num_steps", [0, -3, 2.5, True])
def test_wrong_num_steps(num_steps):
    with pytest.raises(ValueError, match="`num_steps` to be an integer of at least 1, but got"):
        CosineSchedule(0.0, 1.0, num_steps)


@pytest.mark.parametrize("name", ["start", "end"])
def test_wrong_ends(name):
    values = {"start": 0.0, "end": 1.0, "num_steps": 5} | {name: float("nan")}
    with pytest.raises(ValueError, match=f"`{name}` to be a finite number, but got nan"):
        CosineSchedule(**values)


@pytest.mark.parametrize("num_steps", [1, 7, 100, 300, 12345])
def test_values_change_at_their_parts_of_the_training(num_steps):
    values, percents = [0.0, 0.8, 0.72, 0.6, 0.48], [0, 28, 40, 55, 80]
    schedule = StepSchedule(values, [percent / 100 for percent in percents], num_steps)
    for step in range(2 * num_steps):
        begun = [v for v, p in zip(values, percents, strict=True) if p * num_steps <= 100 * step]
        assert schedule(step) == begun[-1]


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("values", [], "a sequence of at least one finite number"),
        ("values", [0.0, float("inf")], "a sequence of at least one finite number"),
        ("values", 0.5, "a sequence of at least one finite number"),
        ("values", "12", "a sequence of at least one finite number"),
        ("values", [1.0, 2.0, 3.0], "`starts` to be 3 ascending numbers, one for each value"),
        ("starts", [0.0, "a"], "2 ascending numbers"),
        ("starts", [0.1, 0.2], "2 ascending numbers, one for each value, the first one 0"),
        ("starts", [0.0, -0.2], "2 ascending numbers"),
        ("num_steps", 0, "an integer of at least 1"),
    ],
)
def test_wrong_parts(name, value, expected):
    values = {"values": [0.0, 1.0], "starts": [0.0, 0.5], "num_steps": 5} | {name: value}
    with pytest.raises(ValueError, match=expected):
        StepSchedule(**values)
