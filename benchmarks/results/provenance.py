"""What a run was made with."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import faiss
import torch

import pml_synthesis
from benchmarks.distributed import world_size


def provenance() -> dict[str, str]:
    """Return the versions of what decides figures, and the commit of this code."""
    return {
        "commit": commit(Path(__file__).parent),
        "pml_synthesis": pml_synthesis.__version__,
        "pytorch_metric_learning": version("pytorch-metric-learning"),
        "torch": str(torch.__version__),
        "faiss": faiss.__version__,
        "python": platform.python_version(),
        "processes": str(world_size()),
    }


def commit(folder: Path) -> str:
    """Return the git commit of a folder, with "-dirty" where files of it were changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
