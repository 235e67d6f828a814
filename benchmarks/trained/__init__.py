"""Trained networks: loaded from the folder of a run, used to embed pictures, and exported."""

from benchmarks.trained.loading import load_model
from benchmarks.trained.network import TrainedModel

__all__ = ["TrainedModel", "load_model"]
