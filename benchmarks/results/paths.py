"""The results folder of a comparison.

<folder>/comparison.yaml        the variants, in order, and what each is compared with
<folder>/splits.yaml            how many classes and images each split has, and what they share
<folder>/summary.csv, .md       and results.csv and pictures
<folder>/<variant>/seed_<n>/    settings.yaml, versions.yaml, data.yaml, logs/; once the run is
                                finished best.pt, view.pt, hits.pt and metrics.csv; until then
                                checkpoint.pt, and where it failed error.txt
<folder>/<variant>/examples.pt  what pictures of its retrieval are made of
"""

import re
from pathlib import Path

from benchmarks.settings.schema import Run

COMPARISON = "comparison.yaml"
SPLITS = "splits.yaml"
SETTINGS = "settings.yaml"
VERSIONS = "versions.yaml"
DATA = "data.yaml"
METRICS = "metrics.csv"
CHECKPOINT = "checkpoint.pt"
MODELS = "best.pt"
VIEW = "view.pt"
HITS = "hits.pt"
EXAMPLES = "examples.pt"
LOGS = "logs"
FAILURE = "error.txt"
LOCK = ".lock"


def run_folder(folder: Path, run: Run) -> Path:
    """Return the folder of a run in that of its comparison."""
    return folder / run.variant / f"seed_{run.seed}"


def run_of(folder: Path) -> tuple[str, int]:
    """Return the variant and the seed of the folder of a run."""
    return folder.parent.name, int(folder.name.removeprefix("seed_"))


def is_finished(folder: Path) -> bool:
    """Tell whether the folder of a run holds its results."""
    return (folder / METRICS).exists()


def runs_of(folder: Path) -> list[Path]:
    """Return the folders of the runs of a variant, in the order of their seeds."""
    runs = [path for path in folder.glob("seed_*") if re.fullmatch(r"seed_-?\d+", path.name)]
    return sorted(runs, key=run_of)
