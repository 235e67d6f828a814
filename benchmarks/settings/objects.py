"""Objects in settings: `ClassName: {keyword: value}`, where a value may be an object again.

Classes are found by name in NAMESPACES, and in those of OPTIONAL that are installed; others, and
functions, by their dotted path, where that is permitted (see permission.py).
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from types import ModuleType
from typing import Any

from pytorch_metric_learning import distances, losses, miners, reducers, regularizers, samplers
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.utils import data

import pml_synthesis
from benchmarks import datasets, models
from benchmarks.errors import SettingsError, expect, nearest
from benchmarks.settings import permission
from benchmarks.settings.merging import is_object
from pml_synthesis import schedules

NAMESPACES: tuple[ModuleType, ...] = (
    pml_synthesis,
    schedules,
    datasets,
    models,
    losses,
    miners,
    samplers,
    reducers,
    distances,
    regularizers,
    optim,
    lr_scheduler,
    data,
    nn,
)
# Imported only for a name that nothing else has: some of these fail to import beside some torch.
# What the runner knows and settings of an object must not contradict.
SHARED = {
    "embedding_size": "the `embedding_size` of the run",
    "batch_size": "the `batch_size` of the run",
    "num_classes": "the number of training classes",
}
OPTIONAL = ("timm.models", "torchvision.models", "torchvision.transforms.v2")


def build(value: Any, path: str = "", /, **offered: Any) -> Any:
    """Make the object that settings describe; numbers, texts and lists stay what they are.

    This calls what it is given: settings from a file go through `check` first.

    Arguments:
        value: `{ClassName: {keyword: value}}`, or None for no object.
        path: where in the settings it stands, for messages.
        offered: what the runner knows, such as num_classes. Each class, nested ones included,
            gets those that its constructor takes and the settings leave out.

    Raises:
        SettingsError: if a constructor raises anything (the message is its own, after the path),
            or settings contradict a size or a number that is offered.

    Example:
        >>> loss = build({"ProxyNCALoss": {"softmax_scale": 9}}, num_classes=5, embedding_size=8)
        >>> loss.softmax_scale, loss.proxies.shape
        (9, torch.Size([5, 8]))
    """
    if isinstance(value, list):
        return [build(item, f"{path}[{i}]", **offered) for i, item in enumerate(value)]
    if not is_object(value):
        if isinstance(value, dict):
            return {key: build(item, f"{path}.{key}", **offered) for key, item in value.items()}
        return value
    ((name, given),) = value.items()
    path = f"{path}.{name}" if path else name
    factory = find(name)
    arguments = {
        key: build(item, f"{path}.{key}", **offered) for key, item in (given or {}).items()
    }
    for key in SHARED.keys() & offered.keys() & arguments.keys():
        if arguments[key] != offered[key]:
            raise SettingsError(
                f"{path}.{key}: expected {offered[key]}, {SHARED[key]}, but got {arguments[key]}. "
                "Leave it out here."
            )
    known, _ = keywords(factory)
    arguments = {key: offered[key] for key in known & offered.keys()} | arguments
    try:
        return factory(**arguments)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(f"{path}: {reason}") from error


def check(value: Any, path: str, kind: type = object, imports: Collection[str] = ()) -> None:
    """Raise a SettingsError, naming the path, unless value is an object that can be made.

    Arguments:
        value: `{ClassName: {keyword: value}}`; nothing of it is made or called.
        path: where in the settings it stands, for messages.
        kind: the class that the place takes objects of.
        imports: the packages that may be imported beside the libraries.
    """
    if not is_object(value):
        got = ", ".join(map(str, value)) if isinstance(value, dict) else repr(value)
        raise SettingsError(f"{path}: expected one `ClassName: {{keyword: value}}` but got {got}.")
    ((name, given),) = value.items()
    try:
        known, takes_any = keywords(_permitted(name, kind, imports))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    path = f"{path}.{name}"
    expect(isinstance(given or {}, dict), path, "{keyword: value}", given)
    for key, item in (given or {}).items():
        if key not in known and not takes_any:
            raise SettingsError(f"{path}: unknown keyword {key!r}: {nearest(str(key), known)}")
        _check_parts(item, f"{path}.{key}", imports)


def find(name: str) -> Callable[..., Any]:
    """Return the class of a name, or what a dotted path leads to."""
    if "." in name:
        try:
            return pkgutil.resolve_name(name)
        except Exception as error:  # whatever the code of a package raises
            raise SettingsError(f"nothing can be imported as {name!r}: {error}") from error
    for namespace in chain(NAMESPACES, _optional_namespaces()):
        if name in _classes(namespace):
            return getattr(namespace, name)
    every = (known for namespace in NAMESPACES for known in _classes(namespace))
    raise SettingsError(f"unknown class {name!r}: {nearest(name, set(every))}")


def keywords(factory: Callable[..., Any]) -> tuple[set[str], bool]:
    """Return the keywords that a class or function names, and whether it takes any other.

    PML's classes hand `**kwargs` on to their base classes, so the constructors of these count
    too, up to the first one that hands on nothing.
    """
    names: set[str] = set()
    for constructor in _constructors(factory):
        parameters = inspect.signature(constructor).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names - {"self"}, False
    return names - {"self"}, True


def _constructors(factory: Callable[..., Any]) -> Iterable[Callable[..., Any]]:
    if not inspect.isclass(factory):
        return [factory]
    return [vars(base)["__init__"] for base in factory.__mro__ if "__init__" in vars(base)]


def _classes(namespace: ModuleType) -> set[str]:
    # What a module only imports from elsewhere is not its own to offer.
    root = namespace.__name__.split(".")[0]
    return {
        name
        for name, value in vars(namespace).items()
        if inspect.isclass(value) and name[0] != "_" and value.__module__.split(".")[0] == root
    }


def _optional_namespaces() -> Iterator[ModuleType]:
    for name in OPTIONAL:
        # torchvision raises a RuntimeError beside a torch that it was not built for.
        with suppress(ImportError, RuntimeError):
            yield importlib.import_module(name)


def _permitted(name: str, kind: type, imports: Collection[str]) -> Callable[..., Any]:
    if "." in name:
        permission.check_name(name, imports)
    found = find(name)
    short = "." not in name or any(
        getattr(namespace, known) is found
        for namespace in NAMESPACES
        for known in _classes(namespace)
    )
    permission.check_found(found, name, kind, short, imports)
    return found


def _check_parts(value: Any, path: str, imports: Collection[str]) -> None:
    if is_object(value):
        check(value, path, imports=imports)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_parts(item, f"{path}.{key}", imports)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_parts(item, f"{path}[{index}]", imports)
