import os

import pytest
import torch

os.environ.setdefault("MPLBACKEND", "Agg")  # No window opens.


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="the device that the tests run on")


@pytest.fixture(scope="session")
def device(request):
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
