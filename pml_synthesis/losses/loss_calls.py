"""The call of a loss that is going on: what its regularizer is told beyond the embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pytorch_metric_learning.losses import BaseMetricLossFunction
from torch import Tensor


class LossCall(NamedTuple):
    """A call of a loss: the loss, its labels [B] and its mined tuple."""

    loss: BaseMetricLossFunction
    labels: Tensor | None
    indices_tuple: Any


_running: list[LossCall] = []


def current_call() -> LossCall | None:
    """Return the innermost call that is going on, or None."""
    return _running[-1] if _running else None


@contextmanager
def announced(call: LossCall) -> Iterator[None]:
    """Let a call be the current one."""
    _running.append(call)
    try:
        yield
    finally:
        _running.pop()


def announce_calls(loss: BaseMetricLossFunction) -> None:
    """Let each call of a loss be the current one while it goes on. Once is enough; more does no
    harm.

    The hooks are functions of this module, so that the loss can still be pickled and copied.
    """
    if not getattr(loss, "_announces_calls", False):
        begin = loss.register_forward_pre_hook(_begin, with_kwargs=True)
        end = loss.register_forward_hook(_end, always_call=True)
        # torch notes these two as {id: True} and looks at the keys alone. PML's HookContainer
        # records what it finds in a loss, and record-keeper cannot take a number for a name.
        # It skips None.
        loss._forward_pre_hooks_with_kwargs[begin.id] = None
        loss._forward_hooks_always_called[end.id] = None
        loss._announces_calls = True


def _begin(loss: BaseMetricLossFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _drop_call_of(loss)  # Left behind by a KeyboardInterrupt, after which torch calls no hook.
    names = ("embeddings", "labels", "indices_tuple")
    given = dict(zip(names, args, strict=False)) | kwargs
    _running.append(LossCall(loss, given.get("labels"), given.get("indices_tuple")))


def _end(loss: BaseMetricLossFunction, args: tuple[Any, ...], output: Any) -> None:
    # Runs after failed calls too, among them those that failed before they began.
    _drop_call_of(loss)


def _drop_call_of(loss: BaseMetricLossFunction) -> None:
    if _running and _running[-1].loss is loss:
        _running.pop()
