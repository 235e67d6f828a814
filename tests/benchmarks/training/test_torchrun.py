"""Two processes of torchrun train as one process does, and only the first of them writes."""

import signal
from pathlib import Path

import pandas as pd
import pytest
import torch

import forked_processes
from benchmarks import files
from benchmarks.evaluation.metrics import MAIN_METRIC
from benchmarks.evaluation.retrieval import evaluate
from benchmarks.results.paths import run_folder
from benchmarks.settings.described import load_splits
from benchmarks.settings.reading import load
from benchmarks.settings.schema import Run
from benchmarks.training.assembly import Parts
from benchmarks.training.hooks import SECONDS
from benchmarks.training.run import execute

# In float64, and with SGD, whose steps are as long as the gradients. Fifteen images to test cannot
# be shared equally.
SETTINGS = """
data:
  train: {few_glyphs.patterns: {split: train}}
  val: {few_glyphs.patterns: {split: val}}
  test: {few_glyphs.patterns: {split: test, num_classes: 3, count: 5}}
model:
  trunk: {few_glyphs.DoubleTrunk: {width: 12}}
  embedder: {few_glyphs.double: {module: {LinearEmbedder: {in_features: 12}}}}
embedding_size: 16
transforms: {train: [{RandomAffine: {}}]}
sampler: {MPerClassSampler: {m: 4, length_before_new_iter: 96}}
batch_size: 32
epochs: 2
iterations_per_epoch: 4
optimizers:
  trunk: &sgd {SGD: {lr: 0.1, momentum: 0.9}}
  embedder: *sgd
  metric_loss: *sgd
seeds: [3]
variants:
  norm_softmax+ps:
    loss:
      few_glyphs.double:
        module:
          SynthesisLoss: {loss: {NormalizedSoftmaxLoss: {}}, augmenter: {ProxySynthesis: {}}}
  triplets:
    miner: {MultiSimilarityMiner: {}}
    loss: {TripletMarginLoss: {}}
  batch_norm:
    loss: {ProxyNCALoss: {}}
    model: {embedder: {few_glyphs.double: {module: {BatchNorm1d: {num_features: 12}}}}}
    embedding_size: 12
  iaa:
    loss:
      few_glyphs.double:
        module:
          SynthesisLoss:
            loss: {ContrastiveLoss: {}}
            augmenter: {IntraclassAdaptiveAugmentation: {num_neighbors: 2}}
  # It dies in the middle of its second epoch.
  proxy_anchor+see:
    loss:
      few_glyphs.dying:
        at_call: 7
        once: ONCE
        loss:
          few_glyphs.double:
            module:
              ProxyAnchorLoss:
                embedding_reg_weight: 0.5
                embedding_regularizer:
                  SynthesisRegularizer:
                    augmenter:
                      SphericalEmbeddingExpansion:
                        num_expansions: 3
                        fraction: {CosineSchedule: {start: 0.2, end: 1.0}}
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "patterns.yaml"
    path.write_text(SETTINGS.replace("ONCE", str(tmp_path / "once")))
    return path


def torchrun(config: Path) -> list[int | None]:
    """Run the comparison; what is written by a process lands in a folder of its own."""
    folders = [of_rank(rank, config) for rank in range(2)]
    command = ("compare", str(config), "--import", "few_glyphs")
    return forked_processes.torchrun(folders, forked_processes.command, *command)


def of_rank(rank: int, config: Path) -> Path:
    return config.parent / f"of_rank_{rank}"


def printed(rank: int, config: Path) -> str:
    return (of_rank(rank, config) / forked_processes.OUTPUT).read_text()


def run_of(config: Path, variant: str) -> Run:
    (run,) = load(config, variants=[variant], imports=["few_glyphs"]).runs
    return run


def folder_of(config: Path, run: Run) -> Path:
    return run_folder(of_rank(0, config) / "runs" / "patterns", run)


def test_two_processes_train_as_one(config, tmp_path):
    """The last run is killed, too, and goes on."""
    assert -signal.SIGKILL in torchrun(config), printed(0, config)
    # Where the other process sees that before it is ended itself, it prints its error.
    assert printed(1, config).partition("Process ")[0] == ""
    (of_rank(1, config) / forked_processes.OUTPUT).unlink()
    checkpoint_path = folder_of(config, run_of(config, "proxy_anchor+see")) / "checkpoint.pt"
    assert files.load(checkpoint_path)["epoch"] == 1
    assert torchrun(config) == [0, 0], printed(0, config)
    assert printed(0, config).count("Results in") == 1

    for variant in ("norm_softmax+ps", "triplets", "iaa", "proxy_anchor+see"):
        _assert_trained_as_one_process_does(run_of(config, variant), config, tmp_path / variant)
    _assert_saved_statistics_give_the_figures(run_of(config, "batch_norm"), config)
    # Only the first process writes.
    assert len(list(of_rank(0, config).rglob("metrics.csv"))) == 5
    assert printed(1, config) == ""
    assert list(of_rank(1, config).rglob("*")) == [of_rank(1, config) / forked_processes.OUTPUT]


def _assert_trained_as_one_process_does(run: Run, config: Path, alone: Path) -> None:
    expected = execute(run, load_splits(run.data), alone)
    folder = folder_of(config, run)
    metrics = pd.read_csv(folder / "metrics.csv")
    close = {"rtol": 1e-9, "atol": 1e-9}
    pd.testing.assert_frame_equal(
        metrics.drop(columns="seconds"), expected.drop(columns="seconds"), **close
    )
    weights, others = (torch.load(f / "best.pt", weights_only=True) for f in (folder, alone))
    torch.testing.assert_close(weights, others, **close)

    tables = sorted(path.name for path in (alone / "logs").glob("*.csv"))
    assert tables == sorted(path.name for path in (folder / "logs").glob("*.csv"))
    for name in set(tables) - {f"{SECONDS}.csv"}:
        pd.testing.assert_frame_equal(
            *(pd.read_csv(f / "logs" / name) for f in (folder, alone)), **close
        )


def _assert_saved_statistics_give_the_figures(run: Run, config: Path) -> None:
    """Those of batch norm are those of the first process."""
    parts = Parts(run, load_splits(run.data))
    for name, weights in torch.load(folder_of(config, run) / "best.pt").items():
        (parts.models | parts.losses)[name].load_state_dict(weights)
    found = evaluate(parts.models, "val", parts.val, 0, run.recall_at, 0, None)
    metrics = pd.read_csv(folder_of(config, run) / "metrics.csv")
    best = metrics[metrics["split"] == "val"].sort_values(MAIN_METRIC).iloc[-1]
    assert best[list(found)].to_dict() == pytest.approx(found, abs=1e-9)
