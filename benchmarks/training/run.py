"""One run: train with PML's trainer, choose an epoch on validation classes, test once.

After each epoch a checkpoint takes the place of the last one, so that a run that was stopped goes
on from there, and ends with the figures that it would have had.
"""

import copy
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import faiss
import pandas as pd
import torch
from torch import Tensor

from benchmarks import distributed, files
from benchmarks.datasets.splits import Splits
from benchmarks.evaluation.hits import save_hits
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.evaluation.retrieval import evaluate
from benchmarks.results import data_marks, paths, reading, writing
from benchmarks.settings.schema import Run, dump
from benchmarks.training import checkpoint
from benchmarks.training.assembly import Parts
from benchmarks.training.data_parallel import take_buffers_of_rank_0
from benchmarks.training.estimates import estimate
from benchmarks.training.hooks import RecordingHooks
from benchmarks.training.proxy_check import expect_moving_proxies
from benchmarks.training.views import save_view

Row = dict[str, Any]


def execute(
    run: Run,
    splits: Splits,
    folder: Path,
    on_epoch: Callable[[int], None] = lambda epoch: None,
    stop: Callable[[Sequence[Row]], bool] = lambda history: False,
) -> pd.DataFrame:
    """Train and test, or go on with what was stopped; leave the results in the folder.

    Arguments:
        run: the settings.
        splits: the datasets.
        folder: for settings.yaml, versions.yaml, data.yaml, metrics.csv, best.pt, view.pt, hits.pt
            and logs/.
        on_epoch: called with the number of each finished epoch, those of before a stop included.
        stop: asked before each epoch whether to end here; it gets the metrics of validation so far.

    Returns:
        The metrics: a row for each look at the validation classes, and one for the test.

    Raises:
        SettingsError: if the run was begun with other data, or its checkpoint is damaged.
    """
    if run.device == "cpu":
        use_one_thread()
    if distributed.rank() == 0:
        data_marks.check_run(folder, splits.marks())
        writing.start(folder, run)
        data_marks.write(folder, splits.marks())
    progress = _Progress(run, Parts(run, splits), folder)
    for epoch in range(1, progress.epoch + 1):
        on_epoch(epoch)
    while progress.epoch < run.epochs and not stop(progress.history):
        progress.train_an_epoch()
        on_epoch(progress.epoch)
    return progress.finish()


