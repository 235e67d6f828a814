"""Embeddings of folders and datasets, in files that any program reads."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from benchmarks.datasets import ImageClasses
from benchmarks.datasets.class_folders import (
    MOST_NAMES,
    SUFFIXES,
    contents,
    counted,
    picture_files,
    warn_of_formats,
)
from benchmarks.datasets.image_files import read_picture
from benchmarks.datasets.loading import in_order
from benchmarks.errors import SettingsError
from benchmarks.files import atomic_write, write_table
from benchmarks.results.writing import writable
from benchmarks.settings.described import with_transforms
from benchmarks.settings.objects import build
from benchmarks.trained.loading import load_model, read_run
from benchmarks.trained.network import BATCH, TrainedModel

EMBEDDINGS = "embeddings.npy"
TABLE = "embeddings.csv"
T = TypeVar("T")
SPLITS = ("train", "val", "test", "gallery")


class Embedded(NamedTuple):
    """Embeddings [N, D], a row about each, and the messages of files that could not be read."""

    embeddings: Tensor
    table: pd.DataFrame
    failures: list[str]


def embed(
    run: Path, source: str, to: Path, device: str = "cpu", imports: Collection[str] = ()
) -> Embedded:
    """Write the embeddings of pictures, and a table that says of what they are.

    Arguments:
        run: the folder of a finished run.
        source: a folder of pictures, at any depth, a single picture, or a split of the run: one of
            SPLITS.
        to: the folder for EMBEDDINGS, float32 [N, D], and TABLE, in the same order: of a folder or
            a picture the columns `file` and `class`, the top folder that a file is in; of a split
            `index`, `label` and `class`, and `file` where its images have files.
        device: where the network computes.
        imports: packages whose classes the settings of the run may name.

    Raises:
        SettingsError: if there is no such run, source or split, no picture can be read, or the
            files cannot be written.
    """
    model = load_model(run, device, imports)
    if source in SPLITS:
        embedded = _embed_split(model, _split(run, source, imports))
    else:
        embedded = _embed_files(model, Path(source))
    with writable(to):
        to.mkdir(parents=True, exist_ok=True)
        with atomic_write(to / EMBEDDINGS) as unfinished, unfinished.open("wb") as file:
            np.save(file, embedded.embeddings.float().numpy())
        write_table(embedded.table, to / TABLE)
    return embedded


def _embed_files(model: TrainedModel, source: Path) -> Embedded:
    """Embed the pictures of a folder, or a single one; files that cannot be read are left out."""
    folder = source if source.is_dir() else source.parent
    files, failures = _pictures(source)
    embeddings, rows = [], []
    for start in _bar(range(0, len(files), BATCH), len(files)):
        pictures = []
        for path in files[start : start + BATCH]:
            try:
                pictures.append(read_picture(path))
            except OSError as error:
                failures.append(str(error))
                continue
            inside = path.relative_to(folder)
            rows.append((inside.as_posix(), inside.parts[0] if len(inside.parts) > 1 else ""))
        if pictures:
            embeddings.append(model(pictures).cpu())
    if not embeddings:
        but = f", but {summary(failures)}" if failures else ""
        raise SettingsError(
            f"{source}: expected pictures ({', '.join(sorted(SUFFIXES))}){but or '.'}"
        )
    table = pd.DataFrame(rows, columns=["file", "class"])
    return Embedded(torch.cat(embeddings), table, failures)


def _pictures(source: Path) -> tuple[list[Path], list[str]]:
    """Return the pictures of a source, and messages about folders that cannot be read."""
    if source.is_file():
        return [source], []
    if not source.is_dir():
        raise SettingsError(
            f"{source}: there is no such folder or file. Give a folder of pictures, a single one, "
            f"or a split of the run: {', '.join(SPLITS)}."
        )
    found = contents(source)
    warn_of_formats(source, found.files)
    closed = [f"{path}: this folder may not be read" for path in found.closed]
    return picture_files(found.files), closed


def summary(failures: list[str]) -> str:
    """Count and name files that were left out."""
    named = "\n  ".join([*failures[:MOST_NAMES], *(["..."] if len(failures) > MOST_NAMES else [])])
    return f"{counted(len(failures), 'file')} could not be read:\n  {named}"


def _split(run: Path, name: str, imports: Collection[str]) -> ImageClasses:
    """Return a split of a run, transformed as for the test."""
    settings = read_run(run, imports)
    described = getattr(settings.data, name)
    if described is None:
        raise SettingsError(f"{run}: the settings of this run have no split {name!r}.")
    images: ImageClasses = build(described, f"data.{name}")
    return with_transforms(images, settings.transforms.eval, "transforms.eval", settings.seed)


def _embed_split(model: TrainedModel, images: ImageClasses) -> Embedded:
    loader = in_order(Subset(images, range(len(images))), BATCH, workers=0)
    with torch.no_grad():
        embeddings = [
            model.embedder.encode(batch.to(model.device)).cpu()
            for batch, _ in _bar(loader, len(images))
        ]
    labels = images.labels.tolist()
    table = pd.DataFrame({"index": range(len(labels)), "label": labels})
    table["class"] = [images.class_names[label] for label in labels]
    if images.files is not None:
        table["file"] = images.files
    return Embedded(torch.cat(embeddings), table, [])


def _bar(batches: Iterable[T], images: int) -> Iterator[T]:
    """Show how many images of so many were given out in batches, and are embedded."""
    with tqdm(total=images, unit="image", disable=False) as progress:
        for batch in batches:
            yield batch
            progress.update(min(BATCH, images - progress.n))
