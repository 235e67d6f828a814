"""A hook of PML's trainers for augmenters that learn from the whole training set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ._checks import expect, expect_integer
from .augmenters import BaseAugmenter
from .pml import process_label


class EstimateAfterEpochs:
    """Lets augmenters estimate their statistics after epochs: an `end_of_epoch_hook` of PML's
    trainers.

    The embeddings of the training set are computed in eval mode, without gradients and not
    normalised, and are given to every augmenter inside of the losses of the trainer that asks for
    them (:attr:`~pml_synthesis.BaseAugmenter.requires_estimate`). They are kept until the end of
    the estimate, on the device that the models leave them on. Each process of a distributed run
    computes all of them.

    Args:
        dataset: the training set, best without random transforms, or None for the one of the
            trainer.
        every: the number of epochs from one estimate to the next.
        start: the first epoch after which there is one.
        hook: another `end_of_epoch_hook`, or None. It is called after every epoch, when the
            statistics are estimated, and decides whether the training goes on, as that of
            PML's HookContainer does.

    Raises:
        ValueError: if `every` or `start` is no positive integer, or `hook` cannot be called; in a
            call, if no augmenter of the trainer needs an estimate.

    The release of IAA estimates before epochs 31, 33, ..., which is `every=2, start=30`.

    Example:
        >>> from pytorch_metric_learning import losses, trainers
        >>> from pml_synthesis import IntraclassAdaptiveAugmentation, SynthesisLoss
        >>> trunk = torch.nn.Linear(8, 4)
        >>> iaa = IntraclassAdaptiveAugmentation(num_classes=3, embedding_size=4)
        >>> trainer = trainers.MetricLossOnly(
        ...     models={"trunk": trunk},
        ...     optimizers={"trunk_optimizer": torch.optim.SGD(trunk.parameters(), lr=0.1)},
        ...     batch_size=6,
        ...     loss_funcs={"metric_loss": SynthesisLoss(losses.MultiSimilarityLoss(), iaa)},
        ...     dataset=torch.utils.data.TensorDataset(torch.randn(12, 8), torch.arange(12) % 3),
        ...     dataloader_num_workers=0,
        ...     end_of_epoch_hook=EstimateAfterEpochs(every=2),
        ... )
        >>> trainer.train(num_epochs=2)
        >>> iaa.num_seen
        [4, 4, 4]
    """

    def __init__(
        self,
        dataset: Dataset[Any] | None = None,
        every: int = 2,
        start: int = 1,
        hook: Callable[[Any], Any] | None = None,
    ) -> None:
        for name, value in (("every", every), ("start", start)):
            expect_integer(name, value)
        expect(hook is None or callable(hook), "hook", "a function of the trainer, or None", hook)
        self.dataset = dataset
        self.every = every
        self.start = start
        self.hook = hook

    def __call__(self, trainer: Any) -> Any:
        """Estimate if it is time.

        Args:
            trainer: a trainer of PML.

        Returns:
            What the other hook returns, or None.
        """
        if trainer.epoch >= self.start and (trainer.epoch - self.start) % self.every == 0:
            self._estimate(trainer)
        return None if self.hook is None else self.hook(trainer)

    def _estimate(self, trainer: Any) -> None:
        augmenters = {
            module
            for loss in trainer.loss_funcs.values()
            for module in loss.modules()
            if isinstance(module, BaseAugmenter) and module.requires_estimate
        }
        names = ", ".join(trainer.loss_funcs)
        expect(bool(augmenters), "loss_funcs", "losses with an augmenter to estimate for", names)
        embeddings, labels = self._embeddings(trainer)
        for augmenter in augmenters:
            augmenter.estimate(embeddings, labels)

    @torch.no_grad()
    def _embeddings(self, trainer: Any) -> tuple[Tensor, Tensor]:
        """Return the embeddings of the training set, [N, D], and its labels, [N]."""
        loader: DataLoader[Any] = DataLoader(
            trainer.dataset if self.dataset is None else self.dataset,
            batch_size=trainer.batch_size,
            num_workers=trainer.dataloader_num_workers,
            collate_fn=trainer.collate_fn,
        )
        embeddings, labels = [], []
        trainer.set_to_eval()
        try:
            for batch in loader:
                data, given = trainer.data_and_label_getter(batch)
                embeddings.append(trainer.compute_embeddings(data))
                level = trainer.label_hierarchy_level
                labels.append(process_label(given, level, trainer.label_mapper))
        finally:
            trainer.set_to_train()
        return torch.cat(embeddings), torch.cat(labels)
