"""Settings of the benchmark: a YAML file checked against dataclasses, with `a.b=c` on top.

A file describes one run, and under `variants` how the runs to compare differ from it. Models,
losses, datasets and the like are objects, `ClassName: {keyword: value}` (see objects.py).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from benchmarks.errors import SettingsError, nearest
from benchmarks.processes import cores
from benchmarks.settings import objects

Tree = dict[str, Any]
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
COMMAND_LINE = "command line"


class Half(Enum):
    """What autocast computes in."""

    bfloat16 = "bfloat16"
    float16 = "float16"


class Step(Enum):
    """When schedulers take their steps."""

    iteration = "iteration"
    epoch = "epoch"
    plateau = "plateau"


@dataclass
class Data:
    """The datasets, as objects; `root` and `fold` are for them to refer to, as `${data.root}`.

    The classes of `val` choose the epoch: without it, the last one is taken. The classes of `test`
    are looked at once, at the end; without it, never. Test images retrieve those of `gallery`, or
    where there is none each other. `workers` processes read batches ahead.
    """

    train: dict[str, Any] = MISSING
    val: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    gallery: dict[str, Any] | None = None
    root: str | None = None
    workers: int = 0
    fold: int = 0


@dataclass
class Transforms:
    """What happens to batches of images, as lists of objects, in turn."""

    train: list[dict[str, Any]] = field(default_factory=list)
    eval: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Model:
    """The networks, as objects; without an embedder the trunk's features are the embeddings.

    With `freeze_batch_norm` the trunk's batch norm keeps the statistics that it starts with.
    """

    trunk: dict[str, Any] = MISSING
    embedder: dict[str, Any] | None = None
    freeze_batch_norm: bool = False


@dataclass
class Optimizers:
    """The optimisers, as objects; whatever has parameters needs one."""

    trunk: dict[str, Any] | None = None
    embedder: dict[str, Any] | None = None
    metric_loss: dict[str, Any] | None = None


@dataclass
class Schedulers:
    """The schedulers of the optimisers' learning rates, as objects.

    They step after every iteration or epoch, or (`plateau`) with MAP@R after every validation.
    """

    trunk: dict[str, Any] | None = None
    embedder: dict[str, Any] | None = None
    metric_loss: dict[str, Any] | None = None
    by: Step = Step.iteration


@dataclass
class Run:
    """All that decides the outcome of one run.

    An epoch is `iterations_per_epoch` steps; with 0 epochs the models stay untrained. Every
    `evaluate_every` epochs, and after the last one, the validation classes are looked at. With
    `autocast` the models train in half precision (in float16 with scaled gradients), the loss and
    all evaluation stay in float32. No component of a gradient exceeds `clip_gradient_value`.
    """

    variant: str = MISSING
    seed: int = 0
    data: Data = field(default_factory=Data)
    transforms: Transforms = field(default_factory=Transforms)
    model: Model = field(default_factory=Model)
    embedding_size: int = 64
    loss: dict[str, Any] | None = None
    miner: dict[str, Any] | None = None
    sampler: dict[str, Any] = MISSING
    batch_size: int = 64
    epochs: int = 20
    iterations_per_epoch: int = 42
    optimizers: Optimizers = field(default_factory=Optimizers)
    schedulers: Schedulers = field(default_factory=Schedulers)
    evaluate_every: int = 1
    recall_at: list[int] = field(default_factory=lambda: [2, 4, 8])
    device: str = "cpu"
    autocast: bool = False
    autocast_dtype: Half = Half.bfloat16
    clip_gradient_value: float | None = None


@dataclass
class File(Run):
    """What a settings file may hold: a run, and how to compare its variants.

    Each of `variants` changes settings of the run, and runs once with each of `seeds`, in
    `parallel_runs` processes (default: one for each core, or one alone where the device is no CPU).
    Results are written to `results`/`name` (default name: that of the file). A variant is compared
    with its `baseline`: by default the one named by what comes before "+" in its name.
    """

    name: str = MISSING
    results: str = "runs"
    parallel_runs: int | None = None
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What a settings file describes.

    Arguments:
        source: the file.
        folder: where the results go.
        parallel_runs: the number of processes.
        variants: a run of each variant, whatever its seed.
        baselines: what each variant is compared with, if with anything.
        runs: those that are wanted.
    """

    source: str
    folder: Path
    parallel_runs: int
    variants: tuple[Run, ...]
    baselines: dict[str, str | None]
    runs: tuple[Run, ...]


