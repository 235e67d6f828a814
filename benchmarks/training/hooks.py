"""What a run records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_metric_learning.testers import BaseTester
from pytorch_metric_learning.trainers import BaseTrainer
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.logging_presets import HookContainer
from record_keeper import RecordKeeper, RecordWriter
from torch import nn
from torch.utils.tensorboard import SummaryWriter

LOG_FREQUENCY = 10  # iterations
SECONDS = "seconds_per_step"

Records = dict[str, dict[str, dict[int, Any]]]  # values by group, name and step


class RecordingHooks(HookContainer):
    """PML's hooks, recording the statistics of nested modules under their whole path.

    PML's own record every attribute of a loss: proxies become lists of numbers, and modules
    inside a loss lose the name of the loss. These record what each module lists as recordable,
    such as the augmenter of a SynthesisLoss in metric_loss_augmenter_ProxySynthesis.csv.

    Arguments:
        folder: for record-keeper's tables, written by `save`, and TensorBoard's logs in
            folder/tensorboard, written at once.
        modules: losses and miners whose statistics are recorded, by name.
        first_step: the iteration at which a resumed run goes on; what TensorBoard has from there on
            is hidden.
    """

    def __init__(self, folder: Path, modules: dict[str, nn.Module], first_step: int = 0) -> None:
        tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step or None)
        keeper = RecordKeeper(
            tensorboard, RecordWriter(str(folder)), c_f.list_of_recordable_attributes_list_names()
        )
        super().__init__(keeper, log_freq=LOG_FREQUENCY)
        self.modules = modules

    def end_of_iteration_hook(self, trainer: BaseTrainer) -> None:
        """Record losses, learning rates and statistics, every `log_freq` iterations."""
        if trainer.iteration % self.log_freq != 0:
            return
        step = trainer.get_global_iteration()
        keeper = self.record_keeper
        keeper.update_records(trainer.loss_tracker.losses, step, parent_name="loss_histories")
        keeper.update_records(
            trainer.optimizers, step, custom_attr_func=self.optimizer_custom_attr_func
        )
        keeper.update_records(dict(_nested(self.modules)), step)

    def record_seconds(self, seconds: dict[str, float], epoch: int) -> None:
        """Record how long the parts of a step took in an epoch."""
        self.record_keeper.update_records(seconds, epoch, parent_name=SECONDS)

    def end_of_testing_hook(self, tester: BaseTester) -> None:
        """Record the accuracies of an epoch."""
        for split, accuracies in tester.all_accuracies.items():
            self.record_keeper.update_records(
                accuracies,
                accuracies["epoch"],
                parent_name=self.record_group_name(tester, split),
            )

    @property
    def records(self) -> Records:
        """What was recorded, in plain numbers and texts."""
        return {
            group: {
                name: {step: _plain(value) for step, value in values.items()}
                for name, values in series.items()
            }
            for group, series in self.record_keeper.record_writer.records.items()
        }

    @records.setter
    def records(self, records: Records) -> None:
        self.record_keeper.record_writer.records.update(records)

    def save(self) -> None:
        """Write record-keeper's tables."""
        self.record_keeper.save_records()
        self.record_keeper.tensorboard_writer.close()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _nested(modules: dict[str, nn.Module]) -> Iterator[tuple[str, Any]]:
    for name, module in modules.items():
        for path, part in module.named_modules(prefix=name):
            yield path.replace(".", "_"), part
