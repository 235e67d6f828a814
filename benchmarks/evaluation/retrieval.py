"""How well images of unseen classes retrieve each other."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from pytorch_metric_learning.utils.accuracy_calculator import (
    AccuracyCalculator,
    maybe_get_avg_of_avgs,
    nan_accuracy,
    try_getting_not_lone_labels,
)
from pytorch_metric_learning.utils.inference import FaissKNN
from pytorch_metric_learning.utils.logging_presets import HookContainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from benchmarks import distributed
from benchmarks.datasets import ImageClasses
from benchmarks.datasets.loading import in_order
from benchmarks.errors import SettingsError
from benchmarks.evaluation.metrics import MAIN_METRIC

GALLERY = "gallery"
CPU = torch.device("cpu")


class RememberingKNN(FaissKNN):
    """PML's search for neighbours, which keeps what it found last as `neighbours`, [N, K]."""

    neighbours: Tensor

    def __call__(self, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Distances and places of the nearest neighbours, both [N, K]."""
        distances, self.neighbours = super().__call__(*arguments, **options)
        return distances, self.neighbours


class RetrievalAccuracy(AccuracyCalculator):
    """PML's precision@1, R-precision and MAP@R, and the Recall@K that it does not have.

    Recall@K is the share of the queries that have an image of their class among their K nearest
    neighbours.

    Arguments:
        recall_at: the K; each becomes the metric `recall_at_K`.

    Example:
        >>> calculator = RetrievalAccuracy([2])
        >>> points = torch.tensor([[0.0], [1.0], [1.5], [4.0]])
        >>> calculator.get_accuracy(points, torch.tensor([0, 1, 0, 1]))["recall_at_2"]
        0.75
    """

    def __init__(self, recall_at: Sequence[int]) -> None:
        self.recall_at = tuple(recall_at)
        recalls = {f"recall_at_{k}": partial(self._recall, k) for k in self.recall_at}
        # PML finds metrics by the prefix "calculate_".
        vars(self).update({f"calculate_{name}": recall for name, recall in recalls.items()})
        self.metrics = ("precision_at_1", *recalls, "r_precision", MAIN_METRIC)
        super().__init__(
            include=self.metrics, k="max_bin_count", device=CPU, knn_func=RememberingKNN()
        )

    def requires_knn(self) -> list[str]:
        """Return the names of the metrics that need neighbours."""
        return [*super().requires_knn(), *self.metrics]

    def determine_k(self, bin_counts: Tensor, references: int, ref_includes_query: bool) -> int:
        """Return how many neighbours to look up: the K may exceed the size of the classes."""
        most = max(
            super().determine_k(bin_counts, references, ref_includes_query), *self.recall_at, 0
        )
        return min(most, references - int(ref_includes_query))

    def _recall(
        self,
        k: int,
        knn_labels: Tensor,
        query_labels: Tensor,
        not_lone_query_mask: Tensor,
        label_counts: tuple[Tensor, Tensor],
        **_: object,
    ) -> float:
        neighbours, queries = try_getting_not_lone_labels(
            knn_labels, query_labels, not_lone_query_mask
        )
        if neighbours is None:
            return nan_accuracy(label_counts[0], self.return_per_class)
        found = self.label_comparison_fn(queries[:, None], neighbours[:, :k]).any(dim=1)
        return maybe_get_avg_of_avgs(
            found.double(), queries, self.avg_of_avgs, self.return_per_class
        )


class Tester(GlobalEmbeddingSpaceTester):
    """PML's tester, of a Subset of a dataset, with the runner's own loader."""

    def compute_all_embeddings(
        self, dataloader: DataLoader, *models: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Embeddings [N, D] and labels [N, 1] of the images of PML's loader."""
        loader = in_order(dataloader.dataset, self.batch_size, self.dataloader_num_workers)
        return super().compute_all_embeddings(loader, *models)


class SharingTester(Tester):
    """A tester of which each process embeds its part of the images, rank 0 looks up neighbours."""

    def get_all_embeddings(
        self, dataset: ImageClasses, *models: nn.Module, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Embeddings [N, D] and labels [N, 1] of all images."""
        own = Subset(dataset, distributed.own_rows(len(dataset)))
        embeddings, labels = super().get_all_embeddings(own, *models, **options)
        embeddings = distributed.gathered(embeddings)[: len(dataset)]
        _check_finite(embeddings)
        return embeddings, distributed.gathered(labels)[: len(dataset)]

    def get_splits_to_compute_embeddings(
        self, *arguments: Any
    ) -> tuple[list[tuple[str, list[str]]], list[str]]:
        """What to look up, and the splits in one order: that of PML's set differs by process."""
        searched, splits = super().get_splits_to_compute_embeddings(*arguments)
        return searched, sorted(splits)

    def do_knn_and_accuracies(self, *arguments: Any) -> None:
        """Write accuracies into the first argument."""
        if distributed.rank() == 0:
            super().do_knn_and_accuracies(*arguments)


def _check_finite(embeddings: Tensor) -> None:
    """Raise a SettingsError where neighbours of embeddings cannot be told."""
    lost = (~embeddings.isfinite()).any(dim=1).sum().item()
    if lost:
        raise SettingsError(
            f"the embeddings of {lost} of {len(embeddings)} images are not finite (inf or nan). "
            "Where training diverged, lower learning rates (optimizers.*.lr) help, or "
            "clip_gradient_value; otherwise look at the images and the transforms."
        )


def evaluate(
    models: dict[str, nn.Module],
    split: str,
    images: ImageClasses,
    epoch: int,
    recall_at: Sequence[int],
    workers: int,
    hooks: HookContainer | None,
    gallery: ImageClasses | None = None,
    on_neighbours: Callable[[Tensor], None] | None = None,
) -> dict[str, float]:
    """Return the metrics of a split: its images retrieve those of the gallery, or each other.

    `on_neighbours` is called with the places of what each image retrieves, the nearest first, by
    the process that looks them up.
    """
    device = next((p.device for m in models.values() for p in m.parameters()), CPU)
    calculator = RetrievalAccuracy(recall_at)
    tester = SharingTester(
        batch_size=256,
        dataloader_num_workers=workers,
        data_device=device,
        accuracy_calculator=calculator,
        end_of_testing_hook=hooks and hooks.end_of_testing_hook,
    )
    datasets = {split: images} | ({} if gallery is None else {GALLERY: gallery})
    searched = [(split, [split if gallery is None else GALLERY])]
    tester.test(datasets, epoch, models["trunk"], models.get("embedder"), searched)
    if on_neighbours is not None and distributed.rank() == 0:
        on_neighbours(calculator.knn_func.neighbours)
    accuracies = tester.all_accuracies[split]
    return distributed.from_rank_0(
        lambda: {name: accuracies[f"{name}_level0"] for name in calculator.metrics}
    )
