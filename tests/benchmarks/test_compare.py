"""A whole comparison, from a settings file to the table, in processes of its own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.__main__ import main
from benchmarks.compare import compare
from benchmarks.run import METRICS
from benchmarks.settings import load
from benchmarks.summary import half_width, summarize, to_text

SETTINGS = """
data:
  train: {few_glyphs.few_glyphs: {split: trainval, num_classes: 16}}
  test: {few_glyphs.few_glyphs: {split: test, num_classes: 16}}
model:
  trunk: {ConvTrunk: {widths: [8, 8]}}
  embedder: {LinearEmbedder: {in_features: 8}}
sampler: {RandomSampler: {}}
batch_size: 32
epochs: 1
iterations_per_epoch: 6
optimizers:
  trunk: {AdamW: {lr: 3e-3}}
  embedder: {AdamW: {lr: 3e-3}}
  metric_loss: {AdamW: {lr: 0.01}}
workers: 2
seeds: [0, 1]
variants:
  plain: {loss: {ProxyNCALoss: {}}}
  ps: {loss: {SynthesisLoss: {loss: {ProxyNCALoss: {}}, augmenter: {ProxySynthesis: {}}}}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A settings file whose comparison was run."""
    folder = tmp_path_factory.mktemp("comparison")
    path = folder / "letters.yaml"
    path.write_text(SETTINGS + f"results: {folder / 'results'}\n")
    compare(load(path))
    return path


def folder_of(config: Path) -> Path:
    return config.parent / "results" / "letters"


def times(config: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder_of(config).glob("*/*/metrics.csv")}


def test_each_variant_ran_with_each_seed(config):
    runs = pd.read_csv(folder_of(config) / "results.csv")
    assert runs[["variant", "seed"]].values.tolist() == [
        *[["plain", 0], ["ps", 0]],
        *[["plain", 1], ["ps", 1]],
    ]
    assert len(times(config)) == 4
    for _, run in runs.iterrows():
        path = folder_of(config) / run.variant / f"seed_{run.seed}" / "metrics.csv"
        assert pd.read_csv(path).loc[0, list(METRICS)].tolist() == run[list(METRICS)].tolist()
    # Variants differ, and so do seeds.
    assert runs["mean_average_precision_at_r"].nunique() == 4


def test_the_summary_has_a_row_for_each_variant(config):
    runs = pd.read_csv(folder_of(config) / "results.csv")
    summary = pd.read_csv(folder_of(config) / "summary.csv")
    assert summary["variant"].tolist() == ["plain", "ps"]
    assert summary["seeds"].tolist() == [2, 2]
    means = runs.groupby("variant")["precision_at_1"].mean()
    np.testing.assert_allclose(summary["precision_at_1"], 100 * means)


def test_what_is_finished_is_not_run_again(config, capsys):
    before = times(config)
    main(["compare", str(config)])
    main(["run", str(config), "--variant", "ps", "--seed", "1"])
    assert times(config) == before
    table, single = capsys.readouterr().out.split("Results in")
    assert table.split()[:3] == ["variant", "P@1", "[%]"]
    assert "plain" in table and "ps" in table
    assert "ps     1" in single


def test_only_what_is_missing_is_run(config):
    before = times(config)
    main(["run", str(config), "--variant", "plain", "--seed", "5", "iterations_per_epoch=6"])
    added = times(config).keys() - before.keys()
    assert added == {folder_of(config) / "plain" / "seed_5" / "metrics.csv"}
    assert before.items() <= times(config).items()


def test_changed_settings_are_refused_with_the_difference(config):
    before = times(config)
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(config), "batch_size=16"])
    message = str(caught.value)
    assert message.startswith("error: ")
    assert "-batch_size: 32\n+batch_size: 16" in message
    assert times(config) == before


def test_a_run_in_this_process_gives_the_same_figures(config, tmp_path):
    main(["run", str(config), "--variant", "ps", "--seed", "1", f"results={tmp_path}"])
    here = pd.read_csv(tmp_path / "letters" / "ps" / "seed_1" / "metrics.csv")
    there = pd.read_csv(folder_of(config) / "ps" / "seed_1" / "metrics.csv")
    assert here[list(METRICS)].equals(there[list(METRICS)])


def test_a_failed_run_is_named_and_the_others_are_finished(config, tmp_path):
    overrides = [
        f"results={tmp_path}",
        "seeds=[0]",
        "variants.plain.optimizers.trunk.AdamW.lr=-1",
    ]
    with pytest.raises(RuntimeError, match="Failed: plain, seed 0. The first: ValueError"):
        compare(load(config, overrides))
    assert (tmp_path / "letters" / "ps" / "seed_0" / "metrics.csv").exists()
    assert not (tmp_path / "letters" / "plain" / "seed_0").exists()


# ------------------------------------------------------------------------ the table


def runs_of(**figures: list[float]) -> pd.DataFrame:
    rows = [
        {"variant": variant, "seed": seed, "precision_at_1": value, "seconds": 2.0}
        | {"mean_average_precision_at_r": value / 2}
        for variant, values in figures.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_means_and_student_intervals_in_percent():
    summary = summarize(runs_of(z=[0.5, 0.6, 0.7], a=[0.25, 0.25, 0.25]))
    assert summary["variant"].tolist() == ["z", "a"], "in the order of the runs"
    assert summary["precision_at_1"].tolist() == pytest.approx([60, 25])
    low, high = stats.t.interval(0.95, df=2, loc=60, scale=stats.sem([50, 60, 70]))
    assert summary["precision_at_1_interval"].tolist() == pytest.approx([(high - low) / 2, 0])
    assert summary["mean_average_precision_at_r"].tolist() == pytest.approx([30, 12.5])


def test_one_seed_has_no_interval():
    summary = summarize(runs_of(plain=[0.5]))
    assert np.isnan(half_width([0.5]))
    (line,) = to_text(summary).splitlines()[1:]
    assert line.split() == ["plain", "50.0", "25.0", "1", "2.0"]


def test_the_text_has_a_line_for_each_variant():
    title, first, second = to_text(summarize(runs_of(z=[0.5, 0.6], a=[0.25, 0.25]))).splitlines()
    assert title.split() == ["variant", "P@1", "[%]", "MAP@R", "[%]", "seeds", "seconds"]
    assert first.split() == ["z", "55.0", "±", "63.5", "27.5", "±", "31.8", "2", "2.0"]
    assert second.split()[:4] == ["a", "25.0", "±", "0.0"]