def load(path: str | Path, overrides: Sequence[str] = (), variant: str | None = None) -> Comparison:
    """Read and check a settings file.

    Arguments:
        path: of a YAML file.
        overrides: `a.b=c`, each of which sets what `a: {b: c}` in the file would.
        variant: the only one wanted; default all of them.

    Raises:
        SettingsError: if the file cannot be read, or a key, a class, a keyword or a value is
            wrong or missing. The message names the file, and the nearest names that are right.
    """
    tree = _read(Path(path))
    _check_file(tree, str(path))
    if overrides:
        tree = merge(tree, _parse(overrides))
        _check_file(tree, COMMAND_LINE)
    file = OmegaConf.merge(OmegaConf.structured(File), {"name": Path(path).stem}, tree)
    for key in ("variants", "seeds"):
        if not getattr(file, key):
            raise SettingsError(f"{path}: {key}: at least one is needed.")
    if variant is not None and variant not in file.variants:
        known = nearest(variant, file.variants)
        raise SettingsError(f"{path}: unknown variant {variant!r}: {known}")
    variants = tuple(_run(tree, name, str(path)) for name in file.variants)
    wanted = [run for run in variants if variant in (None, run.variant)]
    return Comparison(
        source=str(path),
        folder=Path(file.results, file.name),
        parallel_runs=file.parallel_runs or (cores() if file.device == "cpu" else 1),
        variants=variants,
        baselines={name: _baseline(name, file.variants, str(path)) for name in file.variants},
        runs=tuple(replace(run, seed=seed) for seed in file.seeds for run in wanted),
    )


def dump(run: Run) -> str:
    """Write the settings of a run as YAML, equal settings as equal texts."""
    return OmegaConf.to_yaml(OmegaConf.structured(run), sort_keys=True)


def describe(comparison: Comparison) -> str:
    """Write all that a settings file resolves to, as YAML."""
    variants = {
        run.variant: OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)
        for run in comparison.variants
    }
    for tree in variants.values():
        del tree["variant"], tree["seed"]
    tree = {
        "results": str(comparison.folder),
        "parallel_runs": comparison.parallel_runs,
        "seeds": list(dict.fromkeys(run.seed for run in comparison.runs)),
        "variants": {
            run.variant: {"baseline": comparison.baselines[run.variant]} | variants[run.variant]
            for run in comparison.runs
        },
    }
    return OmegaConf.to_yaml(OmegaConf.create(tree))


def merge(base: Any, changes: Any) -> Any:
    """Change a tree of settings: mappings key by key, but an object of another class as a whole.

    Example:
        >>> base = {"seed": 1, "loss": {"ArcFaceLoss": {"margin": 20}}}
        >>> merge(base, {"loss": {"ArcFaceLoss": {"scale": 9}}})
        {'seed': 1, 'loss': {'ArcFaceLoss': {'margin': 20, 'scale': 9}}}
        >>> merge(base, {"loss": {"CosFaceLoss": {}}})
        {'seed': 1, 'loss': {'CosFaceLoss': {}}}
    """
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    if objects.is_object(base) and objects.is_object(changes) and base.keys() != changes.keys():
        return changes
    return base | {key: merge(base.get(key), value) for key, value in changes.items()}


def _read(path: Path) -> Tree:
    try:
        tree: Any = OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}.") from error
    except YAMLError as error:
        raise SettingsError(f"{path}: no valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected settings, `key: value`, but got {tree!r}.")
    return tree


def _parse(overrides: Sequence[str]) -> Tree:
    for override in overrides:
        if "=" not in override:
            raise SettingsError(f"{COMMAND_LINE}: expected key=value but got {override!r}.")
    tree: Any = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    return tree


def _check_file(tree: Tree, source: str) -> None:
    _check(File, tree, f"{source}: ")
    for key in ("variant", "seed"):
        if key in tree:
            raise SettingsError(f"{source}: {key}: give the list of {key}s instead.")
    for name, changes in tree.get("variants", {}).items():
        prefix = f"{source}: variants.{name}"
        if not re.fullmatch(r"[\w+-][\w+.-]*", name):
            raise SettingsError(f"{prefix}: expected a name of letters, digits, '_', '+' and '-'.")
        if not isinstance(changes, dict):
            raise SettingsError(f"{prefix}: expected settings to change but got {changes!r}.")
        for key in ("data", "seed", "variant"):
            if key in changes:
                raise SettingsError(f"{prefix}.{key}: variants differ in anything but this.")
        _check(Run, _without_baseline(changes), f"{prefix}.")


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


def _run(tree: Tree, variant: str, source: str) -> Run:
    run_keys = [setting.name for setting in fields(Run)]
    shared = {key: value for key, value in tree.items() if key in run_keys}
    changes = _without_baseline(tree["variants"][variant])
    tree = merge(shared, changes | {"variant": variant})
    for key in _missing(tree):
        raise SettingsError(
            f"{source}: {key} is not given: set it in the file, or add {key}=VALUE to the command."
        )
    try:
        run: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Run), tree))
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"{source}: {error.full_key}: {reason}.") from error
    if run.epochs and run.loss is None:
        raise SettingsError(f"{source}: variants.{variant}.loss is needed to train epochs.")
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
    return run


def _without_baseline(changes: Tree) -> Tree:
    return {key: value for key, value in changes.items() if key != "baseline"}


def _baseline(variant: str, variants: Mapping[str, Tree], source: str) -> str | None:
    plain = variant.split("+")[0]
    default = plain if plain != variant and plain in variants else None
    baseline = variants[variant].get("baseline", default)
    if baseline is not None and (baseline not in variants or baseline == variant):
        others = nearest(str(baseline), variants.keys() - {variant})
        raise SettingsError(
            f"{source}: variants.{variant}.baseline: no other variant {baseline!r}: {others}"
        )
    return baseline


def _missing(tree: Tree, path: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if value == MISSING:
            yield f"{path}{key}"
        elif isinstance(value, dict):
            yield from _missing(value, f"{path}{key}.")
