"""Which classes train, which validate and which test."""

from collections.abc import Iterable, Sequence
from unicodedata import normalize

import numpy as np

from benchmarks.errors import nearest
from pml_synthesis._checks import expect

Classes = float | Sequence[str]


def split_classes(
    names: Sequence[str], split: str, validation: Classes, test: Classes, seed: int
) -> list[str]:
    """Return the names of a split, in their order.

    Arguments:
        names: of all classes, or of the groups of classes that stay together.
        split: "train", "val", "trainval" (both together) or "test".
        validation: what leaves the training split for the validation split: a list of names, or
            a fraction of all, drawn by `seed`.
        test: the test split, given alike.
        seed: decides what a fraction means.

    Raises:
        ValueError: if there is no such name, a fraction is not in [0, 1), a name is in both
            lists, or nothing is left for the split.

    Example:
        >>> split_classes(["cat", "dog", "emu"], "train", ["cat"], ["emu"], 0)
        ['dog']
    """
    named = _names("validation", validation, names), _names("test", test, names)
    chosen = _split(names, *named, seed)[split]
    if not chosen:
        raise ValueError(
            f"Expected arguments `validation` and `test` to leave classes for the split "
            f"{split!r}, out of {len(names)}, but got {validation!r} and {test!r}."
        )
    return chosen


def _split(
    names: Sequence[str], validation: float | set[str], test: float | set[str], seed: int
) -> dict[str, list[str]]:
    shuffled = [str(name) for name in np.random.default_rng(seed).permutation(names)]
    # Names go first: a fraction is drawn from the classes that nobody named.
    listed = [classes for classes in (validation, test) if isinstance(classes, set)]
    named = set().union(*listed)
    if len(listed) == 2 and (both := listed[0] & listed[1]):
        raise ValueError(
            f"Expected arguments `validation` and `test` to share no class but both have {both}."
        )
    free = [name for name in shuffled if name not in named]
    chosen = {}
    for argument, classes in (("test", test), ("validation", validation)):
        if isinstance(classes, int | float):
            count = _count(argument, classes, len(names))
            chosen[argument], free = set(free[:count]), free[count:]
        else:
            chosen[argument] = classes
    trainval = [name for name in names if name not in chosen["test"]]
    return {
        "train": [name for name in trainval if name not in chosen["validation"]],
        "val": [name for name in names if name in chosen["validation"]],
        "trainval": trainval,
        "test": [name for name in names if name in chosen["test"]],
    }


def _names(argument: str, classes: Classes, names: Sequence[str]) -> float | set[str]:
    """Return a fraction as it is, and names as those of the classes are written."""
    if isinstance(classes, int | float):
        return classes
    are_several = isinstance(classes, Iterable) and not isinstance(classes, str)
    expect(are_several, argument, "a fraction or a list of classes", classes)
    known, named = set(names), set()
    for given in classes:
        # A folder may be called 1, and accents are written in several ways.
        name = normalize("NFC", str(given))
        if name not in known:
            quoted = "" if isinstance(given, str) else " Names that are no text need quotes."
            raise ValueError(
                f"Expected argument `{argument}` to name classes that are there but got {given!r}: "
                f"{nearest(name, names)}{quoted}"
            )
        named.add(name)
    return named


def _count(argument: str, fraction: float, classes: int) -> int:
    expect(0 <= fraction < 1, argument, "a fraction in [0, 1)", fraction)
    return max(round(fraction * classes), 1 if fraction else 0)
