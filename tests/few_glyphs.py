"""Small data sets, a transform, an embedder and losses that fail, for the tests of the runner."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_metric_learning.losses import ProxyNCALoss

from benchmarks.datasets import Glyphs, ImageClasses
from pml_synthesis import BaseAugmenter, SyntheticBatch


def few_glyphs(split: str, num_classes: int) -> ImageClasses:
    """Return the first classes of a split of Glyphs, 24 images of each."""
    glyphs = Glyphs(split)
    rows = glyphs.labels < num_classes
    return ImageClasses(glyphs.images[rows], glyphs.labels[rows], glyphs.class_names[:num_classes])


def patterns(split: str, num_classes: int = 8, count: int = 8) -> ImageClasses:
    """Return noisy copies of random patterns, which take no time to make."""
    generator = torch.Generator().manual_seed(["train", "val", "test"].index(split))
    prototypes = torch.rand(num_classes, 1, 12, 12, generator=generator)
    labels = torch.arange(num_classes).repeat_interleave(count)
    images = prototypes[labels]
    images = images + 0.5 * torch.randn(images.shape, generator=generator)
    return ImageClasses(images, labels, [f"{split} {i}" for i in range(num_classes)])


def tell_if_imported(splits: object, advance: Callable[[str], None], module: str) -> None:
    """A task of a worker process: say whether a module is imported when it starts."""
    advance(f"{module}: {module in sys.modules}")


class Scaled:
    """A transform that multiplies."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.by


class DropoutEmbedder(torch.nn.Sequential):
    """An embedder that draws from the random numbers that everybody shares."""

    def __init__(self, in_features: int, embedding_size: int) -> None:
        super().__init__(torch.nn.Dropout(0.2), torch.nn.Linear(in_features, embedding_size))


class Moved(BaseAugmenter):
    """An augmenter that learns: a copy of each embedding, moved by one vector."""

    requires_proxies = False

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.by = torch.nn.Parameter(torch.zeros(embedding_size))

    def synthesize(self, batch, generator):
        source = torch.arange(len(batch), device=batch.labels.device)
        moved = batch.embeddings + self.by
        return SyntheticBatch(moved, batch.labels, moved[:0], source, term=self.by.sum())


class DoubleTrunk(torch.nn.Sequential):
    """A trunk for `patterns` that computes in float64."""

    def __init__(self, width: int) -> None:
        linear = torch.nn.Linear(144, width)
        super().__init__(torch.nn.Flatten(), linear, torch.nn.Tanh())
        self.double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.double())


def double(module: torch.nn.Module) -> torch.nn.Module:
    """Return a module with weights in float64."""
    return module.double()


def dying(loss: torch.nn.Module, at_call: int, once: str) -> torch.nn.Module:
    """Return a loss that kills its process at a call, if no file `once` is there yet."""
    calls = []

    def count(*_) -> None:
        calls.append(None)
        if len(calls) == at_call and not Path(once).exists():
            Path(once).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    loss.register_forward_pre_hook(count)
    return loss


class FailingOnce(ProxyNCALoss):
    """A loss with an error that shows in training, if no file `once` is there yet."""

    def __init__(self, once: str, **kwargs):
        super().__init__(**kwargs)
        self.once = Path(once)

    def compute_loss(self, *args, **kwargs):
        if not self.once.exists():
            self.once.touch()
            raise ZeroDivisionError("in the middle")
        return super().compute_loss(*args, **kwargs)


class KillingLoss(ProxyNCALoss):
    """Kills the process that started this one at a call, if no file `once` is there yet."""

    def __init__(self, at_call: int, once: str, **kwargs):
        super().__init__(**kwargs)
        self.at_call = at_call
        self.once = Path(once)
        self.calls = 0

    def compute_loss(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.at_call and not self.once.exists():
            self.once.write_text(str(os.getpid()))
            parent = multiprocessing.parent_process()
            assert parent is not None
            os.kill(parent.pid, signal.SIGKILL)
            time.sleep(60)
        return super().compute_loss(*args, **kwargs)