def use_one_thread() -> None:
    """Keep this process to one core, for runs side by side and figures that repeat anywhere."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)


class _Progress:
    """A run between two epochs."""

    def __init__(self, run: Run, parts: Parts, folder: Path) -> None:
        self.run, self.parts, self.folder = run, parts, folder
        self.epoch = 0
        self.history: list[Row] = []
        self.best_epoch = 0
        self.best_value = float("-inf")
        self.best_modules: dict[str, Any] = {}
        self.seconds = 0.0
        self.started = time.perf_counter()
        self.writes = distributed.rank() == 0
        self.hooks: RecordingHooks | None = None
        state = distributed.from_rank_0(self._saved)
        if self.writes:
            self.hooks = self._hooks(0 if state is None else state["epoch"])
        self.trainer = parts.trainer(self.hooks) if run.epochs else None
        if state is not None:
            with self._undamaged():
                self._load(state)

    def train_an_epoch(self) -> None:
        """Train, look at the validation classes where it is time, and save a checkpoint."""
        run, epoch = self.run, self.epoch + 1
        training = self.parts.training
        training.start(epoch)
        self.trainer.dataset = training.images
        loss = self.parts.losses["metric_loss"]
        with expect_moving_proxies(loss) if epoch == 1 else nullcontext():
            self.trainer.train(start_epoch=epoch, num_epochs=epoch)
        take_buffers_of_rank_0(self.parts.models.values())
        estimate(self.parts)
        self.epoch = epoch
        seconds = self.trainer.clock.seconds_per_step()
        if self.hooks is not None:
            self.hooks.record_seconds(seconds, epoch)
        if self.parts.val is None or epoch % run.evaluate_every == 0 or epoch == run.epochs:
            self._validate()
        if self.writes:
            files.save(self._state(), self.folder / paths.CHECKPOINT)

    def finish(self) -> pd.DataFrame:
        """Test the best epoch."""
        if not self.run.epochs:
            self._validate()
        self._take(self.best_modules)
        if self.parts.test is not None:
            self._evaluate("test", self.best_epoch)
        table = pd.DataFrame(self.history)
        if self.writes:
            self._write(table)
        return table

    def _write(self, table: pd.DataFrame) -> None:
        """Write the results; metrics.csv, which is written last, marks the run as finished."""
        self.hooks.save()
        files.save(self.best_modules, self.folder / paths.MODELS)
        save_view(self.parts, self.folder)
        files.write_table(table, self.folder / paths.METRICS)
        (self.folder / paths.CHECKPOINT).unlink(missing_ok=True)

    def _validate(self) -> None:
        """Keep the models if they are the best so far; without validation the last ones are."""
        value = self.best_value
        if self.parts.val is not None:
            value = self._evaluate("val", self.epoch)[MAIN_METRIC]
            if self.epoch:
                self.trainer.step_lr_plateau_schedulers(value)
        if value > self.best_value or self.parts.val is None or not self.best_modules:
            self.best_epoch, self.best_value = self.epoch, value
            modules = {name: module.state_dict() for name, module in self._modules().items()}
            self.best_modules = copy.deepcopy(modules)

    def _evaluate(self, split: str, epoch: int) -> dict[str, float]:
        parts = self.parts
        images, gallery = {"val": (parts.val, None), "test": (parts.test, parts.gallery)}[split]
        recall_at, workers = self.run.recall_at, self.run.data.workers
        metrics = evaluate(
            parts.models,
            split,
            images,
            epoch,
            recall_at,
            workers,
            self.hooks,
            gallery,
            self._save_hits if split == "test" else None,
        )
        row = {"variant": self.run.variant, "seed": self.run.seed, "split": split, "epoch": epoch}
        self.history.append(row | metrics | {"seconds": round(self._elapsed(), 1)})
        return metrics

    def _save_hits(self, neighbours: Tensor) -> None:
        gallery = self.parts.gallery
        gallery_labels = None if gallery is None else gallery.labels
        save_hits(neighbours, self.parts.test.labels, gallery_labels, self.folder / paths.HITS)

    def _elapsed(self) -> float:
        return self.seconds + time.perf_counter() - self.started

    def _take(self, weights: dict[str, Any]) -> None:
        for name, module in self._modules().items():
            module.load_state_dict(weights[name])

    def _modules(self) -> dict[str, torch.nn.Module]:
        return self.parts.models | self.parts.losses

    def _hooks(self, epoch: int) -> RecordingHooks:
        logs = self.folder / paths.LOGS
        # Tables are written at the end alone: those that are there were written in vain.
        for path in [*logs.glob("*.csv"), logs / "logs.db"]:
            path.unlink(missing_ok=True)
        if not epoch:
            shutil.rmtree(logs, ignore_errors=True)
        modules = self.parts.losses | self.parts.miners
        return RecordingHooks(logs, modules, first_step=epoch * self.run.iterations_per_epoch)

    def _stateful(self) -> dict[str, dict[str, Any]]:
        parts = self.parts
        return {
            "modules": self._modules() | parts.miners,
            "optimizers": parts.optimizers,
            "schedulers": parts.schedulers,
            "scalers": parts.scalers,
        }

    def _saved(self) -> dict[str, Any] | None:
        path = self.folder / paths.CHECKPOINT
        if not path.exists():
            return None
        with self._undamaged():
            state = files.load(path)
            checkpoint.check(state, self._state(), self.run, self.parts.val is not None)
            return state

    def _undamaged(self) -> AbstractContextManager[None]:
        advice = "Delete it: this run then starts again."
        return reading.undamaged(self.folder / paths.CHECKPOINT, advice)

    def _state(self) -> dict[str, Any]:
        kept = {
            group: {name: item.state_dict() for name, item in items.items()}
            for group, items in self._stateful().items()
        }
        return kept | {
            "settings": dump(self.run),
            "epoch": self.epoch,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_modules": self.best_modules,
            "records": {} if self.hooks is None else self.hooks.records,
            "seconds": self._elapsed(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        if state["best_epoch"]:
            # Those of the end: now they show whether they fit.
            self._take(state["best_modules"])
        for group, items in self._stateful().items():
            for name, item in items.items():
                item.load_state_dict(state[group][name])
        for optimizer in self.parts.optimizers.values():
            _try(optimizer)
        if self.hooks is not None:
            self.hooks.records = state["records"]
        for name in ("epoch", "history", "best_epoch", "best_value", "best_modules", "seconds"):
            setattr(self, name, state[name])


def _try(optimizer: torch.optim.Optimizer) -> None:
    """Take a step with a copy: optimisers load states of any shape, and fail in a step."""
    trial = copy.deepcopy(optimizer)
    for group in trial.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    trial.step()
