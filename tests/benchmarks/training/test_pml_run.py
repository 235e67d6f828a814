"""The hooks inside PML's trainers, with PML's tester, logging hooks and record-keeper."""

import pandas as pd
import pytest
import torch
from pytorch_metric_learning import losses, trainers
from pytorch_metric_learning.samplers import MPerClassSampler
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import nn
from torch.utils.data import Dataset

from benchmarks.models import ConvTrunk, LinearEmbedder, PixelTrunk
from few_glyphs import few_glyphs
from pml_synthesis import (
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)

TRAIN_CLASSES, TEST_CLASSES = 60, 40
SIZE = 32  # of the embeddings


def with_ps(num_classes: int = TRAIN_CLASSES, size: int = SIZE) -> nn.Module:
    loss = losses.ProxyNCALoss(num_classes, size, softmax_scale=10)
    return SynthesisLoss(loss, ProxySynthesis(collect_stats=True))


def with_see(num_classes: int = TRAIN_CLASSES, size: int = SIZE) -> nn.Module:
    see = SphericalEmbeddingExpansion(collect_stats=True)
    return losses.ProxyAnchorLoss(
        num_classes, size, embedding_regularizer=SynthesisRegularizer(see), embedding_reg_weight=0.2
    )


BOTH_HOOKS = pytest.mark.parametrize("make_loss", [with_ps, with_see])


def training(models: dict[str, nn.Module], loss_funcs: dict[str, nn.Module], **options) -> dict:
    """The arguments that all trainers share; proxies learn faster than the models."""
    rates = dict.fromkeys(models, 3e-3) | {
        name: 0.05 for name, loss in loss_funcs.items() if list(loss.parameters())
    }
    modules = models | loss_funcs
    return {
        "models": models,
        "loss_funcs": loss_funcs,
        "optimizers": {
            f"{name}_optimizer": torch.optim.AdamW(modules[name].parameters(), lr=rate)
            for name, rate in rates.items()
        },
        "batch_size": 48,
        "dataloader_num_workers": 0,
    } | options


def few_steps(**modules: nn.Module) -> dict:
    """The arguments for an epoch of three steps on Glyphs."""
    train = few_glyphs("trainval", TRAIN_CLASSES)
    models = {"trunk": ConvTrunk(), "embedder": LinearEmbedder(embedding_size=SIZE)}
    loss_funcs = {name: module for name, module in modules.items() if "loss" in name}
    models |= {name: module for name, module in modules.items() if name not in loss_funcs}
    return training(models, loss_funcs, dataset=train, iterations_per_epoch=3)


def precision_at_1(trunk: nn.Module, embedder: nn.Module | None = None) -> float:
    calculator = AccuracyCalculator(include=("precision_at_1",), k=1)
    tester = GlobalEmbeddingSpaceTester(dataloader_num_workers=0, accuracy_calculator=calculator)
    unseen = few_glyphs("test", TEST_CLASSES)
    return tester.test({"test": unseen}, 0, trunk, embedder)["test"]["precision_at_1_level0"]


