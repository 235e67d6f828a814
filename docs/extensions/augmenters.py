"""Writes what the pages say of every public augmenter: from its docstring, and by trying it."""

from __future__ import annotations

import inspect
import re
import sys

import torch

from docs.extensions.markdown_table import table
from pml_synthesis import BaseAugmenter
from tests import reference

C, D, B = 6, 16, 12
PAPER = re.compile(r'^Source: (?P<authors>[^"]+), "(?P<title>[^"]+)", (?P<venue>[^,.]+)', re.DOTALL)
Augmenter = type[BaseAugmenter]
AUGMENTERS: list[Augmenter] = reference.PUBLIC_AUGMENTERS


def overview() -> str:
    """Return the table of all augmenters, with links from their folder."""
    rows = [
        [f"[`{augmenter.__name__}`]({_page(augmenter)})", summary(augmenter), *_facts(augmenter)]
        for augmenter in AUGMENTERS
    ]
    return table(["augmenter", "what it does", *FACTS], rows)


def head(augmenter: Augmenter) -> str:
    """Return the table at the head of the page of an augmenter."""
    return table(["paper", *FACTS], [[paper(augmenter), *_facts(augmenter)]])


def methods(folder: str) -> str:
    """Return a list of all methods, with links through a folder."""
    return "\n".join(
        f"- **[{method_name(augmenter)}]({folder}{_page(augmenter)})** ({paper(augmenter)}): "
        f"{_lower(summary(augmenter))}"
        for augmenter in AUGMENTERS
    )


def short_link(augmenter: Augmenter, folder: str) -> str:
    """Return the short name of a method, with a link to its page through a folder."""
    return f"[{method_name(augmenter).partition(',')[0]}]({folder}{_page(augmenter)})"


def summary(augmenter: Augmenter) -> str:
    """Return the first sentence of the docstring."""
    return " ".join(_docstring(augmenter).split("\n\n")[0].split())


def paper(augmenter: Augmenter) -> str:
    """Return authors and venue of the paper."""
    source = source_of(augmenter)
    return " ".join(f"{source['authors']}, {source['venue']}".split())


def source_of(augmenter: Augmenter) -> re.Match[str]:
    """Return authors, title and venue, as the docstring names them."""
    parts = _docstring(augmenter).split("\n\n")
    return next(found for part in parts if (found := PAPER.match(part)))


# ------------------------------------------------------------------------------ as tried

FACTS = ["losses", "new classes", "passes gradients to", "memory"]


def _facts(augmenter: Augmenter) -> list[str]:
    torch.manual_seed(0)
    real = {"embeddings": torch.randn(B, D), "proxies": torch.randn(C, D)}
    for tensor in real.values():
        tensor.requires_grad_()
    given = real["embeddings"], torch.arange(B) % C, real["proxies"]
    made = reference.fill_memory(reference.build(augmenter, C, D), [given] * 3)
    batch = made(*given)
    reached = ", ".join(name for name, tensor in real.items() if _reached(batch, tensor))
    return [
        "proxy losses" if made.requires_proxies else "proxy and pair losses",
        "yes" if batch.num_new_classes else "no",
        reached or "nothing by default",
        "yes" if reference.has_memory(made) else "no",
    ]


def _reached(batch: object, tensor: torch.Tensor) -> bool:
    made = [part for part in (batch.embeddings, batch.proxies) if part.requires_grad and len(part)]
    if not made:
        return False
    weights = [torch.randn_like(part) for part in made]
    (gradient,) = torch.autograd.grad(made, tensor, weights, retain_graph=True, allow_unused=True)
    return gradient is not None


# --------------------------------------------------------------------------- by their names


def method_name(augmenter: Augmenter) -> str:
    """Return the name of the method, which is the first line of its module."""
    return inspect.getdoc(sys.modules[augmenter.__module__]).partition(".")[0]


def _page(augmenter: Augmenter) -> str:
    return f"{reference.module_name(augmenter)}.md"


def _docstring(augmenter: Augmenter) -> str:
    return inspect.getdoc(augmenter) or ""


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
