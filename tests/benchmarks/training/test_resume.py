"""Runs that were stopped go on, and end as if nothing had happened."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

import forked_processes
from benchmarks import files
from benchmarks.__main__ import main
from benchmarks.reporting.report import report
from benchmarks.results.paths import run_folder
from benchmarks.results.writing import start, write_comparison
from benchmarks.settings.described import load_splits
from benchmarks.settings.reading import load
from benchmarks.settings.schema import Run
from benchmarks.training.hooks import SECONDS
from benchmarks.training.run import execute

# All that carries a state: augmenter, schedule, transform, optimisers, batch norm, dropout.
SETTINGS = """
data:
  train: {few_glyphs.patterns: {split: train}}
  val: {few_glyphs.patterns: {split: val}}
  test: {few_glyphs.patterns: {split: test}}
model:
  trunk: {ConvTrunk: {widths: [8, 8]}}
  embedder: {few_glyphs.DropoutEmbedder: {in_features: 8}}
transforms: {train: [{RandomAffine: {}}]}
sampler: {MPerClassSampler: {m: 4}}
batch_size: 32
epochs: 4
iterations_per_epoch: 3
optimizers:
  trunk: {AdamW: {lr: 3e-2}}
  embedder: {AdamW: {lr: 3e-2}}
  metric_loss: {AdamW: {lr: 0.1}}
schedulers: {trunk: &cosine {CosineAnnealingLR: {}}, embedder: *cosine, metric_loss: *cosine}
parallel_runs: 1
seeds: [3]
variants:
  plain+ps:
    loss:
      SynthesisLoss:
        loss:
          few_glyphs.KillingLoss:
            at_call: 5
            once: ONCE
            embedding_reg_weight: 0.5
            embedding_regularizer:
              SynthesisRegularizer:
                augmenter:
                  SphericalEmbeddingExpansion:
                    fraction: {CosineSchedule: {start: 0.0, end: 1.0}}
        augmenter: {ProxySynthesis: {}}
