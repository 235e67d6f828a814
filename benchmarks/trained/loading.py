"""From the folder of a run to its trained network."""

import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from benchmarks import files
from benchmarks.datasets import CenterCrop, RandomResizedCrop
from benchmarks.errors import SettingsError
from benchmarks.models.pretrained import without_weights
from benchmarks.results import paths, reading
from benchmarks.settings.checking import check_objects
from benchmarks.settings.objects import build, find
from benchmarks.settings.schema import Run
from benchmarks.trained.network import Embedder, TrainedModel

Step = Callable[[Any], Any]


def load_model(
    folder: str | Path, device: str | torch.device = "cpu", imports: Collection[str] = ()
) -> TrainedModel:
    """Return the network of a finished run, with the preprocessing that it was tested with.

    Arguments:
        folder: of the run, such as runs/glyphs/proxy_nca+ps/seed_0.
        device: where the network is to be.
        imports: packages whose classes the settings of the run may name, beside the libraries'.

    Raises:
        SettingsError: if the folder holds no finished run, a file in it is damaged, its settings
            name code that is not permitted, or the device is not there; the message says what to
            do.

    Example:
        >>> model = load_model("runs/photos/proxy_anchor/seed_0")  # doctest: +SKIP
        >>> model(["one.jpg", "another.jpg"]).shape  # doctest: +SKIP
        torch.Size([2, 64])
    """
    run = read_run(folder, imports)
    path = Path(folder, paths.MODELS)
    advice = "Delete the folder of the run: the command that made it makes it again."
    with reading.undamaged(path, advice):
        weights = files.load(path)
        models = {name: _loaded(run, name, weights) for name in ("trunk", "embedder")}
    prepare, transforms = preprocessing(run)
    embedder = Embedder(models["trunk"], models["embedder"], transforms)
    model = TrainedModel(embedder, prepare).eval()
    try:
        return model.to(device)
    except Exception as error:  # of whatever kind torch raises for devices that are not there
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device: {str(device)!r} cannot be used: {reason}") from error


def read_run(folder: str | Path, imports: Collection[str] = ()) -> Run:
    """Return the settings of a finished run.

    Raises:
        SettingsError: if the folder holds none, or its settings are damaged or not permitted.
    """
    folder = Path(folder)
    _check_finished(folder)
    path = folder / paths.SETTINGS
    tree = reading.read_saved_settings(path)
    with reading.undamaged(path, "Delete the folder of the run and make it again."):
        settings = OmegaConf.merge(OmegaConf.structured(Run), tree)
        check_objects(OmegaConf.to_container(settings, resolve=True), f"{path}: ", imports)
        run: Any = OmegaConf.to_object(settings)
    return run


def preprocessing(run: Run) -> tuple[Step | None, list[Step]]:
    """Return how pictures become images in [0, 1], if that is known, and what changes these."""
    described = run.data.test or run.data.val or run.data.train
    ((name, given),) = described.items()
    given = given or {}
    transforms = [build(item, "transforms.eval") for item in run.transforms.eval]
    if given.get("transform") is not None:
        transforms.insert(0, build(given["transform"], "data.transform"))
    steps = _preparation(find(name), given)
    if steps is None and transforms and isinstance(transforms[0], CenterCrop | RandomResizedCrop):
        steps = []
    if steps is None:
        return None, transforms
    prepare, *others = [*steps, *transforms]
    return prepare, others


def _preparation(dataset: Any, given: dict[str, Any]) -> Sequence[Step] | None:
    describe = getattr(dataset, "preparation", None)
    if describe is None:
        return None
    known = inspect.signature(describe).parameters
    return describe(**{key: value for key, value in given.items() if key in known})


def _loaded(run: Run, name: str, weights: dict[str, Any]) -> nn.Module | None:
    described = getattr(run.model, name)
    if described is None:
        return None
    offered = {"embedding_size": run.embedding_size}
    model: nn.Module = build(without_weights(described), f"model.{name}", **offered)
    model.load_state_dict(weights[name])
    return model


def _check_finished(folder: Path) -> None:
    if not folder.is_dir():
        raise SettingsError(f"{folder}: there is no such folder. Give that of a run.")
    if not (folder / paths.SETTINGS).exists():
        inside = sorted(path.parent for path in folder.glob(f"**/seed_*/{paths.MODELS}"))
        meant = f"such as {inside[0]}" if inside else "as runs/<name>/<variant>/seed_<number>"
        raise SettingsError(
            f"{folder}: no run of the benchmark: {paths.SETTINGS} is missing. Give the folder of "
            f"one run, {meant}."
        )
    if not paths.is_finished(folder) or not (folder / paths.MODELS).exists():
        raise SettingsError(
            f"{folder}: this run is not finished. The command that started it goes on with it."
        )
