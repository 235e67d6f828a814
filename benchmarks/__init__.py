"""The benchmark of pml_synthesis: datasets, models, settings, runner, summaries and plots."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Find what is imported when it is needed, and modules as older settings files name them."""
    if name == "load_model":
        return importlib.import_module("benchmarks.trained").load_model
    if name in ("pretrained", "proxies"):
        return importlib.import_module(f"benchmarks.models.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
