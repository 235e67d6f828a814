from multiprocessing import forkserver
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks.processes import start_method
from benchmarks.training import workers


@pytest.fixture(scope="session", autouse=True)
def one_fork_server(cache_of_its_own):
    """Fork all processes off one that has imported the runner, whichever test is the first."""
    if start_method(*workers.NEEDED) == "forkserver":
        forkserver.ensure_running()


@pytest.fixture
def unrendered(monkeypatch):
    """Leave the files of pictures empty: most of the time of a report is spent on rendering."""
    monkeypatch.setattr(Figure, "savefig", lambda _, path, **options: Path(path).touch())
