"""What may be searched of a setting."""

import re

import optuna
import pytest

from benchmarks.errors import SettingsError
from benchmarks.tuning.ranges import Categorical, Float, Int, parse


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"Flaot": {"low": 0, "high": 1}}, "x: unknown type of range 'Flaot': did you mean Float?"),
        ({"low": 0, "high": 1}, "x: expected one of Float, Int, Categorical, such as `Float: "),
        (3, "x: expected one of Float, Int, Categorical, .* but got 3."),
        ({"Float": 3}, "x.Float: expected {keyword: value} but got 3."),
        ({"Float": {"low": 0, "hgih": 1}}, "x.Float: unknown keyword 'hgih': did you mean high?"),
        ({"Float": {"low": 0}}, "x.Float.high is needed."),
        (
            {"Float": {"low": 1, "high": 1}},
            "x.Float: the range is empty: low 1 is not below high 1",
        ),
        ({"Float": {"low": "a", "high": 1}}, "x.Float: low: expected a number but got 'a'."),
        (
            {"Float": {"low": 0, "high": 1, "log": True}},
            "x.Float: low: expected more than 0, for a",
        ),
        (
            {"Float": {"low": 0, "high": 1, "log": 3}},
            "x.Float: log: expected true or false but got",
        ),
        ({"Int": {"low": 0.5, "high": 2}}, "x.Int: low: expected a whole number but got 0.5."),
        (
            {"Categorical": {"choices": [1]}},
            r"x.Categorical: choices: expected two or more but got",
        ),
        ({"Categorical": {"choices": [1, {"a": 2}]}}, "choices: expected numbers, texts, .* but"),
    ],
)
def test_a_wrong_range_is_told_with_its_place(described, message):
    with pytest.raises(SettingsError) as caught:
        parse(described, "x")
    assert re.search(message.replace("{", r"\{"), str(caught.value)), caught.value


def test_ranges_hold_their_ends_and_nothing_beyond():
    for searched in (Float(0.5, 2), Int(1, 2)):
        assert searched.low in searched and searched.high in searched
        assert not any(value in searched for value in (0.4, 3, None, "a", True))
    assert None in Categorical([None, "a"]) and "b" not in Categorical([None, "a"])


def test_what_is_tried_is_in_the_range_and_short():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        value = parse({"Float": {"low": 0.01, "high": 1, "log": True}}, "x").suggest(trial, "x")
        assert 0.01 <= value <= 1 and value == float(f"{value:.3g}")
        assert parse({"Int": {"low": 2, "high": 4}}, "n").suggest(trial, "n") in (2, 3, 4)
        choice = parse({"Categorical": {"choices": [None, "a"]}}, "c").suggest(trial, "c")
        assert choice in (None, "a")
