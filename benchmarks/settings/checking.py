"""What is wrong with settings, told with the file and the place in it."""

import re
from collections.abc import Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from benchmarks.errors import SettingsError, nearest
from benchmarks.settings import objects
from benchmarks.settings.merging import Tree
from benchmarks.settings.schema import File, Run

OBJECTS = (
    *("data.train", "data.val", "data.test", "data.gallery"),
    *("transforms.train", "transforms.eval"),
    *("model.trunk", "model.embedder", "loss", "miner", "sampler"),
    *("optimizers.trunk", "optimizers.embedder", "optimizers.metric_loss"),
    *("schedulers.trunk", "schedulers.embedder", "schedulers.metric_loss"),
)
LOWEST = {
    "epochs": 0,
    "iterations_per_epoch": 1,
    "batch_size": 1,
    "evaluate_every": 1,
    "data.workers": 0,
}


def check_file(tree: Tree, source: str) -> None:
    """Raise a SettingsError if there is a wrong name or value in the settings of a file."""
    _check(File, tree, f"{source}: ")
    for key in ("variant", "seed"):
        if key in tree:
            raise SettingsError(f"{source}: {key}: give the list of {key}s instead.")
    for name, changes in tree.get("variants", {}).items():
        prefix = f"{source}: variants.{name}"
        if not re.fullmatch(r"[\w+-][\w+.-]*", name):
            raise SettingsError(f"{prefix}: expected a name of letters, digits, '_', '+' and '-'.")
        if changes is None:  # left out
            continue
        if not isinstance(changes, dict):
            raise SettingsError(f"{prefix}: expected settings to change but got {changes!r}.")
        for key in ("data", "seed", "variant"):
            if key in changes:
                raise SettingsError(f"{prefix}.{key}: variants differ in anything but this.")
        _check(Run, without_baseline(changes), f"{prefix}.")


def _check(schema: type, tree: Tree, prefix: str) -> None:
    try:
        settings = OmegaConf.merge(OmegaConf.structured(schema), tree)
    except ConfigKeyError as error:
        known = [setting.name for setting in fields(error.object_type or schema)]
        meant = nearest(str(error.key), known)
        raise SettingsError(f"{prefix}{error.full_key}: unknown setting: {meant}") from error
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"{prefix}{error.full_key}: {reason}.") from error
    given: Any = OmegaConf.to_container(settings)
    for path in OBJECTS:
        value = given
        for key in path.split("."):
            value = value[key]
        if isinstance(value, list):
            for index, item in enumerate(value):
                objects.check(item, f"{prefix}{path}[{index}]")
        elif value not in (None, MISSING):
            objects.check(value, prefix + path)


def check_run(run: Run, source: str) -> None:
    """Raise a SettingsError if settings of a run are out of range, or contradict each other."""
    if run.epochs and run.loss is None:
        raise SettingsError(f"{source}: variants.{run.variant}.loss is needed to train epochs.")
    if run.data.val is None and run.data.test is None:
        raise SettingsError(f"{source}: data: one of val and test is needed.")
    if run.data.gallery is not None and run.data.test is None:
        raise SettingsError(f"{source}: data.gallery: test is needed, to retrieve from it.")
    if run.clip_gradient_value is not None and not run.clip_gradient_value > 0:
        got = run.clip_gradient_value
        raise SettingsError(f"{source}: clip_gradient_value: expected more than 0 but got {got}.")
    for key, low in LOWEST.items():
        if (got := attrgetter(key)(run)) < low:
            raise SettingsError(f"{source}: {key}: expected at least {low} but got {got}.")
    if min(run.recall_at, default=1) < 1:
        got = run.recall_at
        raise SettingsError(f"{source}: recall_at: expected positive integers but got {got}.")


def missing(tree: Tree, path: str = "") -> Iterator[str]:
    """Give the names of the settings that somebody else has to set."""
    for key, value in tree.items():
        if value == MISSING:
            yield f"{path}{key}"
        elif isinstance(value, dict):
            yield from missing(value, f"{path}{key}.")


def without_baseline(changes: Tree) -> Tree:
    """Return the settings of a run that a variant changes."""
    return {key: value for key, value in changes.items() if key != "baseline"}
