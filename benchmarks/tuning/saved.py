"""What is written down of a search, so that none goes on with other settings."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import yaml

from benchmarks import files
from benchmarks.errors import SettingsError
from benchmarks.results import reading
from benchmarks.results.changes import differences, listed, with_defaults
from benchmarks.settings.merging import Tree
from benchmarks.settings.schema import Tune, dump
from benchmarks.tuning.space import Space

SEARCH = "search.yaml"


def check(folder: Path, spaces: Mapping[str, Space], tune: Tune) -> None:
    """Raise a SettingsError, showing the changes, if variants were searched with other settings.

    The number of trials and of repeats may differ, and so may the place of the data and of the
    computation.
    """
    there, asked = _read(folder), _described(spaces, tune)
    changed = {
        variant: list(differences(_comparable(there[variant]), _comparable(asked[variant])))
        for variant in asked.keys() & there.keys()
    }
    if names := [variant for variant in asked if changed.get(variant)]:
        lines = listed(chain.from_iterable(changed[variant] for variant in names))
        raise SettingsError(
            f"{folder} holds trials with other settings, of {', '.join(names)}:\n  {lines}\n"
            f"Delete {folder}, or give the search another name (name=...) or place (results=...)."
        )


def write(folder: Path, spaces: Mapping[str, Space], tune: Tune) -> None:
    """Write down what is searched, beside what others searched in the folder before."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = _read(folder) | _described(spaces, tune)
    files.write_text(yaml.safe_dump(tree, sort_keys=False), folder / SEARCH)


def _described(spaces: Mapping[str, Space], tune: Tune) -> Tree:
    return {
        variant: {
            "tune": {
                "seeds": list(tune.seeds),
                "prune": tune.prune,
                "search_seed": tune.search_seed,
                "ranges": described_ranges(space),
            },
            "settings": yaml.safe_load(dump(space.run)),
        }
        for variant, space in spaces.items()
    }


def described_ranges(space: Space) -> Tree:
    """Return what is searched in a variant, under the whole path of each setting."""
    return {
        d.place.name: {"range": type(d.range).__name__, **asdict(d.range)} for d in space.dimensions
    }


def _comparable(tree: Tree) -> Tree:
    return {"tune": tree["tune"], **reading.comparable(with_defaults(tree["settings"]))}


def _read(folder: Path) -> Tree:
    path = folder / SEARCH
    if not path.exists():
        return {}
    with reading.undamaged(path, f"Delete {folder}: the same command then starts again."):
        tree: Tree = yaml.safe_load(path.read_text())
        for described in tree.values():
            _comparable(described)
        return tree
