"""Evaluates a PML loss, unchanged, on synthetic rows and with synthetic classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..augmenters import SyntheticBatch
from ..functional.unit_vectors import unit
from .proxy_bindings import ProxyBinding


def call_weight(loss: Module, binding: ProxyBinding, embeddings: Tensor) -> Tensor:
    """Return the weight cast as PML would for a call, as a copy: PML casts the weight itself."""
    weight = binding.weight_of(loss)
    # The question that PML asks: autocast of the accelerator, not of the CPU.
    dtype = weight.dtype if torch.is_autocast_enabled() else embeddings.dtype
    return weight.to(embeddings.device, dtype)


def evaluate_with_weight(
    loss: Module, binding: ProxyBinding, weight: Tensor, function: Callable[[], Any]
) -> Any:
    """Return function() with another weight in the loss, of any number of classes."""
    classes = weight.shape[binding.class_dim]
    if binding.centers is not None:
        classes //= getattr(loss, binding.centers)
    sized = {name: value(classes) for name, value in binding.sized_by_classes.items()}
    with attributes_replaced(loss, **sized):
        given = {f"loss.{binding.weight}": weight}
        return torch.func.functional_call(_Evaluation(loss, function), given, ())


class _Evaluation(Module):
    """What functional_call asks for: a module that holds the loss and calls a function."""

    def __init__(self, loss: Module, function: Callable[[], Any]) -> None:
        super().__init__()
        self.loss = loss
        self.function = function

    def forward(self) -> Any:
        return self.function()


@contextmanager
def attributes_replaced(module: Module, **attributes: Any) -> Iterator[None]:
    """Let attributes of a module have other values for a while."""
    originals = {name: getattr(module, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in originals.items():
            setattr(module, name, value)


@contextmanager
def stats_kept(loss: Module) -> Iterator[None]:
    """Keep the recorded statistics of a loss, its distance and its reducer as they are."""
    kept = [
        (module, name, getattr(module, name))
        for module in loss.modules()
        for name in getattr(module, "_record_these_stats", ())
    ]
    with ExitStack() as stack:
        for entry in kept:
            stack.callback(setattr, *entry)
        yield


def with_norms(
    batch: SyntheticBatch, loss: Module, binding: ProxyBinding | None, embeddings: Tensor
) -> tuple[Tensor, Tensor]:
    """Return synthetic rows and proxies, with norms where the loss uses norms.

    A row has the norm of its source, a proxy the mean norm of the real ones; a constant row has a
    constant norm. Unit vectors would be next to nothing beside real ones.
    """
    rows, proxies = batch.embeddings, batch.proxies
    normalizes = getattr(loss.distance, "normalize_embeddings", True)
    if normalizes and not (binding is not None and binding.uses_norms):
        return rows, proxies

    norms = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)[batch.source]
    rows = unit(rows) * (norms if rows.requires_grad else norms.detach())
    if binding is not None and batch.num_new_classes:
        norm = torch.linalg.vector_norm(binding.proxies(loss), dim=-1).mean()
        proxies = unit(proxies) * norm.to(proxies)
    return rows, proxies
