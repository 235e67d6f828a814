"""The networks of the default benchmark."""

import pytest
import torch
from torch import nn

from benchmarks.models import ConvTrunk, LinearEmbedder, PixelTrunk


def test_conv_trunk_has_four_blocks_with_pooling_after_the_first_three():
    kinds = [type(layer) for layer in ConvTrunk().layers]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    pooled = [*block, nn.MaxPool2d]
    assert kinds == [*pooled * 3, *block, nn.AdaptiveAvgPool2d, nn.Flatten]


@pytest.mark.parametrize("widths", [(32, 32, 64, 64), [3, 5], (7,)])
def test_conv_trunk_gives_features_of_the_last_width(widths):
    features = ConvTrunk(widths)(torch.rand(2, 1, 28, 28))
    assert features.shape == (2, widths[-1])
    assert features.isfinite().all()


def test_conv_trunk_takes_images_with_more_channels():
    assert ConvTrunk((4, 4), in_channels=3)(torch.rand(2, 3, 8, 8)).shape == (2, 4)


def test_conv_trunk_holds_its_weights_in_channels_last():
    weight = ConvTrunk().layers[4].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


@pytest.mark.parametrize("widths", [(), (32, 0)])
def test_conv_trunk_refuses_widths_below_one(widths):
    with pytest.raises(ValueError, match="`widths`"):
        ConvTrunk(widths)


def test_linear_embedder_is_affine():
    embedder = LinearEmbedder(in_features=6, embedding_size=3)
    features = torch.rand(4, 6)
    expected = features @ embedder.weight.T + embedder.bias
    torch.testing.assert_close(embedder(features), expected)
    assert LinearEmbedder()(torch.rand(2, 64)).shape == (2, 64)


def test_pixel_trunk_returns_the_pixels():
    images = torch.rand(2, 1, 3, 4)
    assert torch.equal(PixelTrunk()(images), images.reshape(2, 12))


def test_every_parameter_of_the_default_model_is_trained():
    model = nn.Sequential(ConvTrunk(), LinearEmbedder())
    model(torch.rand(8, 1, 28, 28)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