def learned(module: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    """Whether all parameters moved, and to finite values."""
    return all(
        bool(value.isfinite().all()) and not torch.equal(value, before[name])
        for name, value in module.named_parameters()
    )


def copy_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_a_whole_run_learns_unseen_classes_and_records_statistics(tmp_path):
    models = {"trunk": ConvTrunk(), "embedder": LinearEmbedder(embedding_size=SIZE)}
    pixels, untrained = precision_at_1(PixelTrunk()), precision_at_1(models["trunk"])

    keeper, _, _ = logging_presets.get_record_keeper(str(tmp_path / "logs"))
    hooks = logging_presets.get_hook_container(
        keeper, primary_metric="precision_at_1", validation_split_name="test", log_freq=5
    )
    tester = GlobalEmbeddingSpaceTester(
        dataloader_num_workers=0,
        accuracy_calculator=AccuracyCalculator(include=("precision_at_1",), k=1),
        end_of_testing_hook=hooks.end_of_testing_hook,
    )
    train, test = few_glyphs("trainval", TRAIN_CLASSES), few_glyphs("test", TEST_CLASSES)
    options = training(
        models,
        {"metric_loss": with_ps()},
        dataset=train,
        sampler=MPerClassSampler(train.labels, 2, batch_size=48, length_before_new_iter=40 * 48),
        iterations_per_epoch=40,
        end_of_iteration_hook=hooks.end_of_iteration_hook,
        end_of_epoch_hook=hooks.end_of_epoch_hook(
            tester, {"test": test}, str(tmp_path / "models"), test_interval=4
        ),
    )
    trainers.MetricLossOnly(**options).train(num_epochs=4)

    trained = hooks.get_accuracy_history(tester, "test")["precision_at_1_level0"][-1]
    assert trained == pytest.approx(precision_at_1(**models))
    assert trained > max(pixels, untrained) + 0.05

    (file,) = (tmp_path / "logs").glob("*ProxySynthesis.csv")
    statistics = pd.read_csv(file)
    assert statistics["~iteration~"].tolist() == list(range(0, 160, 5))
    assert statistics["num_rows"].eq(48).all()
    assert statistics["mixing_weight"].between(0, 1).all()
    assert statistics["mixing_weight"].nunique() > 10


@pytest.mark.parametrize(
    "make_loss, augmenter, columns",
    [
        (with_ps, "ProxySynthesis", {"mixing_weight", "num_rows", "num_classes"}),
        (
            with_see,
            "SphericalEmbeddingExpansion",
            {"current_fraction", "num_rows", "mean_cosine"},
        ),
    ],
)
def test_pmls_own_hooks_record_statistics_of_augmenters(make_loss, augmenter, columns, tmp_path):
    keeper, _, _ = logging_presets.get_record_keeper(str(tmp_path))
    hooks = logging_presets.get_hook_container(keeper, log_freq=1)
    options = few_steps(metric_loss=make_loss())
    options["end_of_iteration_hook"] = hooks.end_of_iteration_hook
    trainers.MetricLossOnly(**options).train()
    keeper.save_records()
    (file,) = tmp_path.glob(f"*{augmenter}.csv")
    statistics = pd.read_csv(file)
    assert len(statistics) == 3
    assert columns <= set(statistics)
    assert (statistics[list(columns)] != 0).all(axis=None)


@BOTH_HOOKS
def test_train_with_classifier(make_loss):
    options = few_steps(
        metric_loss=make_loss(),
        classifier=nn.Linear(SIZE, TRAIN_CLASSES),
        classifier_loss=nn.CrossEntropyLoss(),
    )
    loss = options["loss_funcs"]["metric_loss"]
    before = copy_of(loss)
    trainer = trainers.TrainWithClassifier(**options)
    trainer.train()
    assert learned(loss, before)
    assert steps_of(loss) == 3


@BOTH_HOOKS
def test_cascaded_embeddings(make_loss):
    both = {f"metric_loss_{i}": make_loss(size=SIZE // 2) for i in range(2)}
    before = [copy_of(loss) for loss in both.values()]
    options = few_steps(**both)
    trainers.CascadedEmbeddings([SIZE // 2, SIZE // 2], **options).train()
    for loss, start in zip(both.values(), before, strict=True):
        assert learned(loss, start)
        assert steps_of(loss) == 3


def steps_of(loss: nn.Module) -> int:
    return next(part.step for part in loss.modules() if hasattr(part, "step"))


# --------------------------------------------------------------------- two streams


class TwoViews(Dataset):
    """Another image of the same class beside each image."""

    def __init__(self) -> None:
        self.images = few_glyphs("trainval", TRAIN_CLASSES)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        anchor, label = self.images[index]
        other = index + 1 if index % 24 < 23 else index - 23
        return anchor, self.images[other][0], label


def two_stream_steps(loss: nn.Module) -> list[tuple]:
    """Train for two steps; return what the loss was called with."""
    calls = []
    handle = loss.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    models = {"trunk": ConvTrunk(), "embedder": LinearEmbedder(embedding_size=SIZE)}
    options = training(
        models, {"metric_loss": loss}, dataset=TwoViews(), iterations_per_epoch=2, batch_size=12
    )
    trainers.TwoStreamMetricLoss(**options).train()
    handle.remove()
    return calls


@BOTH_HOOKS
def test_two_streams_come_as_one_batch_with_triplets_across_them(make_loss):
    loss = make_loss()
    before = copy_of(loss)
    calls = two_stream_steps(loss)
    assert len(calls) == 2
    for (embeddings, labels, triplets), keywords in calls:
        assert not keywords, "no ref_emb: proxy losses take this trainer as it is"
        assert embeddings.shape == (24, SIZE)
        assert torch.equal(labels[:12], labels[12:])
        anchors, positives, negatives = triplets
        assert anchors.max() < 12 <= positives.min()
        assert negatives.min() >= 12
        assert torch.equal(labels[anchors], labels[positives])
        assert not (labels[anchors] == labels[negatives]).any()
    assert learned(loss, before)
    assert steps_of(loss) == 2


def test_rows_of_both_streams_are_synthesised_from():
    loss = with_ps()
    ((embeddings, labels, triplets), _), *_ = two_stream_steps(loss)
    augmenter, seen = loss.augmenter, []
    handle = augmenter.register_forward_hook(lambda module, args, batch: seen.append(batch))
    loss(embeddings.detach(), labels, triplets)
    handle.remove()
    (batch,) = seen
    assert set(batch.source.tolist()) == set(range(24))
