"""Metrics against definitions written out."""

import numpy as np
import pytest
import torch

from benchmarks.datasets import ImageClasses
from benchmarks.errors import SettingsError
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.evaluation.retrieval import RetrievalAccuracy, evaluate
from benchmarks.models import PixelTrunk


def neighbours(points: np.ndarray) -> np.ndarray:
    """Rows of the others, the nearest first."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return distances.argsort(axis=1)[:, :-1]


@pytest.mark.parametrize("sizes", [[3, 3, 3], [2, 5, 8]])
def test_metrics_are_their_definitions(sizes):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    points = rng.normal(size=(len(labels), 4)).astype(np.float32)
    hits = labels[neighbours(points)] == labels[:, None]
    found = RetrievalAccuracy([1, 2, 6]).get_accuracy(torch.tensor(points), torch.tensor(labels))
    expected = {f"recall_at_{k}": hits[:, :k].any(axis=1).mean() for k in (1, 2, 6)}
    expected["precision_at_1"] = hits[:, 0].mean()
    r_precision, average_precision = [], []
    for row, label in zip(hits, labels, strict=True):
        r = sizes[label] - 1
        r_precision.append(row[:r].mean())
        precision = row[:r].cumsum() / np.arange(1, r + 1)
        average_precision.append((precision * row[:r]).sum() / r)
    expected["r_precision"] = np.mean(r_precision)
    expected[MAIN_METRIC] = np.mean(average_precision)
    assert found == pytest.approx(expected)
    assert found["recall_at_1"] == found["precision_at_1"]


def test_more_neighbours_than_there_are_images_count_them_all():
    points, labels = torch.randn(5, 2), torch.tensor([0, 0, 1, 1, 1])
    assert RetrievalAccuracy([50]).get_accuracy(points, labels)["recall_at_50"] == 1


def test_images_that_are_alone_in_their_class_do_not_count():
    points = torch.tensor([[0.0], [1.0], [2.0], [2.1]])
    recall = RetrievalAccuracy([1]).get_accuracy(points, torch.tensor([0, 1, 2, 2]))["recall_at_1"]
    assert recall == 1


def on_a_circle(*degrees: float) -> ImageClasses:
    """Images of two pixels, of classes 0 and 1."""
    angles = torch.tensor(degrees).deg2rad()
    images = torch.stack([angles.cos(), angles.sin()], dim=1).view(-1, 1, 1, 2)
    return ImageClasses(images, torch.tensor([0, 1]), ["a", "b"])


def test_queries_search_the_gallery_alone():
    # Each query is nearer to the other one than to the image of its class.
    queries, gallery = on_a_circle(0, 10), on_a_circle(-20, 30)
    models = {"trunk": PixelTrunk()}
    metrics = evaluate(models, "test", queries, 1, [1], 0, None, gallery)
    assert set(metrics.values()) == {1.0}
    swapped = on_a_circle(30, -20)
    assert evaluate(models, "test", queries, 1, [1], 0, None, swapped)["recall_at_1"] == 0


class Diverged(PixelTrunk):
    """Embeds one image as what diverged weights give."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        embeddings = super().forward(images).clone()
        embeddings[0, 0] = self.value
        return embeddings


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("gallery", [None, on_a_circle(-20, 30)])
def test_embeddings_that_are_not_finite_are_told_with_what_helps(value, gallery):
    models = {"trunk": Diverged(value)}
    with pytest.raises(SettingsError, match="1 of 2 images are not finite .*learning rates"):
        evaluate(models, "test", on_a_circle(0, 10), 1, [1], 0, None, gallery)
