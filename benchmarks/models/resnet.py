"""A small residual network for colour images."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pml_synthesis._checks import expect, expect_integer


class SmallResNet(nn.Module):
    """Residual features of small images: [B, in_channels, H, W] -> [B, widths[-1]].

    For images of 32 to 96 pixels: a 3x3 convolution, a stage of residual blocks (He et al., CVPR
    2016) for each width, each of which halves height and width, and global average pooling. It
    works in channels_last memory format, which is faster on CPU.

    Arguments:
        widths: the output channels of each stage.
        blocks: the residual blocks of a stage, of two 3x3 convolutions each.
        in_channels: the channels of the images.
        stride: of the first convolution; 2 makes images of 64 pixels as cheap as those of 32.

    Raises:
        ValueError: if there is no width, or a number is below 1.

    Example:
        >>> SmallResNet()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        in_channels: int = 3,
        stride: int = 1,
    ) -> None:
        positive = bool(widths) and min(widths) >= 1
        expect(positive, "widths", "a list of positive integers", widths)
        for name, value in (("blocks", blocks), ("in_channels", in_channels), ("stride", stride)):
            expect_integer(name, value)
        super().__init__()
        layers: list[nn.Module] = [*_convolution(in_channels, widths[0], stride), nn.ReLU()]
        for inputs, outputs in pairwise((widths[0], *widths)):
            layers.append(ResidualBlock(inputs, outputs, stride=2))
            layers += [ResidualBlock(outputs, outputs) for _ in range(blocks - 1)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        # PyTorch's annotations of Module.to leave memory_format alone out.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, widths[-1]] of images [B, in_channels, H, W]."""
        return self.layers(images.to(memory_format=torch.channels_last))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to their input: [B, inputs, H, W] -> [B, outputs, H', W'].

    Where the shape changes, a 1x1 convolution with the same stride takes the place of the input.

    Arguments:
        inputs: channels.
        outputs: channels.
        stride: of the first convolution.

    Example:
        >>> ResidualBlock(8, 16, stride=2)(torch.zeros(2, 8, 10, 10)).shape
        torch.Size([2, 16, 5, 5])
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        first = [*_convolution(inputs, outputs, stride), nn.ReLU()]
        self.residual = nn.Sequential(*first, *_convolution(outputs, outputs))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(*_convolution(inputs, outputs, stride, size=1))

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, outputs, H', W']."""
        return F.relu(self.shortcut(features) + self.residual(features))


def _convolution(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> list[nn.Module]:
    # The batch norm's shift takes the place of the convolution's bias.
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]
