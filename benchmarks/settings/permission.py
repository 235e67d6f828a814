"""What settings may name, so that to read a file, or to try it with --dry-run, runs no code in it.

Classes of the libraries that settings are made of need no permission. Any other package is code of
its own: it is imported only where the command line names it, `--import PACKAGE`.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_origin

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Sampler

from benchmarks.errors import SettingsError

LIBRARIES = (
    *("pml_synthesis", "benchmarks", "pytorch_metric_learning", "torch"),
    *("timm", "torchvision"),
)
# Of these kinds no class of the libraries reads files, starts programs or loads code when it is
# made, which others do, such as torch.package.PackageImporter.
KINDS = (nn.Module, Sampler, Optimizer, LRScheduler)


def check_name(name: str, imports: Iterable[str]) -> None:
    """Raise a SettingsError unless a dotted path may be imported; nothing is imported for that.

    Arguments:
        name: the dotted path.
        imports: the packages, or modules of them, that the command line names.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise SettingsError(f"expected names with dots between them but got {name!r}.")
    package, *parts = name.split(".")
    if package in LIBRARIES:
        if any(part.startswith("_") for part in parts):
            raise SettingsError(f"{name!r} is private to {package}. Name a public class.")
    elif not any(_is_within(name, allowed) for allowed in imports):
        raise SettingsError(
            f"{name!r} is code of {package!r}, which the command line does not name. If you trust "
            f"it, add --import {package}"
        )


def check_found(
    found: Any, name: str, kind: type, is_offered: bool, imports: Iterable[str]
) -> None:
    """Raise a SettingsError unless a place takes what a name leads to.

    Arguments:
        found: what was found; it is not called here.
        name: what the settings call it.
        kind: the class that the place takes objects of; `object` takes any.
        is_offered: whether it has a short name.
        imports: as in `check_name`.
    """
    origin = getattr(found, "__module__", None) or ""
    if origin.split(".")[0] in LIBRARIES:
        if not is_offered and not (inspect.isclass(found) and issubclass(found, KINDS)):
            package = origin.split(".")[0]
            raise SettingsError(
                f"expected a class of {package} that makes a module, a sampler, an optimiser or a "
                f"scheduler, but got {name!r}."
            )
    elif not (inspect.isclass(found) or inspect.isfunction(inspect.unwrap(found))):
        raise SettingsError(f"expected a class, or a function that makes objects, but got {name!r}")
    elif not any(_is_within(origin, allowed) for allowed in imports):
        raise SettingsError(
            f"{name!r} is defined in {origin!r}, which the command line does not name. If you "
            f"trust it, add --import {origin.split('.')[0]}"
        )
    made = _made(found, kind)
    if not (inspect.isclass(made) and issubclass(made, kind)):
        wanted = "objects that can be called" if kind is Callable else f"objects of {kind.__name__}"
        raise SettingsError(
            f"expected a class of {wanted}, or a function whose annotation says that it returns "
            f"one, but got {name!r}."
        )


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _made(found: Callable[..., Any], kind: type) -> Any:
    """The class of what a class or a function makes; functions say it in their annotation."""
    if inspect.isclass(found):
        return found
    if kind is object:
        return object
    try:
        returned = inspect.signature(found, eval_str=True).return_annotation
    except (NameError, AttributeError):  # a name that is imported for type checkers alone
        return None
    return get_origin(returned) or returned
