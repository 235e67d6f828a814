import os

import pytest
import torch

os.environ.setdefault("MPLBACKEND", "Agg")  # No window opens.


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="the device that the tests run on")


@pytest.fixture(scope="session")
def device(request):
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
