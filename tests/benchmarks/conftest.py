from multiprocessing import forkserver

import pytest

from benchmarks.processes import start_method
from benchmarks.training import workers


@pytest.fixture(scope="session", autouse=True)
def one_fork_server(cache_of_its_own):
    """Fork all processes off one that has imported the runner, whichever test is the first."""
    if start_method(*workers.NEEDED) == "forkserver":
        forkserver.ensure_running()
