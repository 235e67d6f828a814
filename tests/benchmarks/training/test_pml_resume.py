"""What PML's own hooks save is all that a run needs to go on as if nothing had happened."""

from functools import partial
from pathlib import Path

import pytest
import torch
from pytorch_metric_learning import losses, trainers
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch.utils.data import TensorDataset

import reference
from pml_synthesis import (
    Compose,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)
from pml_synthesis.schedules import CosineSchedule

NUM_CLASSES, DIM, BATCH_SIZE, BATCHES, EPOCHS = 6, 8, 12, 4, 2


def see():
    rising = CosineSchedule(0.0, 1.0, num_steps=EPOCHS * BATCHES)
    return SphericalEmbeddingExpansion(3, rising, detach=False)


def proxy_anchor(**options):
    return losses.ProxyAnchorLoss(NUM_CLASSES, DIM, **options)


def remembering(augmenter, example):
    memory = reference.build(augmenter, NUM_CLASSES, DIM, example)
    return SynthesisLoss(losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM), memory)


LOSSES = {
    "ps": lambda: SynthesisLoss(losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM), ProxySynthesis()),
    "see": lambda: proxy_anchor(embedding_regularizer=SynthesisRegularizer(see())),
    "both hooks": lambda: SynthesisLoss(
        proxy_anchor(embedding_regularizer=SynthesisRegularizer(see())),
        Compose([ProxySynthesis(mu=0.5), see()]),
    ),
    **{
        f"{augmenter.__name__} {example}": partial(remembering, augmenter, example)
        for augmenter in reference.PUBLIC_AUGMENTERS
        for example in reference.reference_of(augmenter).EXAMPLES
        if reference.has_memory(reference.build(augmenter, NUM_CLASSES, DIM, example))
    },
}


class Run:
    """A trainer that saves its parts after each epoch; everything starts from the seed."""

    def __init__(self, make_loss, folder: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.folder = str(folder / "models")
        keeper, _, _ = logging_presets.get_record_keeper(str(folder / "logs"))
        self.hooks = logging_presets.get_hook_container(keeper, primary_metric="precision_at_1")
        tester = GlobalEmbeddingSpaceTester(
            dataloader_num_workers=0,
            accuracy_calculator=AccuracyCalculator(include=("precision_at_1",), k=1),
            end_of_testing_hook=self.hooks.end_of_testing_hook,
        )
        modules = {"trunk": torch.nn.Linear(5, DIM), "metric_loss": make_loss()}
        optimizers = {
            f"{name}_optimizer": torch.optim.AdamW(module.parameters(), lr=0.03)
            for name, module in modules.items()
        }
        self.trainer = trainers.MetricLossOnly(
            models={"trunk": modules["trunk"]},
            loss_funcs={"metric_loss": modules["metric_loss"]},
            optimizers=optimizers,
            lr_schedulers={
                "trunk_scheduler_by_iteration": torch.optim.lr_scheduler.CosineAnnealingLR(
                    optimizers["trunk_optimizer"], EPOCHS * BATCHES
                )
            },
            batch_size=BATCH_SIZE,
            dataset=images(0),
            # The same batches in each epoch, whoever starts it.
            sampler=range(BATCHES * BATCH_SIZE),
            dataloader_num_workers=0,
            end_of_iteration_hook=self.hooks.end_of_iteration_hook,
            end_of_epoch_hook=self.hooks.end_of_epoch_hook(tester, {"val": images(1)}, self.folder),
        )

    def state(self) -> dict[str, dict]:
        parts = self.trainer.models | self.trainer.loss_funcs | self.trainer.optimizers
        return {name: part.state_dict() for name, part in parts.items()}


def images(seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCHES * BATCH_SIZE, 5, generator=generator)
    return TensorDataset(x, torch.randint(NUM_CLASSES, (len(x),), generator=generator))


@pytest.mark.parametrize("make_loss", LOSSES.values(), ids=LOSSES)
def test_a_run_resumed_from_pmls_checkpoints_ends_like_an_uninterrupted_one(make_loss, tmp_path):
    whole = Run(make_loss, tmp_path / "whole", seed=0)
    whole.trainer.train(num_epochs=EPOCHS)

    stopped = Run(make_loss, tmp_path / "stopped", seed=0)
    stopped.trainer.train(num_epochs=EPOCHS // 2)
    # All new, and seeded otherwise: what is not loaded differs.
    resumed = Run(make_loss, tmp_path / "resumed", seed=1)
    start = resumed.hooks.load_latest_saved_models(resumed.trainer, stopped.folder)
    assert start == EPOCHS // 2 + 1
    resumed.trainer.train(start_epoch=start, num_epochs=EPOCHS)

    torch.testing.assert_close(resumed.state(), whole.state(), rtol=0, atol=0)
    for path in Path(stopped.folder).iterdir():
        torch.load(path, weights_only=True)
