"""Networks of timm and torchvision without their classifiers, which the extra `vision` brings."""

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.errors import nearest

# Options of timm of the form of a network. Others name files, folders or addresses of weights,
# which it reads with pickle, or what it builds from.
OPTIONS = {
    *("class_token", "drop_block_rate", "drop_path_rate", "drop_rate", "dynamic_img_size"),
    *("global_pool", "img_size", "in_chans", "patch_size", "proj_drop_rate", "window_size"),
}


class TimmTrunk(nn.Module):
    """A network of timm: images [B, 3, H, W] -> features [B, D].

    Arguments:
        name: what timm.create_model calls it, with the name of the weights after a dot.
        pretrained: whether to load these weights, or to start from random ones.
        frozen: the parts of the network that do not train, such as ["patch_embed"].
        options: of the form of the network, such as global_pool.

    Raises:
        ImportError: if timm is not installed.
        RuntimeError: if there is no such network.
        ValueError: if the weights are not timm's own, an option is not of the form, or the network
            has no such part.

    Example:
        >>> TimmTrunk("resnet50.tv_in1k")(torch.zeros(2, 3, 224, 224)).shape  # doctest: +SKIP
        torch.Size([2, 2048])
    """

    def __init__(
        self, name: str, pretrained: bool = True, frozen: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__()
        if ":" in name:
            raise ValueError(
                "Expected argument `name` to be a network of timm with timm's own weights, but got "
                f"{name!r}: weights from elsewhere may hold code. Load them in a module of yours."
            )
        if foreign := options.keys() - OPTIONS:
            raise ValueError(
                f"Expected options among {', '.join(sorted(OPTIONS))}, but got {min(foreign)}: "
                "others may load weights from elsewhere, which may hold code. Make the network in "
                "a module of yours."
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


def without_weights(described: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a network that starts from random weights, to be replaced.

    Nothing is then downloaded. What torchvision changes in GoogLeNet and Inception because of the
    weights stays changed.

    Example:
        >>> without_weights({"TimmTrunk": {"name": "resnet18"}})
        {'TimmTrunk': {'name': 'resnet18', 'pretrained': False}}
    """
    ((name, given),) = described.items()
    given = given or {}
    if name.endswith("TimmTrunk"):
        return {name: given | {"pretrained": False}}
    if not name.endswith("TorchvisionTrunk") or given.get("weights", "DEFAULT") is None:
        return described
    changed = {
        "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
        "inception_v3": {"transform_input": True, "init_weights": False},
    }
    return {name: changed.get(given["name"], {}) | given | {"weights": None}}


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
            f"{name} cannot be used beside torch {torch.__version__}: {_brief(error)}. "
            f"{_remedy(error)}"
        ) from error


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _remedy(error: Exception) -> str:
    """Say what to install. timm imports torchvision, so that its errors may be that one's."""
    torchvision = f"torchvision=={torchvision_for(torch.__version__)}"
    if isinstance(error, ModuleNotFoundError) and error.name in ("timm", "torchvision"):
        return f"Install both: pip install timm '{torchvision}'"
    return (
        "Install the torchvision that was built for this torch, from where torch itself was "
        f"installed: pip install '{torchvision}'"
    )


def torchvision_for(torch_version: str) -> str:
    """Return the versions of torchvision that are built for a version of torch.

    Example:
        >>> torchvision_for("2.2.0"), torchvision_for("2.13.0+cpu")
        ('0.17.*', '0.28.*')
    """
    minor = int(torch_version.split(".")[1])
    return f"0.{minor + 15}.*"
