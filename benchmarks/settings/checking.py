"""What is wrong with settings, told with the file and the place in it."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import reduce
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import torch
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
)
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Sampler

from benchmarks.datasets import ImageClasses
from benchmarks.errors import SettingsError, expect, nearest
from benchmarks.settings import objects
from benchmarks.settings.merging import Tree
from benchmarks.settings.schema import File, Run, structured

LEARNING = ("trunk", "embedder", "metric_loss", "augmenter")
# Where objects stand, and what of.
OBJECTS: dict[str, Any] = {
    **dict.fromkeys(("data.train", "data.val", "data.test", "data.gallery"), ImageClasses),
    **dict.fromkeys(("transforms.train", "transforms.eval"), Callable),
    **dict.fromkeys(("model.trunk", "model.embedder", "loss", "miner"), nn.Module),
    "sampler": Sampler,
    **{f"optimizers.{name}": Optimizer for name in LEARNING},
    **{f"schedulers.{name}": LRScheduler for name in LEARNING},
}
LOWEST = {
    "epochs": 0,
    "iterations_per_epoch": 1,
    "batch_size": 1,
    "embedding_size": 1,
    "evaluate_every": 1,
    "data.workers": 0,
}
# Bytes of a name in a path. Files of a variant have more in theirs: its pictures, until they are
# whole, embeddings_NAME.png.12345678.unfinished.
LONGEST = 255
LARGEST = 2**64
LONGEST_VARIANT = 200
# Of what stands in the folder of a comparison beside those of its variants.
FILE_ENDINGS = (".csv", ".md", ".png", ".yaml", ".unfinished")


def check_file(tree: Tree, source: str, imports: Collection[str]) -> None:
    """Raise a SettingsError if there is a wrong name or value in the settings of a file."""
    _check(File, tree, f"{source}: ", imports)
    for key in ("variant", "seed"):
        if key in tree:
            raise SettingsError(f"{source}: {key}: give the list of {key}s instead.")
    variants = tree.get("variants", {})
    expect(isinstance(variants, dict), f"{source}: variants", "`name: {...}`", variants)
    for name, changes in variants.items():
        prefix = f"{source}: variants.{name}"
        if not re.fullmatch(r"[\w+-][\w+.-]*", name):
            raise SettingsError(f"{prefix}: expected a name of letters, digits, '_', '+' and '-'.")
        length = len(name.encode())
        expected = f"a name of at most {LONGEST_VARIANT} bytes, which folders are called by,"
        expect(length <= LONGEST_VARIANT, f"{source}: variants.{name[:20]}...", expected, length)
        if name.lower().endswith(FILE_ENDINGS):
            raise SettingsError(
                f"{prefix}: expected another name: its folder would stand among files of the "
                f"results, such as summary.md. No variant ends with {', '.join(FILE_ENDINGS)}."
            )
        if changes is None:  # left out
            continue
        expect(isinstance(changes, dict), prefix, "settings to change", changes)
        for key in ("data", "seed", "variant"):
            if key in changes:
                raise SettingsError(f"{prefix}.{key}: variants differ in anything but this.")
        _check(Run, without_baseline(changes), f"{prefix}.", imports)


def _check(schema: type, tree: Tree, prefix: str, imports: Collection[str]) -> None:
    try:
        with told(prefix):
            settings = OmegaConf.merge(structured(schema), tree)
    except ConfigKeyError as error:
        known = [setting.name for setting in fields(error.object_type or schema)]
        meant = nearest(str(error.key), known)
        raise SettingsError(f"{prefix}{error.full_key}: unknown setting: {meant}") from error
    except (TypeError, SettingsError) as error:
        # OmegaConf does not say where a list is in the place of a mapping, and the like.
        for place, value in _misplaced(schema, tree, ()):
            expected = "a list" if _takes_a_list(schema, place) else "`name: value`"
            raise SettingsError(
                f"{prefix}{'.'.join(place)}: expected {expected} but got {value!r}."
            ) from error
        raise
    _check_truth_values(schema, tree, prefix)
    check_objects(OmegaConf.to_container(settings), prefix, imports)


def _check_truth_values(schema: type, tree: Tree, prefix: str) -> None:
    """Raise a SettingsError for numbers that OmegaConf would take for true."""
    hints = get_type_hints(schema)
    for key, value in tree.items():
        hint = hints.get(key)
        if is_dataclass(hint) and isinstance(value, dict):
            _check_truth_values(hint, value, f"{prefix}{key}.")
        elif hint is bool and isinstance(value, int | float):
            expect(value in (0, 1), prefix + key, "true or false", value)


def _misplaced(
    schema: type, tree: Tree, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give the settings that OmegaConf refuses without saying where they are."""
    for key, value in tree.items():
        place = (*above, str(key))
        if not _is_misplaced(schema, place, value):
            continue
        if isinstance(value, dict) and not _is_misplaced(schema, place, {}):
            yield from _misplaced(schema, value, place)
        else:
            yield place, value


