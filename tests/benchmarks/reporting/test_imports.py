"""Reports are made of files alone."""

import subprocess
import sys
from pathlib import Path

import benchmarks

SCRIPT = """
import sys
import benchmarks.reporting.papers, benchmarks.reporting.report
print(*(name for name in sys.modules if name.startswith("benchmarks.")))
"""


def test_a_report_imports_neither_training_nor_models_nor_datasets():
    root = Path(benchmarks.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=True
    )
    folders = {name.split(".")[1] for name in done.stdout.split()}
    assert "reporting" in folders and not folders & {"training", "models", "datasets"}
