"""Writes docs/losses.md: what becomes of each loss of PML, tried.

python -m docs.extensions.losses_page
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_metric_learning
import torch
from pytorch_metric_learning import losses, miners, reducers
from torch import Tensor

from benchmarks.reporting.report import markdown
from pml_synthesis import (
    BaseAugmenter,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
    SyntheticBatch,
)
from pml_synthesis.losses.joined_cosines import cosines_suffice
from pml_synthesis.losses.proxy_bindings import _BINDINGS, ProxyBinding, require_binding

PATH = Path(__file__).parents[1] / "losses.md"
PAGE = """# Losses

What becomes of each loss of pytorch-metric-learning (PML), tried with PML {pml} and torch {torch}
by `python -m docs.extensions.losses_page`, which writes this page.

## Which losses are supported

Losses that fare alike share a row. C classes, K centres of each, embeddings of D numbers. On the
fast path the loss is given cosines instead of proxies: where an augmenter makes new classes, in
float32 and float64, with the distance that the loss has by default.

{supported}

The losses inside of a MultipleLosses can each be a SynthesisLoss, or have a SynthesisRegularizer.

## What PML's proxy losses do not do themselves

Each of the ten is given what the first column says. What goes wrong is PML's own; the last column
says what is left of it in a SynthesisLoss. A loss with a SynthesisRegularizer is PML's and fares
like the bare one. Which dtypes have which kernels is up to torch.

{exceptions}
"""

C, D, B = 6, 8, 12
NO_LOSSES = (
    losses.BaseLossWrapper,
    losses.BaseMetricLossFunction,
    losses.EmbeddingRegularizerMixin,
    losses.GenericPairLoss,
    losses.WeightRegularizerMixin,
)
LOSSES: dict[str, type] = {
    name: loss_class
    for name, loss_class in sorted(vars(losses).items())
    if isinstance(loss_class, type) and loss_class not in NO_LOSSES
}
CLASSES = {"num_classes": C, "embedding_size": D}
PROXY_LOSSES: dict[type, dict[str, int]] = {
    loss_class: CLASSES for loss_class in LOSSES.values() if loss_class in _BINDINGS
} | {losses.P2SGradLoss: {"num_classes": C, "descriptors_dim": D}}
ARGUMENTS: dict[type, dict[str, Any]] = PROXY_LOSSES | {
    losses.CrossBatchMemory: {"loss": losses.TripletMarginLoss(), "embedding_size": D},
    losses.HistogramLoss: {"n_bins": 10},
    losses.ManifoldLoss: {"l": D},
    losses.MultipleLosses: {"losses": [losses.TripletMarginLoss()]},
    losses.RankedListLoss: {"margin": 1, "Tn": 1},
    losses.SelfSupervisedLoss: {"loss": losses.TripletMarginLoss()},
}


def page() -> str:
    """Return what the page should say."""
    return PAGE.format(
        torch=_minor(torch.__version__),
        pml=_minor(pytorch_metric_learning.__version__),
        supported=supported(),
        exceptions=_exceptions(),
    )


def supported() -> str:
    """Return the table of all losses."""
    torch.manual_seed(0)
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, loss_class in LOSSES.items():
        alike.setdefault(tuple(_cells(loss_class)), []).append(name)
    head = (
        "losses",
        "proxies",
        "ProxySynthesis and SEE in SynthesisLoss",
        "augmenters that need no proxies in SynthesisLoss",
        "SynthesisRegularizer",
    )
    rows = [(", ".join(names), *cells) for cells, names in alike.items()]
    # Proxy losses first.
    return _table(head, sorted(rows, key=lambda row: (not row[1], row[0])))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return markdown(pd.DataFrame(rows, columns=head))


def _build(loss_class: type, **options: Any) -> Any:
    return loss_class(**copy.deepcopy(ARGUMENTS.get(loss_class, {})), **options)


def _batch() -> tuple[Tensor, Tensor]:
    return torch.randn(B, D, requires_grad=True), torch.arange(B) % C


# ---------------------------------------------------------------------- which are supported


class _Turned(BaseAugmenter):
    """Makes the same rows with their numbers in another order: needs no proxies."""

    requires_proxies = False

    def synthesize(self, embeddings, labels, proxies, host_labels, generator):
        none = (embeddings if proxies is None else proxies)[:0]
        return SyntheticBatch(embeddings.roll(1, dims=1), labels, none, torch.arange(len(labels)))


def _cells(loss_class: type) -> Iterator[str]:
    proxies = path = ""
    if loss_class in PROXY_LOSSES:
        loss = _build(loss_class)
        binding = require_binding(loss, who="this page")
        proxies = f"`{binding.weight}` {_form(binding)}"
        fast = cosines_suffice(loss, binding.weight_of(loss), _batch()[0])
        path = ", fast path with ProxySynthesis" if fast else ""
    yield proxies
    methods = ProxySynthesis(), SphericalEmbeddingExpansion(2)
    answers = [_answer(loss_class, lambda loss, by=by: SynthesisLoss(loss, by)) for by in methods]
    yield next((answer for answer in answers if answer != "yes"), "yes" + path)
    yield _answer(loss_class, lambda loss: SynthesisLoss(loss, _Turned()))
    regularizer = SynthesisRegularizer(ProxySynthesis())
    yield _answer(loss_class, lambda loss: loss, embedding_regularizer=regularizer)


def _form(binding: ProxyBinding) -> str:
    classes = "C" if binding.centers is None else "C K"
    return f"[D, {classes}]" if binding.class_dim else f"[{classes}, D]"


def _answer(loss_class: type, wrap: Callable[[Any], Any], **options: Any) -> str:
    """Return "yes", or why not, in the words of the error where they are ours or PML's."""
    name = loss_class.__name__
    try:
        wrap(_build(loss_class, **options))(*_batch()).backward()
    except ValueError as error:
        sentence = str(error).split(". ")[0].split(", but got")[0]
        return "no: " + sentence.replace(f"where {name} keeps", "where it keeps")
    except TypeError:
        if not options:
            raise
        return f"no: it takes no {' '.join(options)}"
    return "yes"


