"""Where the time of a step goes, by a clock that the parts themselves move."""

import pytest
import torch
from pytorch_metric_learning.losses import ProxyNCALoss
from torch import nn
from torch.utils.data import SequentialSampler

from benchmarks.datasets.batches import SeededSampler
from benchmarks.training import timing
from benchmarks.training.timing import PARTS, StepClock
from benchmarks.training.trainer import Trainer
from few_glyphs import patterns


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def move(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


class Slow(torch.autograd.Function):
    """The identity, which takes a while there and back."""

    @staticmethod
    def forward(ctx, x, clock, there, back):
        clock.move(there)
        ctx.return_takes = clock, back
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        clock, back = ctx.return_takes
        clock.move(back)
        return gradient, None, None, None


def test_seconds_per_step_are_means_by_part_since_the_last_call(clock):
    steps = StepClock(torch.device("cpu"))
    for data, loss in [(1, 2), (3, 5)]:
        steps.start_step()
        clock.move(data)
        steps.end_part("data")
        clock.move(loss)
        steps.end_part("loss")
        clock.move(0.5)
        steps.end_part("models")
        clock.move(1)
        steps.end_part("loss")
        clock.move(100)  # between the steps
    assert steps.seconds_per_step() == {"data": 2, "models": 0.5, "loss": 4.5, "optimizers": 0}
    steps.start_step()
    clock.move(7)
    steps.end_part("data")
    assert steps.seconds_per_step()["data"] == 7


def test_the_trainer_tells_data_models_loss_and_optimizers_apart(clock):
    images = patterns("train")

    def read(batch):
        clock.move(1)
        return batch

    class SlowTrunk(nn.Linear):
        def forward(self, x):
            return Slow.apply(super().forward(x.flatten(1)), clock, 2, 3)

    class SlowLoss(ProxyNCALoss):
        def forward(self, embeddings, *arguments):
            return super().forward(Slow.apply(embeddings, clock, 5, 7), *arguments)

    images.transform = read
    models, losses = {"trunk": SlowTrunk(144, 6)}, {"metric_loss": SlowLoss(8, 6)}
    optimizers = {
        f"{name}_optimizer": torch.optim.SGD(module.parameters(), lr=0.1)
        for name, module in (models | losses).items()
    }
    for optimizer in optimizers.values():
        optimizer.register_step_post_hook(lambda *_: clock.move(11))
    trainer = Trainer(
        autocast_dtype=None,
        scaler=None,
        clip_gradient_value=None,
        rows=slice(0, 16),
        models=models,
        optimizers=optimizers,
        batch_size=16,
        iterations_per_epoch=3,
        loss_funcs=losses,
        dataset=images,
        sampler=SeededSampler(lambda: SequentialSampler(images), seed=0),
        dataloader_num_workers=0,
        data_device=torch.device("cpu"),
        end_of_iteration_hook=lambda trainer: clock.move(100),
    )
    trainer.train()
    expected = {"data": 1, "models": 2 + 3, "loss": 5 + 7, "optimizers": 2 * 11}
    assert trainer.clock.seconds_per_step() == expected


def test_the_marks_of_a_device_are_read_in_seconds(device):
    steps = StepClock(device)
    matrix = torch.eye(64, device=device)
    for part in PARTS:
        steps.start_step()
        matrix = matrix @ matrix
        steps.end_part(part)
    seconds = steps.seconds_per_step()
    assert list(seconds) == list(PARTS)
    assert all(0 < value < 60 for value in seconds.values())