def _is_misplaced(schema: type, place: tuple[str, ...], value: Any) -> bool:
    error = _refusal(schema, place, value)
    if error is None:
        return False
    alone = not isinstance(value, list) and _takes_a_list(schema, place)
    return alone or not getattr(error, "full_key", None)


def _takes_a_list(schema: type, place: tuple[str, ...]) -> bool:
    return _refusal(schema, place, []) is None


def _refusal(schema: type, place: tuple[str, ...], value: Any) -> Exception | None:
    """Return what OmegaConf raises about a single setting, if it does."""
    tree = reduce(lambda inner, name: {name: inner}, reversed(place), value)
    try:
        OmegaConf.merge(structured(schema), tree)
    except (TypeError, OmegaConfBaseException) as error:
        return error
    return None


def check_objects(settings: Any, prefix: str, imports: Collection[str]) -> None:
    """Raise a SettingsError if settings hold an object that cannot be made, or may not be."""
    for path, kind in OBJECTS.items():
        value = settings
        for key in path.split("."):
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, str):  # a reference, which is checked once it is resolved
                value = None
            else:
                expect(value is None, prefix + path, "`name: value`", value)
        if isinstance(value, list):
            for index, item in enumerate(value):
                objects.check(item, f"{prefix}{path}[{index}]", kind, imports)
        elif value not in (None, MISSING):
            objects.check(value, prefix + path, kind, imports)


@contextmanager
def told(prefix: str) -> Iterator[None]:
    """Turn what OmegaConf raises about values into a SettingsError that names the setting."""
    try:
        yield
    except ConfigKeyError:
        raise
    except InterpolationToMissingValueError as error:
        raise SettingsError(
            f"{prefix}{error.full_key}: refers to the seed, which no setting may depend on: runs "
            "of a variant differ in nothing but their seed, from which all is drawn."
        ) from error
    except RecursionError as error:
        raise SettingsError(f"{prefix}settings refer to each other too deeply.") from error
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        place = f"{key}: " if (key := error.full_key or error.key) else ""
        raise SettingsError(f"{prefix}{place}{reason.rstrip('.')}.") from error


def check_comparison(file: File, source: str) -> None:
    """Raise a SettingsError unless there are variants, seeds and processes to run them."""
    for key in ("variants", "seeds"):
        if not getattr(file, key):
            raise SettingsError(f"{source}: {key}: at least one is needed.")
    for key in ("name", "results"):
        _check_path(getattr(file, key), f"{source}: {key}")
    seeds, place = list(file.seeds), f"{source}: seeds"
    expect(all(isinstance(seed, int) for seed in seeds), place, "a list of integers", seeds)
    expect(min(seeds) >= 0, place, "non-negative integers", seeds)
    # Tables keep them as floating-point numbers.
    expect(max(seeds) < 2**53, place, "integers below 2**53", seeds)
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise SettingsError(
            f"{source}: seeds: expected each seed once but got {', '.join(map(str, twice))} more "
            "than once: one seed is one run."
        )
    if (processes := file.parallel_runs) is not None:
        expect(processes >= 1, f"{source}: parallel_runs", "at least 1", processes)


def _check_path(path: str, place: str) -> None:
    expect("\0" not in path, place, "no NUL character in a path", path)
    if any(len(os.fsencode(part)) > LONGEST for part in Path(path).parts):
        raise SettingsError(f"{place}: expected names of at most {LONGEST} bytes in a path.")


def check_run(run: Run, source: str) -> None:
    """Raise a SettingsError if settings of a run are out of range, or contradict each other."""
    if run.epochs and run.loss is None:
        raise SettingsError(f"{source}: variants.{run.variant}.loss is needed to train epochs.")
    if run.data.val is None and run.data.test is None and not run.data.all_classes:
        raise SettingsError(
            f"{source}: data: one of val and test is needed; the command `train` needs none."
        )
    if run.data.gallery is not None and run.data.test is None:
        raise SettingsError(f"{source}: data.gallery: test is needed, to retrieve from it.")
    try:
        torch.device(run.device)
    except RuntimeError as error:
        raise SettingsError(
            f"{source}: device: expected a device of torch, such as cpu, cuda or cuda:1, but got "
            f"{run.device!r}."
        ) from error
    if (most := run.clip_gradient_value) is not None:
        expect(most > 0, f"{source}: clip_gradient_value", "more than 0", most)
    for key, low in LOWEST.items():
        got = attrgetter(key)(run)
        expect(got >= low, f"{source}: {key}", f"at least {low}", got)
    places = run.recall_at
    positive = all(isinstance(k, int) and k >= 1 for k in places)
    expect(positive, f"{source}: recall_at", "positive integers", places)


def check_values(value: Any, place: str) -> None:
    """Raise a SettingsError for resolved values that cannot be written down and read again."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            check_values(item, f"{place}.{key}")
    elif isinstance(value, str) and "${" in value:
        raise SettingsError(
            f"{place}: expected no text with '${{' in it, which would refer to a setting once it "
            f"is saved, but got {value!r}."
        )
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise SettingsError(f"{place}: expected a number below 2**64 in size.")


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
