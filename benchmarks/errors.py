"""What the runner says about wrong settings."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

MOST = 30  # names that a message shows


class SettingsError(ValueError):
    """Settings that cannot be run; the message names the file and what would be right."""


class KilledRunError(RuntimeError):
    """The process of a run was killed; the message says how the run goes on."""


class FailedRunsError(RuntimeError):
    """Some runs of a comparison failed; the others are finished, and there is a table of them."""


def expect(valid: bool, place: str, expected: str, got: Any) -> None:
    """Raise a SettingsError that says what a setting should be, and is, unless it is valid.

    Example:
        >>> expect(False, "glyphs.yaml: epochs", "at least 0", -1)
        Traceback (most recent call last):
        ...
        benchmarks.errors.SettingsError: glyphs.yaml: epochs: expected at least 0 but got -1.
    """
    if not valid:
        raise SettingsError(f"{place}: expected {expected} but got {got!r}.")


def nearest(name: str, names: Iterable[str]) -> str:
    """Spell out which names are meant by a wrong one: those close to it, or else what there is."""
    known = sorted(names)
    originals = {candidate.lower(): candidate for candidate in known}
    close = [originals[match] for match in get_close_matches(name.lower(), originals, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    more = f" and {len(known) - MOST} more" if len(known) > MOST else ""
    return f"known are {', '.join(known[:MOST])}{more}." if known else "it takes none."
