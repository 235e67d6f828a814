"""Steps leave nothing behind but numbers."""

import gc
from numbers import Real

import pytest
import torch
from pytorch_metric_learning import losses, trainers
from torch.utils.data import TensorDataset

from benchmarks.training.hooks import RecordingHooks
from pml_synthesis import (
    Compose,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)
from pml_synthesis.schedules import CosineSchedule

NUM_CLASSES, DIM, WARM_UP, STEPS = 200, 16, 10, 40


def see():
    rising = CosineSchedule(0.0, 1.0, num_steps=WARM_UP)
    return SphericalEmbeddingExpansion(3, rising, detach=False, collect_stats=True)


def with_regularizer():
    options = {"collect_stats": True, "embedding_regularizer": SynthesisRegularizer(see())}
    return losses.ArcFaceLoss(NUM_CLASSES, DIM, **options)


def with_both_hooks():
    both = Compose([ProxySynthesis(mu=1.5, collect_stats=True), see()])
    return SynthesisLoss(with_regularizer(), both)


def census():
    """Count the objects that may hold others, and the tensors."""
    gc.collect()
    objects = gc.get_objects()
    return len(objects), sum(issubclass(type(item), torch.Tensor) for item in objects)


@pytest.mark.parametrize("make_loss", [with_regularizer, with_both_hooks])
def test_a_long_run_keeps_nothing_but_the_numbers_that_it_records(make_loss, tmp_path):
    modules = {"trunk": torch.nn.Linear(5, DIM), "metric_loss": make_loss()}
    hooks = RecordingHooks(tmp_path, {"metric_loss": modules["metric_loss"]})
    hooks.log_freq = 1
    counts = []

    def end_of_iteration(trainer):
        hooks.end_of_iteration_hook(trainer)
        if trainer.iteration + 1 in (WARM_UP, WARM_UP + STEPS):
            counts.append(census())

    trainers.MetricLossOnly(
        models={"trunk": modules["trunk"]},
        loss_funcs={"metric_loss": modules["metric_loss"]},
        optimizers={
            f"{name}_optimizer": torch.optim.AdamW(module.parameters())
            for name, module in modules.items()
        },
        batch_size=12,
        dataset=TensorDataset(torch.randn(60, 5), torch.randint(NUM_CLASSES, (60,))),
        iterations_per_epoch=WARM_UP + STEPS,
        dataloader_num_workers=0,
        end_of_iteration_hook=end_of_iteration,
    ).train()

    (objects, tensors), (objects_later, tensors_later) = counts
    # One that is kept in each step would be 40; a few come and go with other threads.
    assert objects_later - objects < STEPS // 2
    assert tensors_later == tensors
    recorded = [
        value
        for series in hooks.record_keeper.record_writer.records.values()
        for values in series.values()
        for value in values.values()
    ]
    assert len(recorded) > 10 * STEPS
    assert all(isinstance(value, Real) for value in recorded)