# --------------------------------------------- what PML's proxy losses do not do themselves

Call = tuple[Any, ...]
OUTCOMES = ["error", "value not finite", "gradient not finite", "weight cast for good", "works"]


def _equal_to_its_proxy(loss: Any, x: Tensor, y: Tensor) -> Call:
    # Along an axis, so that the cosine is 1 to the last digit.
    axis = torch.eye(D)[0]
    with torch.no_grad():
        x[0] = require_binding(loss, who="this page").proxies(loss)[0] = axis
    return x, y


def _zero_row(loss: Any, x: Tensor, y: Tensor) -> Call:
    with torch.no_grad():
        x[0] = 0
    return x, y


def _class_weights(loss: Any, x: Tensor, y: Tensor) -> Call:
    loss.reducer = reducers.ClassWeightedReducer(torch.ones(C))
    return x, y


GIVEN: dict[str, Callable[[Any, Tensor, Tensor], Call]] = {
    "an embedding equal to its proxy": _equal_to_its_proxy,
    "an embedding of zeros": _zero_row,
    "no rows": lambda loss, x, y: (x[:0], y[:0]),
    "float16 embeddings on the CPU": lambda loss, x, y: (x.half(), y),
    "bfloat16 embeddings on the CPU": lambda loss, x, y: (x.bfloat16(), y),
    "float64 embeddings": lambda loss, x, y: (x.double(), y),
    "int32 labels": lambda loss, x, y: (x, y.int()),
    "uint8 labels": lambda loss, x, y: (x, y.byte()),
    "a mined tuple": lambda loss, x, y: (x, y, miners.BatchHardMiner()(x, y)),
    "ClassWeightedReducer": _class_weights,
}


def _exceptions() -> str:
    rows = []
    for name, make in GIVEN.items():
        bare = _by_outcome(make, lambda loss: loss)
        joined = _by_outcome(make, lambda loss: SynthesisLoss(loss, ProxySynthesis()))
        rows.append((name, bare, joined))
    return _table(("given", "bare", "in SynthesisLoss with ProxySynthesis"), rows)


def _by_outcome(make: Callable[..., Call], wrap: Callable[[Any], Any]) -> str:
    names: dict[str, list[str]] = {outcome: [] for outcome in OUTCOMES}
    for loss_class in PROXY_LOSSES:
        # The worst of several: what is rounded goes wrong by chance.
        outcomes = [_outcome(loss_class, make, wrap, seed) for seed in range(3)]
        names[min(outcomes, key=OUTCOMES.index)].append(loss_class.__name__)
    del names["works"]
    parts = [f"{outcome}: {_in_words(who)}" for outcome, who in names.items() if who]
    return "; ".join(parts) or "all work"


def _in_words(names: list[str]) -> str:
    others = [known.__name__ for known in PROXY_LOSSES if known.__name__ not in names]
    if len(others) >= len(names):
        return ", ".join(names)
    return f"all but {', '.join(others)}" if others else "all"


def _outcome(
    loss_class: type, make: Callable[..., Call], wrap: Callable[[Any], Any], seed: int
) -> str:
    torch.manual_seed(seed)
    loss = _build(loss_class)
    binding = require_binding(loss, who="this page")
    before = binding.weight_of(loss).dtype
    call = make(loss, *_batch())
    try:
        value = wrap(loss)(*call)
        weight = binding.weight_of(loss)
        gradients = torch.autograd.grad(value, [call[0], weight])
    except Exception:
        return "error"
    if not value.isfinite():
        return "value not finite"
    if not all(gradient.isfinite().all() for gradient in gradients):
        return "gradient not finite"
    return "works" if weight.dtype == before else "weight cast for good"


if __name__ == "__main__":
    PATH.write_text(page())
