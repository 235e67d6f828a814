"""Whether a results folder holds runs of the same settings."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml
from omegaconf import OmegaConf

from benchmarks.errors import SettingsError
from benchmarks.results.paths import SETTINGS, is_finished, runs_of
from benchmarks.results.reading import Tree, comparable, read_saved_settings
from benchmarks.settings.merging import is_object, merge
from benchmarks.settings.schema import Run, dump

MOST_CHANGES = 5  # that a message shows
ABSENT = object()


def check_settings(folder: Path, variants: Iterable[Run]) -> None:
    """Raise a SettingsError, showing the changes, if variants were run with other settings.

    Seeds may differ, and so may the place of the data (`data.root`) and of the computation.
    """
    changed: dict[str, list[str]] = {}
    for run in variants:
        asked = comparable(yaml.safe_load(dump(run)))
        for path in runs_of(folder / run.variant):
            # A finished run that has lost its settings may be of any: reading them names it.
            if is_finished(path) or (path / SETTINGS).exists():
                there = comparable(with_defaults(read_saved_settings(path / SETTINGS)))
                if there != asked:
                    changed.setdefault(run.variant, []).extend(differences(there, asked))
    if changed:
        raise SettingsError(
            f"{folder} holds runs with other settings, of {', '.join(changed)}:\n  "
            + listed(chain.from_iterable(changed.values()))
            + f"\nDelete {folder}, or the folders of these variants in it, or give the comparison "
            "another name (name=...) or place (results=...)."
        )


def listed(changes: Iterable[str]) -> str:
    """Write changes below each other, each once, since most are common to variants and seeds."""
    lines = list(dict.fromkeys(changes))
    more = [f"and {len(lines) - MOST_CHANGES} more"] if len(lines) > MOST_CHANGES else []
    return "\n  ".join(lines[:MOST_CHANGES] + more)


def with_defaults(settings: Tree) -> Tree:
    """Settings that the runner did not have yet when these were written, as they are by default."""
    defaults = yaml.safe_load(OmegaConf.to_yaml(OmegaConf.structured(Run(settings["variant"]))))
    return merge(defaults, settings)


def differences(there: Any, asked: Any, path: str = "") -> Iterator[str]:
    """A line for each setting that changed; an object of another class changed as a whole."""
    of_other_classes = is_object(there) and is_object(asked) and there.keys() != asked.keys()
    if isinstance(there, dict) and isinstance(asked, dict) and not of_other_classes:
        for key in there | asked:
            below = f"{path}.{key}" if path else key
            yield from differences(there.get(key, ABSENT), asked.get(key, ABSENT), below)
    elif there != asked:
        yield f"{path}: {_brief(there)} there, {_brief(asked)} now"


def _brief(value: Any) -> str:
    if value is ABSENT:
        return "not given"
    return shorten(json.dumps(value, ensure_ascii=False, default=str), 60, placeholder=" ...")
