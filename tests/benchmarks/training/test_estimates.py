"""Augmenters that learn from the whole training set do so after each epoch of a run."""

from pathlib import Path

import pandas as pd
import pytest
import torch

import benchmarks
from benchmarks.datasets.splits import Splits
from benchmarks.settings.reading import load
from benchmarks.settings.schema import Run
from benchmarks.training import run as running
from benchmarks.training.assembly import Parts
from benchmarks.training.estimates import estimate
from benchmarks.training.run import execute
from few_glyphs import patterns

CONFIG = Path(benchmarks.__file__).parent / "configs" / "glyphs.yaml"
SETTINGS = """
variants:
  iaa:
    sampler: {MPerClassSampler: {m: 4}}
    loss:
      SynthesisLoss:
        loss: {MultiSimilarityLoss: {alpha: 2, beta: 40, base: 0.5}}
        augmenter:
          IntraclassAdaptiveAugmentation:
            num_neighbors: 3
            strength: {StepSchedule: {values: [0, 0.8, 0.4], starts: [0, 0.3, 0.6]}}
"""


@pytest.fixture
def run(tmp_path) -> Run:
    config = tmp_path / "iaa.yaml"
    config.write_text(f"extends: {CONFIG}\n{SETTINGS}")
    brief = ["epochs=4", "iterations_per_epoch=3", "batch_size=32", "seeds=[0]"]
    (found,) = load(config, brief, ["iaa"]).runs
    return found


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(patterns("train", 8), patterns("val"), patterns("test"))


def augmenter_of(parts):
    return parts.losses["metric_loss"].augmenter


def test_estimates_are_of_raw_embeddings_in_eval_mode(run, splits):
    parts = Parts(run, splits)
    estimate(parts)
    trunk, embedder = (parts.models[name].eval() for name in ("trunk", "embedder"))
    with torch.no_grad():
        x = embedder(trunk(splits.train.images))
    for label in range(8):
        expected = x[splits.train.labels == label].var(dim=0, unbiased=False)
        torch.testing.assert_close(augmenter_of(parts).variance[label], expected)


def test_nothing_is_computed_where_nobody_learns_from_it(run, splits):
    parts = Parts(run, splits)
    parts.losses["metric_loss"].augmenter = None
    parts.models = {}
    estimate(parts)


def test_a_run_estimates_after_each_epoch_and_synthesises(run, splits, tmp_path):
    execute(run, splits, tmp_path / "run")
    (table,) = (tmp_path / "run" / "logs").glob("*IntraclassAdaptiveAugmentation.csv")
    logged = pd.read_csv(table)
    assert logged["num_rows"].iloc[0] == 0 and logged["num_rows"].iloc[-1] == 96
    weights = torch.load(tmp_path / "run" / "best.pt", weights_only=True)["metric_loss"]
    assert weights["augmenter.corrected"].abs().sum() > 0


def test_a_run_that_was_stopped_ends_as_one_that_was_not(run, splits, tmp_path, monkeypatch):
    expected = execute(run, splits, tmp_path / "whole")

    def stop(epoch):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, splits, tmp_path / "stopped", stop)
    calls = []
    monkeypatch.setattr(running, "estimate", lambda parts: calls.append(1) or estimate(parts))
    got = execute(run, splits, tmp_path / "stopped")
    assert calls == [1]
    pd.testing.assert_frame_equal(got.drop(columns="seconds"), expected.drop(columns="seconds"))
    one, other = (
        torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("whole", "stopped")
    )
    for group, weights in one.items():
        for name, value in weights.items():
            assert torch.equal(value, other[group][name]), name
