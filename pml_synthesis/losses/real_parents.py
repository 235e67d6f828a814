"""Lets the parts of a loss see of a joined batch what is real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..pml import announced
from .loss_inputs import LossInputs


class ParentReducer(Module):
    """A reducer that sees the class of the real parent of each embedding, and weighs the elements.

    Args:
        reducer: the reducer of the loss.
        labels: real classes, one for each embedding of the call, [N].
        weights: of the embeddings that pairs and triplets consist of, as (anchors', others'), or
            None.
        factors: what the elements of a sub-loss are multiplied by, by its name.
    """

    def __init__(
        self,
        reducer: Module,
        labels: Tensor,
        weights: tuple[Tensor, Tensor] | None = None,
        factors: Mapping[str, Tensor | float] | None = None,
    ) -> None:
        super().__init__()
        self.reducer = reducer
        self.labels = labels
        self.weights = weights
        self.factors = factors or {}

    def forward(self, loss_dict: dict[str, Any], embeddings: Tensor, _: Tensor) -> Any:
        """Reduce the elements of a loss."""
        loss_dict = weighed_terms(loss_dict, self.weights)
        for name in self.factors.keys() & loss_dict.keys():
            terms = loss_dict[name]
            multiplied = {"losses": terms["losses"] * self.factors[name]}
            loss_dict = loss_dict | {name: terms | multiplied}
        return self.reducer(loss_dict, embeddings, self.labels)


def weighed_terms(
    loss_dict: dict[str, Any], weights: tuple[Tensor, Tensor] | None
) -> dict[str, Any]:
    """Multiply each pair or triplet of a loss by the weights of its embeddings.

    Args:
        loss_dict: what the loss computes, by the names of its sub-losses.
        weights: of anchors and of others, or None where all are 1.
    """
    if weights is None:
        return loss_dict
    return {name: _weighed(terms, *weights) for name, terms in loss_dict.items()}


def _weighed(terms: dict[str, Any], of_anchors: Tensor, of_others: Tensor) -> dict[str, Any]:
    if not isinstance(terms["losses"], Tensor) or terms["reduction_type"] == "already_reduced":
        return terms
    # An element that belongs to its anchor alone, as the beta of its class, has one index.
    indices = terms["indices"]
    anchors, *others = (indices,) if isinstance(indices, Tensor) else indices
    weights = of_anchors[anchors]
    for members in others:
        weights = weights * of_others[members]
    return terms | {"losses": terms["losses"] * weights.to(terms["losses"])}


class KnownTerm(Module):
    """A regularizer whose term is known."""

    def __init__(self, term: Tensor) -> None:
        super().__init__()
        self.term = term

    def forward(self, _: Tensor) -> Tensor:
        """Return the term."""
        return self.term


def regularizer_of_real(loss: Module, inputs: LossInputs) -> dict[str, Module]:
    """Return, by name, an embedding regularizer that knows its term for the real embeddings."""
    regularizer: Any = loss.embedding_regularizer
    if regularizer is None:
        return {}
    prepare = getattr(regularizer, "prepare_call", None)
    if prepare is None:
        return {"embedding_regularizer": KnownTerm(regularizer(inputs.embeddings))}
    with announced(prepare(loss, *inputs[:3])):
        return {"embedding_regularizer": KnownTerm(regularizer(inputs.embeddings))}


def with_source_norms(rows: Tensor, source: Tensor, embeddings: Tensor) -> Tensor:
    """Give synthetic embeddings the norms of their sources; those without one keep theirs.

    Constant ones are given constant norms.

    Args:
        rows: [M, D].
        source: [M].
        embeddings: the real ones, [B, D].
    """
    own = torch.linalg.vector_norm(rows, dim=1)
    norms = torch.linalg.vector_norm(embeddings, dim=1)
    norms = torch.cat([norms, norms.new_ones(1)])[source]
    norms = norms if rows.requires_grad else norms.detach()
    # A norm that overflows would make NaNs of zeros.
    norms = norms.clamp_max(torch.finfo(norms.dtype).max)
    safe = torch.where(own > 1e-12, own, 1.0)
    scaled = rows / safe.unsqueeze(1) * norms.unsqueeze(1)
    return torch.where((source >= 0).unsqueeze(1), scaled, rows)
