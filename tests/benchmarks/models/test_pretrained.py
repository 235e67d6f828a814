"""Pretrained networks: their settings file, and what is said where they cannot be used."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import benchmarks
from benchmarks.models import TimmTrunk, TorchvisionTrunk
from benchmarks.settings.described import load_splits
from benchmarks.settings.reading import load
from benchmarks.training.assembly import Parts
from trained_run import write_photos

CONFIG = Path(benchmarks.__file__).parent / "configs" / "image_folder_pretrained.yaml"


@pytest.mark.parametrize("trunk", [TimmTrunk, TorchvisionTrunk])
@pytest.mark.parametrize(
    ("raised", "advice"),
    [
        (RuntimeError("operator torchvision::nms does not exist"), "from where torch itself was"),
        (ImportError("undefined symbol: _ZN5"), "from where torch itself was"),
        (ModuleNotFoundError("No module named 'timm'", name="timm"), "Install both: .*timm"),
    ],
)
def test_a_library_that_does_not_fit_is_told_with_what_to_install(
    trunk, raised, advice, monkeypatch
):
    def fail(name):
        raise raised

    monkeypatch.setattr(importlib, "import_module", fail)
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    with pytest.raises(ImportError, match=rf"torch 2.13.0\+cpu: .*{advice}") as caught:
        trunk("resnet18")
    assert str(caught.value).endswith("torchvision==0.28.*'")


class FakeTimm:
    """Stands for timm: a network of 512 features."""

    @staticmethod
    def create_model(name: str, **options):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 512))


def test_the_settings_for_pretrained_networks_can_be_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", FakeTimm)
    photos = write_photos(tmp_path / "photos", classes=18)
    variants = load(CONFIG, [f"data.root={photos}"]).variants
    assert [run.variant for run in variants][:2] == ["proxy_nca", "proxy_nca+ps"]
    splits = load_splits(variants[0].data)
    assert splits.train.images.shape[1:] == (3, 224, 224)
    for run in variants:
        parts = Parts(run, splits)
        assert ("embedder" in parts.models) == (run.variant != "pretrained")
    images = torch.stack([parts.test[0][0], parts.test[-1][0]])
    assert parts.models["trunk"](images).shape == (2, 512)
    assert images.min() < -0.3, "normalised"
