"""Networks of timm and torchvision without their classifiers, which the extra `vision` brings."""

import importlib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from benchmarks.errors import nearest

# Options of timm that name files or addresses of weights, which it reads with pickle.
FOREIGN_WEIGHTS = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"}


class TimmTrunk(nn.Module):
    """A network of timm: images [B, 3, H, W] -> features [B, D].

    Arguments:
        name: what timm.create_model calls it, with the name of the weights after a dot.
        pretrained: whether to load these weights, or to start from random ones.
        frozen: the parts of the network that do not train, such as ["patch_embed"].
        options: what else the network takes, such as global_pool.

    Raises:
        ImportError: if timm is not installed.
        RuntimeError: if there is no such network.
        ValueError: if the weights are not timm's own, or the network has no such part.

    Example:
        >>> TimmTrunk("resnet50.tv_in1k")(torch.zeros(2, 3, 224, 224)).shape  # doctest: +SKIP
        torch.Size([2, 2048])
    """

    def __init__(
        self, name: str, pretrained: bool = True, frozen: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__()
        if ":" in name or (foreign := FOREIGN_WEIGHTS & options.keys()):
            got = repr(name) if ":" in name else f"the option {min(foreign)}"
            raise ValueError(
                "Expected argument `name` to be a network of timm with timm's own weights, but got "
                f"{got}: weights from elsewhere may hold code. Load them in a module of yours."
            )
        create_model = _imported("timm").create_model
        self.network = create_model(name, pretrained=pretrained, num_classes=0, **options)
        for part in frozen:
            _part(self.network, part).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, D] of images [B, 3, H, W]."""
        return self.network(images)


class TorchvisionTrunk(nn.Module):
    """A network of torchvision: images [B, 3, H, W] -> features [B, D].

    For those whose classifier is their layer `fc`, such as googlenet and the resnets.

    Arguments:
        name: what torchvision.models.get_model calls it.
        weights: pretrained weights, by torchvision's name of them; None for random ones.
        options: what else the network takes.

    Raises:
        ImportError: if torchvision is not installed.
        ValueError: if there is no such network, no such weights, or no layer `fc` in it.

    Example:
        >>> TorchvisionTrunk("googlenet")(torch.zeros(2, 3, 224, 224)).shape  # doctest: +SKIP
        torch.Size([2, 1024])
    """

    def __init__(self, name: str, weights: str | None = "DEFAULT", **options: Any) -> None:
        super().__init__()
        get_model = _imported("torchvision.models").get_model
        self.network = get_model(name, weights=weights, **options)
        if not isinstance(getattr(self.network, "fc", None), nn.Linear):
            raise ValueError(
                "Expected argument `name` to be a network whose classifier is its layer `fc`, "
                f"such as googlenet or resnet50, but got {name!r}. TimmTrunk may have it."
            )
        self.network.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, D] of images [B, 3, H, W]."""
        return self.network(images)


def _part(network: nn.Module, name: str) -> nn.Module:
    parts = dict(network.named_children())
    if name not in parts:
        raise ValueError(
            f"Expected argument `frozen` to name parts of the network but got {name!r}: "
            f"{nearest(name, parts)}"
        )
    return parts[name]


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    # torchvision raises a RuntimeError beside a torch that it was not built for.
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"{name} cannot be used: {error}. The extra `vision` brings it."
        ) from error
