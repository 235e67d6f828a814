"""However the process that was started ends, all that it started end too."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks

ROOT = Path(benchmarks.__file__).parents[1]
SETTINGS = """
data:
  train: {few_glyphs.patterns: {split: train}}
  val: {few_glyphs.patterns: {split: val}}
  workers: 2
model: {trunk: {PixelTrunk: {}}, embedder: {LinearEmbedder: {in_features: 144}}}
transforms: {train: [{RandomAffine: {}}]}
sampler: {RandomSampler: {}}
batch_size: 32
epochs: 100000
iterations_per_epoch: 2
optimizers: {embedder: &sgd {SGD: {lr: 0.1}}, metric_loss: *sgd}
parallel_runs: 1
seeds: [0]
variants: {plain: {loss: {ProxyNCALoss: {}}}}
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks into /proc")


def status(pid: int) -> list[str]:
    """The state and the parent of a process, if it is there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return ["Z", "0"]


def is_running(pid: int) -> bool:
    # Where nobody collects orphans, one that has ended stays as a zombie.
    return status(pid)[0] != "Z"


def started_by(pid: int) -> set[int]:
    """All processes that a process has started, and those that these have."""
    everybody = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    children = {each for each in everybody if int(status(each)[1]) == pid}
    return children.union(*map(started_by, children))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(what)


def started(folder: Path, *launcher: str) -> subprocess.Popen:
    folder.mkdir()
    (folder / "letters.yaml").write_text(f"{SETTINGS}results: {folder}/runs\n")
    command = ["-m", "benchmarks", "compare", "letters.yaml", "--import", "few_glyphs"]
    return subprocess.Popen(
        [sys.executable, *launcher, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        stderr=subprocess.DEVNULL,
    )


def test_no_process_outlives_the_one_that_was_started(tmp_path):
    signals = (signal.SIGKILL, signal.SIGTERM)
    processes = {name: started(tmp_path / name.name) for name in signals}
    descendants: dict[signal.Signals, set[int]] = {}
    for name, process in processes.items():
        trained = tmp_path / name.name / "runs/letters/plain/seed_0/checkpoint.pt"
        wait_for(trained.exists, "no epoch was finished")
        # One that counts what is shared, two that start others, one that runs, two that read.
        wait_for(lambda pid=process.pid: len(started_by(pid)) >= 6, "nobody reads")
        descendants[name] = started_by(process.pid)
        process.send_signal(name)
        assert process.wait(timeout=60) == -name
    for name, pids in descendants.items():
        wait_for(lambda pids=pids: not any(map(is_running, pids)), f"left after {name.name}")


def test_a_process_that_reads_ends_with_one_that_is_killed_before_it_is_ready(tmp_path):
    process = started(tmp_path / "early")
    # The process that starts those that read has just been started.
    wait_for(lambda: len(started_by(process.pid)) >= 4, "nothing was started")
    pids = started_by(process.pid)
    process.kill()
    process.wait(timeout=60)
    wait_for(lambda: not any(map(is_running, pids)), "left")


def test_no_process_outlives_torchrun(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = started(tmp_path / "ranks", *launcher)
    trained = tmp_path / "ranks/runs/letters/plain/seed_0/checkpoint.pt"
    wait_for(trained.exists, "no epoch was finished")
    pids = started_by(process.pid)
    assert len(pids) >= 2
    process.kill()
    process.wait(timeout=60)
    wait_for(lambda: not any(map(is_running, pids)), "left after torchrun was killed")
