"""Where a loss keeps its class proxies, and what else in it depends on the number of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn import Module
from torch.nn.utils import parametrize

from .. import augmenters
from .._checks import expect, is_integer
from ..pml import BaseMetricLossFunction


@dataclass(frozen=True)
class ProxyBinding:
    """Knows where the losses of one class keep their proxies.

    What :func:`register_proxies` is told, which explains it, and

    Args:
        before_copy: what the loss does to its weight at the start of a call, done before the weight
            is copied for one.
        weighs_exponents: whether the loss adds the weights of embeddings, less 1, to exponents
            instead of multiplying its elements by them.

    Example:
        >>> binding = ProxyBinding("W", class_dim=1)
        >>> binding.proxies(losses.NormalizedSoftmaxLoss(98, 512)).shape
        torch.Size([98, 512])
    """

    weight: str
    class_dim: int = 0
    centers: str | None = None
    sized_by_classes: Mapping[str, Callable[[int], Any]] = field(default_factory=dict)
    uses_norms: bool = False
    before_copy: Callable[[Module], None] | None = None
    weighs_exponents: bool = False

    def proxies(self, loss: Module) -> Tensor:
        """Return the proxies of a loss, [C, D], or [C, K, D] where a class has K centres."""
        return self.proxies_in(loss, self.weight_of(loss))

    def proxies_in(self, loss: Module, weight: Tensor) -> Tensor:
        """Return the proxies that are in a weight of the loss, [C, D] or [C, K, D]."""
        rows = weight.movedim(self.class_dim, 0)
        if self.centers is None:
            return rows
        return rows.unflatten(0, (-1, getattr(loss, self.centers)))

    def extended_weight(self, weight: Tensor, new_proxies: Tensor) -> Tensor:
        """Return a weight of the loss with new classes, [E, D] or [E, K, D], behind it."""
        if len(new_proxies) == 0:
            return weight
        rows = new_proxies.flatten(0, -2).movedim(0, self.class_dim)
        return torch.cat([weight, rows], dim=self.class_dim)

    def attributes(self, loss: Module, weight: Tensor) -> dict[str, Any]:
        """Return, by name, the attributes of a loss with another weight, of any number of
        classes."""
        classes = weight.shape[self.class_dim]
        if self.centers is not None:
            classes //= getattr(loss, self.centers)
        sized = {name: value(classes) for name, value in self.sized_by_classes.items()}
        return {self.weight: weight, **sized}

    def weigh(self, mined: Tensor, weights: Tensor) -> Tensor:
        """Return what PML's loss is to take for the weights of embeddings, [N].

        Args:
            mined: what it makes of a mined tuple, [N].
            weights: how much each embedding counts, [N].
        """
        if self.weighs_exponents:
            return mined + weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
        return mined * weights

    def prepare(self, loss: Module) -> None:
        """Do to the weight what the loss does to it at the start of a call."""
        if self.before_copy is not None:
            self.before_copy(loss)

    def weight_of(self, loss: Module) -> Tensor:
        """Return the weight of the loss as it is."""
        try:
            weight: Any = reduce(getattr, self.weight.split("."), loss)
            return weight
        except AttributeError as error:
            raise ValueError(self._mistaken(loss, self.weight)) from error

    def check(self, loss: Module) -> None:
        """Raise a ValueError unless the loss has all that this says of it."""
        self.weight_of(loss)
        *owners, name = self.weight.split(".")
        owner = reduce(getattr, owners, loss)
        if not (
            name in owner._parameters
            or name in owner._buffers
            or parametrize.is_parametrized(owner, name)
        ):
            raise ValueError(
                f"`{self.weight}` of {type(loss).__name__} is no parameter but computed in each "
                "call, as by torch.nn.utils.weight_norm and spectral_norm. Use those of "
                "torch.nn.utils.parametrizations instead."
            )
        for name in [*self.sized_by_classes, *filter(None, [self.centers])]:
            if not hasattr(loss, name):
                raise ValueError(self._mistaken(loss, name))

    @staticmethod
    def _mistaken(loss: Module, name: str) -> str:
        return (
            f"{type(loss).__name__} has no `{name}`, where register_proxies was told to find what "
            "depends on its classes. Register the class again, with the right name."
        )


_BINDINGS: dict[type, ProxyBinding] = {}


def register_proxies(
    loss_class: type,
    weight: str,
    *,
    class_dim: int = 0,
    centers: str | None = None,
    sized_by_classes: Mapping[str, Callable[[int], Any]] | None = None,
    uses_norms: bool = False,
) -> None:
    """Teach the hooks where a proxy loss keeps its proxies, and its subclasses with it.

    Args:
        loss_class: a subclass of PML's `BaseMetricLossFunction`.
        weight: the name of the parameter that holds the proxies; `"layer.weight"` is that of a
            submodule.
        class_dim: the dimension of that parameter that counts classes: 0 for [C, D], 1 for [D, C].
        centers: the name of the attribute that says how many centres K a class has, for weights of
            C K rows (or columns), those of a class side by side.
        sized_by_classes: attributes that depend on the number of classes, each with the function
            from that number to its value, such as `{"num_classes": int}` or
            `{"proxy_labels": torch.arange}`.
        uses_norms: whether the norms of embeddings or proxies matter to the loss. If so, a
            synthetic row is given the norm of its source and a synthetic proxy the mean norm of the
            real ones.

    Raises:
        ValueError: if `loss_class` is no such subclass, `weight` or `centers` no name, `class_dim`
            neither 0 nor 1, or `sized_by_classes` no functions by name; when a loss of the class is
            given to a hook, if it has no attribute of a name.

    Example:
        >>> class MyLoss(losses.BaseMetricLossFunction):
        ...     def __init__(self, num_classes, embedding_size, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.prototypes = torch.nn.Parameter(torch.randn(num_classes, embedding_size))
        >>> register_proxies(MyLoss, "prototypes")
    """
    fits = isinstance(loss_class, type) and issubclass(loss_class, BaseMetricLossFunction)
    expect(fits, "loss_class", "a subclass of PML's BaseMetricLossFunction", loss_class)
    known_dim = is_integer(class_dim) and class_dim in (0, 1)
    expect(known_dim, "class_dim", "0 for [C, D] or 1 for [D, C]", class_dim)
    expect(_is_name(weight), "weight", "the name of a parameter, such as 'proxies'", weight)
    counted = centers is None or _is_name(centers)
    expect(counted, "centers", "the name of the attribute that counts them, or None", centers)
    sized = {} if sized_by_classes is None else sized_by_classes
    by_name = isinstance(sized, Mapping) and all(map(_is_name, sized))
    functions = by_name and all(map(callable, sized.values()))
    expect(functions, "sized_by_classes", "functions by name, such as {'num_classes': int}", sized)
    _BINDINGS[loss_class] = ProxyBinding(weight, class_dim, centers, dict(sized), uses_norms)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def find_binding(loss: Module) -> ProxyBinding | None:
    """Return the binding of the nearest class that a loss is an instance of, or None."""
    classes = type(loss).__mro__
    return next((_BINDINGS[known] for known in classes if known in _BINDINGS), None)


def require_binding(loss: Module, who: str) -> ProxyBinding:
    """Return the binding of a loss.

    Raises:
        ValueError: if its proxies are unknown; the message says to whom (`who`) they are needed.
    """
    binding = find_binding(loss)
    if binding is None:
        known = ", ".join(sorted(loss_class.__name__ for loss_class in _BINDINGS))
        name = type(loss).__name__
        raise ValueError(
            f"{who} needs the class proxies of the loss, and where {name} keeps any is unknown. If "
            f"it has proxies, say where with pml_synthesis.register_proxies({name}, ...). Known: "
            f"{known}. Losses without proxies work with {_without_proxies()}."
        )
    return binding


def _without_proxies() -> str:
    """Return the names of the augmenters that need no proxies."""
    public = ((name, getattr(augmenters, name)) for name in sorted(augmenters.__all__))
    names = [name for name, part in public if getattr(part, "requires_proxies", True) is False]
    return ", ".join(names)


def proxies_of(loss: Module) -> Tensor:
    """Return the class proxies of a proxy loss, or of the one that a wrapper has as its `loss`.

    Args:
        loss: a proxy loss of PML or one taught by :func:`register_proxies`, bare or in a
            :class:`~pml_synthesis.SynthesisLoss` or PML's `DistributedLossWrapper`.

    Returns:
        The proxies, [C, D], or [C, K, D] where a class has K centres: a view of the parameter.

    Raises:
        ValueError: if the loss has no proxies, or where it keeps them is unknown.

    Example:
        >>> proxies_of(losses.NormalizedSoftmaxLoss(98, 512)).shape
        torch.Size([98, 512])
    """
    while find_binding(loss) is None and isinstance(inner := getattr(loss, "loss", None), Module):
        loss = inner
    return require_binding(loss, who="proxies_of").proxies(loss)


def _renormalize(loss: Module) -> None:
    weight = loss.get_parameter("weight")
    weight.data = weight.data.renorm(2, 1, 1e-5).mul(1e5)


_COUNT: dict[str, Callable[[int], Any]] = {"num_classes": int}

register_proxies(losses.ArcFaceLoss, "W", class_dim=1, sized_by_classes=_COUNT)
register_proxies(losses.CosFaceLoss, "W", class_dim=1, sized_by_classes=_COUNT)
register_proxies(
    losses.LargeMarginSoftmaxLoss, "W", class_dim=1, sized_by_classes=_COUNT, uses_norms=True
)
register_proxies(losses.NormalizedSoftmaxLoss, "W", class_dim=1)
_BINDINGS[losses.P2SGradLoss] = ProxyBinding("weight", class_dim=1, before_copy=_renormalize)
_BINDINGS[losses.ProxyAnchorLoss] = ProxyBinding(
    "proxies", sized_by_classes=_COUNT, weighs_exponents=True
)
register_proxies(losses.ProxyNCALoss, "proxies", sized_by_classes={"proxy_labels": torch.arange})
register_proxies(
    losses.SoftTripleLoss,
    "fc",
    class_dim=1,
    centers="centers_per_class",
    sized_by_classes=_COUNT,
)
register_proxies(losses.SphereFaceLoss, "W", class_dim=1, sized_by_classes=_COUNT, uses_norms=True)
register_proxies(
    losses.SubCenterArcFaceLoss,
    "W",
    class_dim=1,
    centers="sub_centers",
    sized_by_classes=_COUNT,
)