"""
PERMITTED = ("--import", "few_glyphs")
# Their memories are full, or nearly, when the process dies in its third epoch.
MEMORIES = {
    "memvir": {"MemVir": {"batch_size": 32, "num_steps": 2, "step_gap": 2, "warm_up_steps": 2}},
    "das": {"DenselyAnchoredSampling": {"num_channels": 2, "bank_size": 3}},
    "iaa": {"IntraclassAdaptiveAugmentation": {"num_neighbors": 2}},
}


def compare(config: Path) -> tuple:
    """The task of a process that runs the comparison."""
    return forked_processes.command, "compare", str(config), *PERMITTED


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A settings file whose comparison was killed in the middle of its second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    config = folder / "letters.yaml"
    config.write_text(SETTINGS.replace("ONCE", str(folder / "once")) + f"results: {folder}/runs\n")
    process = forked_processes.started(folder, *compare(config))
    code = forked_processes.ended(process)
    printed = (folder / forked_processes.OUTPUT).read_text()
    assert code == -signal.SIGKILL, printed
    assert "epoch/s" in printed and "total_loss" not in printed, "one bar over all runs"
    return config


def run_of(config: Path):
    (run,) = load(config, imports=["few_glyphs"]).runs
    return run


def test_a_killed_run_ends_with_the_figures_of_an_uninterrupted_one(killed, tmp_path):
    run = run_of(killed)
    splits = load_splits(run.data)
    folder = run_folder(killed.parent / "runs" / "letters", run)
    assert not (folder / "metrics.csv").exists()
    assert files.load(folder / "checkpoint.pt")["epoch"] == 1

    epochs: list[int] = []
    resumed = execute(run, splits, folder, epochs.append)
    assert epochs == [1, 2, 3, 4]
    assert not (folder / "checkpoint.pt").exists()

    whole = run_folder(tmp_path / "letters", run)
    uninterrupted = execute(run, splits, whole)
    pd.testing.assert_frame_equal(
        resumed.drop(columns="seconds"), uninterrupted.drop(columns="seconds")
    )
    assert resumed["mean_average_precision_at_r"].nunique() == 5, "or it shows nothing"
    weights, expected = (torch.load(f / "best.pt", weights_only=True) for f in (folder, whole))
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)

    tables = sorted(path.name for path in (whole / "logs").glob("*.csv"))
    assert "loss_histories.csv" in tables
    tables.remove(f"{SECONDS}.csv")
    for name in tables:
        assert (folder / "logs" / name).read_text() == (whole / "logs" / name).read_text()

    summaries = []
    for comparison in (killed.parent / "runs" / "letters", tmp_path / "letters"):
        write_comparison(comparison, {"plain+ps": None})
        report(comparison)
        summaries.append(pd.read_csv(comparison / "summary.csv").drop(columns="seconds"))
    pd.testing.assert_frame_equal(*summaries)


@pytest.mark.usefixtures("unrendered")
def test_methods_that_remember_go_on_too(tmp_path):
    shared, _ = SETTINGS.split("variants:")
    tree = yaml.safe_load(shared) | {"results": str(tmp_path / "runs")}
    tree["variants"] = {
        name: {
            "loss": {
                "few_glyphs.dying": {
                    "at_call": 8,
                    "once": str(tmp_path / name),
                    "loss": {
                        "SynthesisLoss": {"loss": {"ProxyNCALoss": {}}, "augmenter": described}
                    },
                }
            }
        }
        for name, described in MEMORIES.items()
    }
    config = tmp_path / "letters.yaml"
    config.write_text(yaml.safe_dump(tree))
    command = ["compare", str(config), *PERMITTED]
    with pytest.raises(SystemExit, match="no run is finished yet"):
        main(command)
    stopped = [files.load(path)["epoch"] for path in tmp_path.rglob("checkpoint.pt")]
    assert stopped == [2, 2, 2]
    main(command)

    for run in load(config, imports=["few_glyphs"]).runs:
        folder, whole = (
            run_folder(tmp_path / "runs" / "letters", run),
            tmp_path / "whole" / run.variant,
        )
        execute(run, load_splits(run.data), whole)
        metrics, expected = (pd.read_csv(f / "metrics.csv") for f in (folder, whole))
        pd.testing.assert_frame_equal(
            metrics.drop(columns="seconds"), expected.drop(columns="seconds")
        )
        weights, others = (torch.load(f / "best.pt", weights_only=True) for f in (folder, whole))
        torch.testing.assert_close(weights, others, rtol=0, atol=0)


def test_the_workers_of_a_killed_comparison_end_too(killed):
    pid = int((killed.parent / "once").read_text())
    for _ in range(300):
        if has_ended(pid):
            return
        time.sleep(0.1)
    raise AssertionError("the worker is still there")


def test_an_interrupt_of_the_main_process_alone_stops_all(tmp_path):
    config = tmp_path / "letters.yaml"
    loss = SETTINGS.index("    loss:")
    settings = (
        SETTINGS[:loss].replace("epochs: 4", "epochs: 100000").replace("[3]", "[3, 4]")
        + "    loss: {ProxyNCALoss: {}}"
    )
    config.write_text(f"{settings}\nresults: {tmp_path}/runs\n")
    process = forked_processes.started(tmp_path, *compare(config))
    while process.is_alive() and not list(tmp_path.glob("runs/*/*/*/checkpoint.pt")):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    code = forked_processes.ended(process, 60)
    printed = (tmp_path / forked_processes.OUTPUT).read_text()
    assert code == 1 and "Stopped. The same command goes on" in printed


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # Where nobody collects orphans, one that has ended stays as a zombie.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_run_goes_on_after_its_last_finished_epoch(killed, tmp_path):
    run = replace(run_of(killed), seed=4)
    splits = load_splits(run.data)

    class Stop(Exception):
        pass

    def stop_after_two(epoch: int) -> None:
        if epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        execute(run, splits, tmp_path, stop_after_two)
    trained: list[int] = []
    execute(run, splits, tmp_path, trained.append)
    losses = pd.read_csv(tmp_path / "logs" / "loss_histories.csv")
    assert losses["~iteration~"].tolist() == [0, 3, 6, 9], "each epoch once"


def test_a_file_that_is_written_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic_write(path) as unfinished:
        unfinished.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with files.atomic_write(path) as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["some.txt"]


def test_two_that_write_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "some.txt"
    with files.atomic_write(path) as first, files.atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["some.txt"]


def test_what_killed_processes_left_is_removed(tmp_path):
    now = time.time()
    for name, age in (("new", 60), ("old", 7200)):
        left = tmp_path / f"some.txt.{name}.unfinished"
        left.touch()
        os.utime(left, (now, now - age))
    write_comparison(tmp_path, {"plain": None})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"comparison.yaml", "some.txt.new.unfinished"}
    # Of a run nobody else writes files.
    start(tmp_path, Run("plain"))
    assert not list(tmp_path.glob("*.unfinished"))
