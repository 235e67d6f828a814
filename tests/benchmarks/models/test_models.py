"""The networks of the default benchmark."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models import ConvTrunk, LinearEmbedder, PixelTrunk, SmallResNet, TimmTrunk
from benchmarks.models.resnet import ResidualBlock


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


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "hf-hub:somebody/network"},
        {"name": "local-dir:folder"},
        {"name": "resnet18", "checkpoint_path": "weights.pth"},
        {"name": "resnet18", "pretrained_cfg": {"file": "weights.pth"}},
        {"name": "resnet18", "cache_dir": "weights"},
    ],
)
def test_weights_that_may_hold_code_are_refused(arguments):
    with pytest.raises(ValueError, match="from elsewhere.* may hold code"):
        TimmTrunk(**arguments)


# ---------------------------------------------------------------- SmallResNet


@pytest.mark.parametrize("size", [32, 48, 64, 96])
@pytest.mark.parametrize("stride", [1, 2])
def test_small_resnet_takes_images_of_32_to_96_pixels(size, stride):
    features = SmallResNet((4, 6), stride=stride)(torch.rand(2, 3, size, size))
    assert features.shape == (2, 6) and features.isfinite().all()


def test_each_stage_of_small_resnet_halves_the_image():
    layers = SmallResNet((4, 6, 8), blocks=2, in_channels=1, stride=2).layers
    blocks = [layer for layer in layers if isinstance(layer, ResidualBlock)]
    assert len(blocks) == 6
    images = torch.rand(1, 1, 32, 32)
    sizes = []
    for layer in layers:
        images = layer(images)
        if isinstance(layer, ResidualBlock):
            sizes.append((images.shape[1], images.shape[-1]))
    assert sizes == [(4, 8), (4, 8), (6, 4), (6, 4), (8, 2), (8, 2)]


@pytest.mark.parametrize(("outputs", "stride"), [(4, 1), (4, 2), (6, 1)])
def test_a_residual_block_adds_to_its_shortcut(outputs, stride):
    block = ResidualBlock(4, outputs, stride).eval()
    features = torch.rand(2, 4, 8, 8)
    first, norm, _, second, last = block.residual
    expected = last(second(F.relu(norm(first(features))))) + block.shortcut(features)
    torch.testing.assert_close(block(features), F.relu(expected))
    assert isinstance(block.shortcut, nn.Identity) == (outputs == 4 and stride == 1)


def test_small_resnet_holds_its_weights_in_channels_last():
    weight = SmallResNet().layers[3].residual[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_every_parameter_of_small_resnet_is_trained():
    model = SmallResNet((4, 6))
    model(torch.rand(8, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": [4, 0]}, "widths"),
        ({"blocks": 0}, "blocks"),
        ({"in_channels": 0}, "in_channels"),
        ({"stride": 0}, "stride"),
    ],
)
def test_small_resnet_refuses_numbers_below_one(options, argument):
    with pytest.raises(ValueError, match=f"`{argument}`"):
        SmallResNet(**options)
