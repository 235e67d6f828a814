"""However the process that was started ends, all that it started end too."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import forked_processes

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
COMMAND = ("compare", "letters.yaml", "--import", "few_glyphs")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
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
    everybody = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    parents = {each: int(status(each)[1]) for each in everybody}
    found, newest = set(), {pid}
    while newest:
        newest = {each for each, parent in parents.items() if parent in newest}
        found |= newest
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(15_000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(what)


def write_settings(folder: Path) -> None:
    folder.mkdir()
    (folder / "letters.yaml").write_text(f"{SETTINGS}results: {folder}/runs\n")


def started(folder: Path, launcher: Sequence[str] = (), *overrides: str) -> subprocess.Popen:
    """The command line, in a process that imports everything anew."""
    write_settings(folder)
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "benchmarks", *COMMAND, *overrides],
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def forked(folder: Path) -> Iterator[tuple[BaseProcess, Callable[[], set[int]]]]:
    """A process that runs the command, and what tells which others are forked for it."""
    write_settings(folder)
    process = forked_processes.started(folder, forked_processes.command, *COMMAND)
    server = int(status(process.pid)[1])
    before = started_by(server)
    try:
        yield process, lambda: started_by(server) - before
    finally:
        process.kill()


def checkpoint_of(folder: Path) -> Path:
    return folder / "runs/letters/plain/seed_0/checkpoint.pt"


def test_no_process_outlives_the_one_that_was_started(tmp_path):
    folder = tmp_path / "killed"
    process = started(folder)
    wait_for(checkpoint_of(folder).exists, "no epoch was finished")
    # One that counts what is shared, two that start others, one that runs, two that read.
    wait_for(lambda: len(started_by(process.pid)) >= 6, "nobody reads")
    pids = started_by(process.pid)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    wait_for(lambda: not any(map(is_running, pids)), "left after it was killed")


def test_no_process_outlives_one_that_is_told_to_end(tmp_path):
    folder = tmp_path / "terminated"
    with forked(folder) as (process, others):
        wait_for(checkpoint_of(folder).exists, "no epoch was finished")
        wait_for(lambda: len(others()) >= 3, "nobody reads")
        pids = others()
        process.terminate()
        process.join(60)
        assert process.exitcode == -signal.SIGTERM
        wait_for(lambda: not any(map(is_running, pids)), "left after it was told to end")


def test_a_process_that_reads_ends_with_one_that_is_killed_before_it_is_ready(tmp_path):
    with forked(tmp_path / "early") as (process, others):
        # One runs, and one that reads has just been started.
        wait_for(lambda: len(others()) >= 2, "nothing was started")
        pids = others()
        process.kill()
        process.join(60)
        wait_for(lambda: not any(map(is_running, pids | others())), "left")


def test_no_process_outlives_torchrun(tmp_path):
    # What reads for a process ends with it, as above: here no process imports all for that.
    process = started(tmp_path / "ranks", TORCHRUN, "data.workers=0")
    wait_for(checkpoint_of(tmp_path / "ranks").exists, "no epoch was finished")
    pids = started_by(process.pid)
    assert len(pids) >= 2
    process.kill()
    process.wait(timeout=60)
    wait_for(lambda: not any(map(is_running, pids)), "left after torchrun was killed")
