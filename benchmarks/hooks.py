"""What a run records."""

from collections.abc import Iterator
from typing import Any

from pytorch_metric_learning.trainers import BaseTrainer
from pytorch_metric_learning.utils.logging_presets import HookContainer
from torch import nn


class RecordingHooks(HookContainer):
    """PML's hooks, recording the statistics of nested modules under their whole path.

    PML's own record every attribute of a loss: proxies become lists of numbers, and modules
    inside a loss lose the name of the loss. These record what each module lists as recordable,
    such as the augmenter of a SynthesisLoss in metric_loss_augmenter_ProxySynthesis.csv.
    """

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
        for modules in (trainer.loss_funcs, trainer.mining_funcs):
            keeper.update_records(dict(_nested(modules)), step)


def _nested(modules: dict[str, nn.Module]) -> Iterator[tuple[str, Any]]:
    for name, module in modules.items():
        for path, part in module.named_modules(prefix=name):
            yield path.replace(".", "_"), part
