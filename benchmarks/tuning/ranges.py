"""What is searched of a setting: a range of numbers, or choices."""

from dataclasses import MISSING, dataclass, fields
from typing import Any

from optuna.trial import Trial

from benchmarks.errors import SettingsError, expect, nearest
from benchmarks.settings.merging import is_object

Scalar = float | int | str | bool | None


@dataclass(frozen=True)
class Float:
    """Numbers from `low` to `high`, evenly or (`log`) evenly in their logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            expect(_is_number(getattr(self, name)), name, "a number", getattr(self, name))
        expect(isinstance(self.log, bool), "log", "true or false", self.log)
        if not self.low < self.high:
            raise ValueError(f"the range is empty: low {self.low} is not below high {self.high}.")
        expect(not self.log or self.low > 0, "low", "more than 0, for a log scale,", self.low)

    def __contains__(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    def suggest(self, trial: Trial, name: str) -> float:
        """Return what to try, in three digits: more would be hard to read and say no more."""
        return float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.3g}")


@dataclass(frozen=True)
class Int(Float):
    """Whole numbers from `low` to `high`."""

    low: int
    high: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low", "high"):
            value = getattr(self, name)
            expect(isinstance(value, int), name, "a whole number", value)

    def suggest(self, trial: Trial, name: str) -> int:
        """Return what to try."""
        return trial.suggest_int(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Categorical:
    """One of `choices`: numbers, texts, true, false or null."""

    choices: list[Scalar]

    def __post_init__(self) -> None:
        several = isinstance(self.choices, list) and len(self.choices) >= 2
        expect(several, "choices", "two or more", self.choices)
        for choice in self.choices:
            scalars = "numbers, texts, true, false or null"
            expect(isinstance(choice, Scalar), "choices", scalars, choice)

    def __contains__(self, value: object) -> bool:
        return value in self.choices

    def suggest(self, trial: Trial, name: str) -> Scalar:
        """Return what to try."""
        return trial.suggest_categorical(name, self.choices)


Range = Float | Int | Categorical
KINDS: dict[str, type[Range]] = {kind.__name__: kind for kind in (Float, Int, Categorical)}


def parse(described: Any, path: str) -> Range:
    """Make a range of `Kind: {keyword: value}`.

    Arguments:
        described: as a settings file has it.
        path: where it stands, for messages.

    Raises:
        SettingsError: if there is no such kind, or the range is empty or wrong otherwise.
    """
    example = "such as `Float: {low: 0.01, high: 1, log: true}`,"
    expect(is_object(described), path, f"one of {', '.join(KINDS)}, {example}", described)
    ((kind, given),) = described.items()
    if kind not in KINDS:
        raise SettingsError(f"{path}: unknown type of range {kind!r}: {nearest(kind, KINDS)}")
    _check_keywords(kind, given, f"{path}.{kind}")
    try:
        return KINDS[kind](**given)
    except ValueError as error:
        raise SettingsError(f"{path}.{kind}: {error}") from error


def _check_keywords(kind: str, given: Any, path: str) -> None:
    expect(isinstance(given, dict), path, "{keyword: value}", given)
    known = {field.name: field for field in fields(KINDS[kind])}
    for key in given.keys() - known.keys():
        raise SettingsError(f"{path}: unknown keyword {key!r}: {nearest(str(key), known)}")
    for key, field in known.items():
        if key not in given and field.default is MISSING:
            raise SettingsError(f"{path}.{key} is needed.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
