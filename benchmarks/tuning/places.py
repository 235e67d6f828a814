"""Which setting of a run a name such as `loss.temperature` means."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.settings.merging import Tree, is_object, merge
from benchmarks.settings.objects import find, keywords

Path = tuple[str | int, ...]
# What all variants have in common, and how long they are trained and how often looked at, without
# which trials could not be compared.
NOT_TUNED = (
    *("variant", "seed", "data", "epochs", "iterations_per_epoch", "evaluate_every", "recall_at"),
    *("device", "autocast", "autocast_dtype"),
)


@dataclass(frozen=True)
class Place:
    """A setting of a run.

    Arguments:
        path: the keys that lead to it; those of lists are numbers.
        short: the path without classes and numbers.
        value: what is there, the default of the class included; without one `inspect._empty`.
    """

    path: Path
    short: tuple[str, ...]
    value: Any

    @property
    def name(self) -> str:
        """The whole path, with dots."""
        return ".".join(map(str, self.path))

    @property
    def short_name(self) -> str:
        """The path without classes and numbers, with dots."""
        return ".".join(self.short)

    def is_called(self, name: str) -> bool:
        """Tell whether a name is the end of the path."""
        return any(f".{own}".endswith(f".{name}") for own in (self.name, self.short_name))


def places(settings: Tree) -> list[Place]:
    """Return all settings of a run that variants may change."""
    return list(_below({k: v for k, v in settings.items() if k not in NOT_TUNED}, (), ()))


def change_at(settings: Any, path: Path, value: Any) -> Any:
    """Return the change that sets one setting; of a list, which merging replaces, all of it.

    Example:
        >>> change_at({"a": {"b": 1, "c": 2}}, ("a", "b"), 5)
        {'a': {'b': 5}}
        >>> change_at({"a": [{"b": 1, "c": 2}, 3]}, ("a", 0, "b"), 5)
        {'a': [{'b': 5, 'c': 2}, 3]}
    """
    if not path:
        return value
    head, *rest = path
    if isinstance(settings, list):
        change = change_at(settings[head], tuple(rest), value)
        return [merge(item, change) if i == head else item for i, item in enumerate(settings)]
    below = settings.get(head) if isinstance(settings, dict) else None
    return {head: change_at(below, tuple(rest), value)}


def _below(value: Any, path: Path, short: tuple[str, ...]) -> Iterator[Place]:
    if is_object(value):
        ((name, given),) = value.items()
        for key, item in ({**_defaults(find(name)), **(given or {})}).items():
            yield from _below(item, (*path, name, key), (*short, key))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _below(item, (*path, key), (*short, key))
    elif isinstance(value, list):
        yield Place(path, short, value)
        for index, item in enumerate(value):
            yield from _below(item, (*path, index), short)
    else:
        yield Place(path, short, value)


def _defaults(factory: Callable[..., Any]) -> Tree:
    """What each keyword of a class, or of a function, is where the settings leave it out."""
    known, _ = keywords(factory)
    return {key: _default(factory, key) for key in sorted(known)}


def _default(factory: Callable[..., Any], key: str) -> Any:
    classes = factory.__mro__ if inspect.isclass(factory) else (factory,)
    for constructor in classes:
        parameters = inspect.signature(constructor).parameters
        if key in parameters:
            return parameters[key].default
    return inspect.Parameter.empty
