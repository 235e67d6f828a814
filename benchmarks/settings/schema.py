"""What a settings file may hold, and what it means.

A file describes one run, and under `variants` how the runs to compare differ from it. Models,
losses, datasets and the like are objects, `ClassName: {keyword: value}` (see objects.py).
"""

from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf


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
    where there is none each other. `workers` processes read batches ahead. Splits share neither
    classes nor images, unless `allow_overlap` says that it is meant. With `all_classes` the
    classes of all splits train, and nothing validates or tests: the command `train` sets it.
    """

    train: dict[str, Any] = MISSING
    val: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    gallery: dict[str, Any] | None = None
    root: str | None = None
    workers: int = 0
    fold: int = 0
    allow_overlap: bool = False
    all_classes: bool = False


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
    """The optimisers, as objects; whatever has parameters needs one.

    That of the `augmenter` trains the parameters of augmenters that have some; `metric_loss` the
    others of the loss.
    """

    trunk: dict[str, Any] | None = None
    embedder: dict[str, Any] | None = None
    metric_loss: dict[str, Any] | None = None
    augmenter: dict[str, Any] | None = None


@dataclass
class Schedulers:
    """The schedulers of the optimisers' learning rates, as objects.

    They step after every iteration or epoch, or (`plateau`) with MAP@R after every validation.
    """

    trunk: dict[str, Any] | None = None
    embedder: dict[str, Any] | None = None
    metric_loss: dict[str, Any] | None = None
    augmenter: dict[str, Any] | None = None
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
class TunedVariant:
    """What is searched in one variant beside the ranges of all, or (null) is not."""

    ranges: dict[str, Any] = field(default_factory=dict)


@dataclass
class Tune:
    """How `tune` looks for the best settings of each variant.

    Every variant has as many `trials`, the first of which is the variant as the file gives it. A
    trial trains with each of `seeds`; it ends early where its validation falls behind and `prune`
    is on. The best trial of each variant is run with `repeats` seeds more. `search_seed` decides
    what is tried.

    `ranges` are objects by setting: `Float` and `Int` of `low`, `high` and `log`, and `Categorical`
    of `choices`. A setting is named by the end of its path, with or without the names of classes,
    such as `loss.temperature` or `optimizers.metric_loss.lr`. `variants` add ranges of one variant,
    or change those of all.
    """

    trials: int = 20
    seeds: list[int] = field(default_factory=lambda: [0])
    prune: bool = True
    repeats: int = 3
    search_seed: int = 0
    ranges: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, TunedVariant | None] = field(default_factory=dict)


@dataclass
class File(Run):
    """What a settings file may hold: a run, and how to compare its variants.

    Its settings change those of the files that it `extends`: a path, or a list of paths in turn,
    relative to the file. A variant that becomes null is left out.

    Each of `variants` changes settings of the run, and runs once with each of `seeds`, in
    `parallel_runs` processes (default: one for each core, or one alone where the device is no CPU).
    Results are written to `results`/`name` (default name: that of the file). A variant is compared
    with its `baseline`: by default the one named by what comes before "+" in its name.
    `tune` says what the command of that name searches.
    """

    extends: Any = None
    name: str = MISSING
    results: str = "runs"
    parallel_runs: int | None = None
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    variants: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    tune: Tune | None = None


@cache
def structured(schema: type) -> DictConfig:
    """Return the settings of a schema by default, to be merged with what a file says.

    Made once, as it takes most of the time of reading a file; merging copies them.
    """
    settings: DictConfig = OmegaConf.structured(schema)
    return settings


def dump(run: Run) -> str:
    """Write the settings of a run as YAML, equal settings as equal texts."""
    return OmegaConf.to_yaml(OmegaConf.structured(run), sort_keys=True)
