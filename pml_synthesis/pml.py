"""The one door to PML's insides: all that is taken from PML beyond its public losses, miners,
reducers and distances.

| used here | for | in PML 3 |
| --- | --- | --- |
| `ModuleWithRecords` | recorded statistics | removed: a plain `torch.nn.Module` |
| `__call__` of losses | to tell a regularizer of labels and mined tuples | the class stays |
| `lmu.convert_to_weights` | mined tuples as weights | `lmu` becomes `utils.indexing` |
| `lmu.get_all_pairs_indices` | pairs where no tuple is given | likewise |
| `cast_types` of proxy losses | see :func:`cast_like` | weights are `weight`, [C, D] |
| `c_f.process_label` | labels as its trainers number them | removed with the trainers |
| `compute_loss`, `reducer` | the loss without its regularizers | losses stay composed so |

PML's losses look up `convert_to_weights` in its module at each call, so a function of our own
stands there for good. It asks a context variable, which each thread has for itself, and does what
PML's does unless it is given the very labels and the mined tuple of a loss that a hook of this
library evaluates. The `__call__` of losses is PML's own unless the `embedding_regularizer` has a
`prepare_call`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.reducers import MultipleReducers
from pytorch_metric_learning.regularizers import BaseRegularizer
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords
from torch import Tensor
from torch.nn import Module
from torch.nn.utils import parametrize

__all__ = [
    "BaseMetricLossFunction",
    "BaseRegularizer",
    "LossCall",
    "ModuleWithRecords",
    "RowWeights",
    "all_pairs",
    "announced",
    "cast_like",
    "current_call",
    "loss_class",
    "process_label",
    "row_weights",
    "substituted",
    "unregularized_loss",
]

# --- The call of a loss that a regularizer runs in ---


class LossCall(NamedTuple):
    """A call of a loss: the loss, its batch (None in eval mode) and its mined tuple."""

    loss: Any
    batch: Any
    indices_tuple: Any


_current_call: ContextVar[LossCall | None] = ContextVar("loss call", default=None)


def current_call() -> LossCall | None:
    """Return the innermost announced call of this thread, or None."""
    return _current_call.get()


@contextmanager
def announced(call: LossCall) -> Iterator[None]:
    """Make a call the current one, whichever way it ends."""
    token = _current_call.set(call)
    try:
        yield
    finally:
        _current_call.reset(token)


def _call_loss(loss: Module, *args: Any, **kwargs: Any) -> Any:
    """Call a loss; one whose regularizer asks for it is announced."""
    regularizer = getattr(loss, "embedding_regularizer", None)
    prepare = getattr(regularizer, "prepare_call", None)
    if prepare is None:
        return Module.__call__(loss, *args, **kwargs)
    names = ("embeddings", "labels", "indices_tuple")
    given = dict(zip(names, args, strict=False)) | kwargs
    with announced(prepare(loss, *(given.get(name) for name in names))):
        return Module.__call__(loss, *args, **kwargs)


BaseMetricLossFunction.__call__ = _call_loss

# --- Mined tuples as weights ---

_PMLS_CONVERT = getattr(lmu.convert_to_weights, "__wrapped__", lmu.convert_to_weights)


class RowWeights(NamedTuple):
    """How the embeddings of one call of a loss are weighed.

    Args:
        labels: of the call, a tensor that belongs to it alone.
        indices_tuple: its mined tuple.
        weigh: given PML's own function from labels to weights (by the mined tuple of the call), it
            returns the weights of all embeddings of the call.
    """

    labels: Tensor
    indices_tuple: Any
    weigh: Callable[[Callable[[Tensor], Tensor]], Tensor]

    def concern(self, indices_tuple: Any, labels: Tensor) -> bool:
        """Tell whether weights are asked for by this call, and not by a loss that is called inside
        of it, or in another thread that has copied its context."""
        same_labels = labels.data_ptr() == self.labels.data_ptr() and len(labels) == len(
            self.labels
        )
        return same_labels and indices_tuple is self.indices_tuple


_row_weights: ContextVar[RowWeights | None] = ContextVar("row weights", default=None)


@functools.wraps(_PMLS_CONVERT)
def _convert_to_weights(indices_tuple: Any, labels: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    known = _row_weights.get()
    if known is None or not known.concern(indices_tuple, labels):
        return _PMLS_CONVERT(indices_tuple, labels, *args, **kwargs)
    return known.weigh(functools.partial(_PMLS_CONVERT, indices_tuple, *args, **kwargs))


lmu.convert_to_weights = _convert_to_weights


@contextmanager
def row_weights(weights: RowWeights) -> Iterator[None]:
    """Let a proxy loss that this thread evaluates weigh the embeddings of a call otherwise."""
    token = _row_weights.set(weights)
    try:
        yield
    finally:
        _row_weights.reset(token)


def all_pairs(labels: Tensor) -> tuple[Tensor, ...]:
    """Return the pairs (a, p, a, n) that PML compares where no tuple is given."""
    return lmu.get_all_pairs_indices(labels)


def process_label(labels: Any, hierarchy_level: Any, label_map: Callable[..., Any]) -> Tensor:
    """Return the labels of a batch as PML's trainers number them for their losses."""
    processed: Tensor = c_f.process_label(labels, hierarchy_level, label_map)
    return processed


