# The process that hands the tests out to others starts them sooner if it imports neither torch nor
# what is tested: fixtures import both.
import gc
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ.setdefault("MPLBACKEND", "Agg")  # No window opens.
# Processes import what the tests do, in whichever folder they start.
_paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _paths))


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="the device that the tests run on")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Start one worker more than there are cores: some tests wait for other processes."""
    from benchmarks.processes import cores

    return cores() + 1


def pytest_collection_finish():
    """Let the garbage collector leave alone all modules and tests, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def device(request):
    import torch

    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def skip_refused(request):
    """Skip what a loss refuses: one test asks for the error."""
    from cases import Example

    given = getattr(request.node, "callspec", None)
    if given and {"case", "augmenter"} <= given.params.keys():
        augmenter, loss_class = given.params["augmenter"], given.params["case"].loss_class
        if isinstance(augmenter, Example) and augmenter.is_refused_by(loss_class):
            pytest.skip(f"{loss_class.__name__} refuses {augmenter.augmenter.__name__}")


@pytest.fixture(autouse=True)
def seeded():
    import torch

    torch.manual_seed(0)
