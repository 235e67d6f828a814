"""Whether images become embeddings, tried with two of each split before anything is run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from benchmarks.datasets import ImageClasses
from benchmarks.datasets.loading import BatchesByPlace
from benchmarks.errors import SettingsError
from benchmarks.training.assembly import Parts


def check(parts: Parts) -> None:
    """Send two images of each split through the transforms and the networks.

    Raises:
        SettingsError: if they do not fit together; the message names the setting.
    """
    for split in ("train", "val", "test", "gallery"):
        images = parts.seen if split == "train" else getattr(parts, split)
        if images is not None:
            _check(parts, images, f"data.{split} with transforms.eval")
    if parts.training is not None:
        _check(parts, parts.training.images, "data.train with transforms.train")


@torch.no_grad()
def _check(parts: Parts, images: ImageClasses, source: str) -> None:
    with _told(source):
        batch, _ = BatchesByPlace(images, seed=0)[0, [0, len(images) - 1]]
    outputs = batch.to(parts.device)
    for name, model in parts.models.items():
        of = "images" if name == "trunk" else "features"
        with _told(f"model.{name}: {of} {_shape(outputs)} of {source}"):
            outputs = _evaluated(model, outputs)
    last = f"model.{name}"
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        raise SettingsError(f"{last}: expected embeddings [B, D] but got {_shape(outputs)}.")
    size = parts.run.embedding_size
    if name == "embedder" and outputs.shape[1] != size:
        raise SettingsError(
            f"embedding_size: expected {outputs.shape[1]}, as {last} gives, but got {size}."
        )


def _evaluated(model: nn.Module, inputs: Tensor) -> Tensor:
    was_training = model.training
    try:
        outputs: Tensor = model.eval()(inputs)
        return outputs
    finally:
        model.train(was_training)


def _shape(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


@contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a module or a transform raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(f"{place}: {reason}") from error