# --- A loss with other attributes ---


@contextmanager
def substituted(
    loss: Module, attributes: Mapping[str, Any], records: bool = True
) -> Iterator[Module]:
    """Give a copy of a loss with other attributes; the loss itself is left as it is.

    The copy shares everything else with the loss, tensors included, so it takes no time and no
    memory, and no other thread sees it. What the copy records about itself is handed back.

    Args:
        loss: the loss.
        attributes: by name, or by a path such as "layer.weight".
        records: whether the statistics of the call are to be seen in the loss, its distance and its
            reducer.
    """
    twin = _shallow_copy(loss)
    if not records:
        for name, module in loss._modules.items():
            twin._modules[name] = module and _shallow_copy(module, deep=True)
    for path, value in attributes.items():
        *owners, name = path.split(".")
        owner: Any = twin
        for part in owners:
            owner._modules[part] = _shallow_copy(getattr(owner, part))
            owner = owner._modules[part]
        for registry in (owner._parameters, owner._buffers, owner._modules):
            registry.pop(name, None)
        owner.__dict__[name] = value
    before, buffers = dict(twin.__dict__), dict(twin._buffers)
    try:
        yield twin
    finally:
        if records:
            _hand_back(before, twin.__dict__, loss.__dict__)
            _hand_back(buffers, twin._buffers, loss._buffers)


def loss_class(loss: Module) -> type:
    """Return the class of a module, without the one that a parametrization puts before it."""
    return type(loss).__mro__[1] if parametrize.is_parametrized(loss) else type(loss)


def _shallow_copy(module: Module, deep: bool = False) -> Module:
    """Copy a module, but not its tensors, nor its submodules unless `deep`."""
    twin: Module = object.__new__(loss_class(module))
    twin.__dict__.update(module.__dict__)
    for name in ("_parameters", "_buffers", "_modules"):
        twin.__dict__[name] = dict(module.__dict__[name])
    if parametrize.is_parametrized(module):
        parametrized: Any = twin._modules.pop("parametrizations")
        for name in parametrized:
            twin.__dict__[name] = getattr(module, name)
    for name, value in module.__dict__.items():
        if isinstance(value, types.MethodType) and value.__self__ is module:
            twin.__dict__[name] = types.MethodType(value.__func__, twin)
    if deep:
        for name, inner in module._modules.items():
            twin._modules[name] = inner and _shallow_copy(inner, deep=True)
    return twin


def _hand_back(before: dict[str, Any], after: dict[str, Any], to: dict[str, Any]) -> None:
    missing = object()
    to.update({k: v for k, v in after.items() if v is not before.get(k, missing)})


def cast_like(weight: Tensor, embeddings: Tensor) -> Tensor:
    """Return the weight of a proxy loss as the loss would cast it for embeddings, as a copy.

    PML itself writes the cast weight into the loss, for good.
    """
    # The question that PML asks: autocast of the accelerator, not of the CPU.
    dtype = weight.dtype if torch.is_autocast_enabled() else embeddings.dtype
    return weight.to(embeddings.device, dtype)


def unregularized_loss(
    loss: Any,
    rows: Tensor,
    labels: Tensor,
    parents: Tensor,
    *call: Any,
    weigh: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Tensor:
    """Return the loss without its regularizers, a scalar: by its default reducer where its own
    gives none.

    Args:
        loss: the loss, without a weight regularizer.
        rows: [M, D].
        labels: [M].
        parents: the labels that its reducer sees, [M].
        call: what else `compute_loss` takes: mined tuple, reference embeddings, their labels.
        weigh: what the elements of the loss become before they are reduced.
    """
    loss_dict = weigh(loss.compute_loss(rows, labels, *call))
    value: Any = loss.reducer(loss_dict, rows, parents)
    if not (isinstance(value, Tensor) and value.numel() == 1):
        defaults = {name: loss.get_default_reducer() for name in loss_dict}
        value = MultipleReducers(defaults)(loss_dict, rows, parents)
    reduced: Tensor = value.reshape(())
    return reduced
