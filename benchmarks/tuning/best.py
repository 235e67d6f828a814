"""The settings file of the best trials, which `compare` runs."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml

from benchmarks import files
from benchmarks.settings.files import parse
from benchmarks.settings.merging import merge
from benchmarks.settings.reading import Comparison
from benchmarks.tuning.results import Found
from benchmarks.tuning.study import values_of

BEST = "best.yaml"
HEAD = """\
# The best of {trials} trials of each variant on validation classes, without a look at test classes.
# Where a variant has no settings here, it is best as it is in the file that this one extends.
"""


def write_best(
    found: Sequence[Found],
    comparison: Comparison,
    overrides: Sequence[str],
    imports: Collection[str],
) -> Path:
    """Write the settings file that extends that of the search.

    Arguments:
        found: what was found of each variant; without a finished trial it is as it was given.
        comparison: the settings file, with the folder of the results.
        overrides: those of the command line, which belong to it.
        imports: packages that these may name.
    """
    path = comparison.folder / BEST
    source = os.path.relpath(Path(comparison.source).resolve(), path.parent.resolve())
    given = {k: v for k, v in parse(overrides, imports).items() if k != "tune"}
    changes = {f.study.variant: f.study.space.change(values_of(f.best)) for f in found}
    tree = merge(given, {"variants": {name: change for name, change in changes.items() if change}})
    name = comparison.folder.name.removesuffix("_tuning") + "_best"
    text = yaml.safe_dump({"extends": source, **tree, "name": name}, sort_keys=False)
    files.write_text(HEAD.format(trials=comparison.tune.trials) + text, path)
    return path
