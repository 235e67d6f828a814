"""The small networks of the default benchmark, and embedders."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pml_synthesis._checks import expect


class ConvTrunk(nn.Module):
    """Convolutional features of small images: [B, in_channels, H, W] -> [B, widths[-1]].

    A block of [3x3 convolution, batch norm, ReLU] for each width, with max-pooling between the
    blocks and global average pooling at the end. It works in channels_last memory format, which
    is faster on CPU.

    Arguments:
        widths: the output channels of each block.
        in_channels: the channels of the images.

    Raises:
        ValueError: if there is no width, or one below 1.

    Example:
        >>> ConvTrunk()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 64])
    """

    def __init__(self, widths: Sequence[int] = (32, 32, 64, 64), in_channels: int = 1) -> None:
        positive = bool(widths) and min(widths) >= 1
        expect(positive, "widths", "a list of positive integers", widths)
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((in_channels, *widths)):
            layers += [*_block(inputs, outputs), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
        # PyTorch's annotations of Module.to leave memory_format alone out.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, widths[-1]] of images [B, in_channels, H, W]."""
        return self.layers(images.to(memory_format=torch.channels_last))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    # The batch norm's shift takes the place of the convolution's bias.
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class LinearEmbedder(nn.Linear):
    """From the trunk's features to embeddings: [B, in_features] -> [B, embedding_size].

    Arguments:
        in_features: the width of the trunk's last block.
        embedding_size: the dimension of the embeddings.

    Example:
        >>> LinearEmbedder()(torch.zeros(2, 64)).shape
        torch.Size([2, 64])
    """

    def __init__(self, in_features: int = 64, embedding_size: int = 64) -> None:
        super().__init__(in_features, embedding_size)


class LayerNormEmbedder(nn.Sequential):
    """Normalised features, linearly embedded: [B, in_features] -> [B, embedding_size].

    As in the released code of SEE, the linear map starts orthogonal, its bias at 0.

    Arguments:
        in_features: the width of the trunk's last block.
        embedding_size: the dimension of the embeddings.

    Example:
        >>> LayerNormEmbedder(2048, 512)(torch.zeros(2, 2048)).shape
        torch.Size([2, 512])
    """

    def __init__(self, in_features: int, embedding_size: int) -> None:
        normalized = nn.LayerNorm(in_features, elementwise_affine=False)
        linear = nn.Linear(in_features, embedding_size)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        super().__init__(normalized, linear)


class PixelTrunk(nn.Flatten):
    """The pixels themselves as features, the baseline without learning: [B, 1, H, W] -> [B, H * W].

    Example:
        >>> PixelTrunk()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 784])
    """

    def __init__(self) -> None:
        super().__init__(start_dim=1)
