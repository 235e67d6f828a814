"""One run: train with PML's trainer, then test once, on classes never seen."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import torch
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from pytorch_metric_learning.trainers import MetricLossOnly
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import nn

from benchmarks import results
from benchmarks.batches import SeededSampler
from benchmarks.datasets import ImageClasses
from benchmarks.errors import SettingsError
from benchmarks.hooks import RecordingHooks
from benchmarks.objects import build
from benchmarks.settings import Data, Run, dump

METRICS = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
LOG_FREQUENCY = 10  # iterations
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Splits:
    """The images to train on, and those of other classes to test on."""

    train: ImageClasses
    test: ImageClasses


def load_splits(data: Data) -> Splits:
    """Read the datasets of the settings."""
    return Splits(build(data.train), build(data.test))


def use_one_thread() -> None:
    """Keep this process to one core, for runs side by side and figures that repeat anywhere."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)


def execute(run: Run, splits: Splits, folder: Path) -> pd.DataFrame:
    """Train and test; write settings.yaml, metrics.csv and record-keeper's logs to the folder.

    Returns:
        The metrics, as one row.
    """
    use_one_thread()
    with results.written_aside(folder) as unfinished:
        start = time.perf_counter()
        metrics = train_and_test(run, splits, unfinished / "logs")
        seconds = round(time.perf_counter() - start, 1)
        row = {"variant": run.variant, "seed": run.seed, **metrics, "seconds": seconds}
        table = pd.DataFrame([row])
        table.to_csv(unfinished / results.METRICS, index=False)
        (unfinished / results.SETTINGS).write_text(dump(run))
    return table


def train_and_test(run: Run, splits: Splits, logs: Path) -> dict[str, float]:
    """Return the metrics of a run on the test classes, after recording it in a folder.

    Models, batches and augmentation draw from streams of their own, which the seed alone decides:
    runs with one seed start from the same models and see the same batches, whatever their loss.
    """
    model_seed, batch_seed, augmentation_seed = (
        np.random.SeedSequence(run.seed).generate_state(3).tolist()
    )
    keeper, _, _ = logging_presets.get_record_keeper(str(logs))
    hooks = RecordingHooks(keeper, log_freq=LOG_FREQUENCY)
    torch.manual_seed(model_seed)
    models = _models(run)
    if run.epochs:
        images = copy.copy(splits.train)
        images.transform = build(run.augmentation, seed=augmentation_seed)
        _train(run, models, images, batch_seed, hooks)
    metrics = _test(run, models, splits.test, hooks)
    keeper.save_records()
    return metrics


def _train(
    run: Run,
    models: dict[str, nn.Module],
    images: ImageClasses,
    batch_seed: int,
    hooks: RecordingHooks,
) -> None:
    loss = _loss(run, num_classes=len(images.class_names))
    optimizers = _optimizers(run, models | {"metric_loss": loss})
    trainer = MetricLossOnly(
        models=models,
        optimizers=optimizers,
        lr_schedulers=_schedulers(run, optimizers),
        batch_size=run.batch_size,
        iterations_per_epoch=run.iterations_per_epoch,
        loss_funcs={"metric_loss": loss},
        mining_funcs={} if run.miner is None else {"tuple_miner": build(run.miner)},
        dataset=images,
        sampler=_sampler(run, images, batch_seed),
        dataloader_num_workers=0,
        data_device=CPU,
        end_of_iteration_hook=hooks.end_of_iteration_hook,
    )
    trainer.train(num_epochs=run.epochs)


def _test(
    run: Run, models: dict[str, nn.Module], images: ImageClasses, hooks: RecordingHooks
) -> dict[str, float]:
    tester = GlobalEmbeddingSpaceTester(
        batch_size=256,
        dataloader_num_workers=0,
        data_device=CPU,
        accuracy_calculator=AccuracyCalculator(include=METRICS, k="max_bin_count", device=CPU),
        end_of_testing_hook=hooks.end_of_testing_hook,
    )
    tester.test({"test": images}, run.epochs, models["trunk"], models.get("embedder"))
    accuracies = tester.all_accuracies["test"]
    return {metric: accuracies[f"{metric}_level0"] for metric in METRICS}


def _models(run: Run) -> dict[str, nn.Module]:
    described = {"trunk": run.model.trunk, "embedder": run.model.embedder}
    return {
        name: build(model, embedding_size=run.embedding_size)
        for name, model in described.items()
        if model is not None
    }


def _loss(run: Run, num_classes: int) -> nn.Module:
    return build(
        run.loss,
        num_classes=num_classes,
        embedding_size=run.embedding_size,
        num_steps=_num_steps(run),
        collect_stats=True,
    )


def _optimizers(run: Run, modules: dict[str, nn.Module]) -> dict[str, torch.optim.Optimizer]:
    optimizers = {}
    for name, module in modules.items():
        parameters = list(module.parameters())
        if parameters:
            described = getattr(run.optimizers, name)
            if described is None:
                raise SettingsError(f"variant {run.variant}: optimizers.{name} is not given.")
            optimizers[f"{name}_optimizer"] = build(described, params=parameters)
    return optimizers


def _schedulers(run: Run, optimizers: dict[str, torch.optim.Optimizer]) -> dict[str, Any]:
    if run.scheduler is None:
        return {}
    return {
        name.replace("_optimizer", "_scheduler_by_iteration"): build(
            run.scheduler, optimizer=optimizer, T_max=_num_steps(run)
        )
        for name, optimizer in optimizers.items()
    }


def _num_steps(run: Run) -> int:
    return run.epochs * run.iterations_per_epoch


def _sampler(run: Run, dataset: ImageClasses, seed: int) -> SeededSampler:
    sampler = build(
        run.sampler, data_source=dataset, labels=dataset.labels, batch_size=run.batch_size
    )
    return SeededSampler(sampler, seed)
