"""Networks, embedders and how the proxies of losses start."""

from benchmarks.models.networks import ConvTrunk, LayerNormEmbedder, LinearEmbedder, PixelTrunk
from benchmarks.models.pretrained import TimmTrunk, TorchvisionTrunk
from benchmarks.models.proxies import LinearProxies, UnitProxies
from benchmarks.models.resnet import SmallResNet

__all__ = [
    "ConvTrunk",
    "LayerNormEmbedder",
    "LinearEmbedder",
    "LinearProxies",
    "PixelTrunk",
    "SmallResNet",
    "TimmTrunk",
    "TorchvisionTrunk",
    "UnitProxies",
]
