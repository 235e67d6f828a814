"""Writes docs/losses.md: each loss of PML, tried with each augmenter.

python -m docs.extensions.losses_page
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_metric_learning
import torch
from pytorch_metric_learning import losses, miners, reducers
from torch import Tensor

from docs.extensions.augmenters import AUGMENTERS, short_link
from docs.extensions.markdown_table import table
from pml_synthesis import (
    BaseAugmenter,
    ProxySynthesis,
    SynthesisLoss,
    SynthesisRegularizer,
)
from pml_synthesis.losses import proxies_of
from pml_synthesis.losses.joined_cosines import cosines_suffice
from pml_synthesis.losses.proxy_bindings import _BINDINGS, ProxyBinding, require_binding
from tests import reference

PATH = Path(__file__).parents[1] / "losses.md"
PAGE = """# Losses

How each loss of pytorch-metric-learning (PML) works with each augmenter, tried with PML {pml} and
torch {torch} by `python -m docs.extensions.losses_page`, which writes this page.

## Which losses are supported

- **both**: in a [SynthesisLoss](hooks/synthesis_loss.md) and with a
  [SynthesisRegularizer](hooks/synthesis_regularizer.md)
- **joined**: in a SynthesisLoss only; **term**: with a SynthesisRegularizer only
- **(1)**, **(2)**, ...: why not, in the words of the errors, below the table
- **proxies**: the parameter of the loss, with C classes, K centres of each, and D dimensions
- **fast**: whether a SynthesisLoss hands over cosines instead of proxies where an augmenter makes
  new classes, in float32 and float64 and with the default distance of the loss

{supported}

Each loss inside a MultipleLosses can be a SynthesisLoss or have a SynthesisRegularizer.

## What PML's proxy losses do not do themselves

Inputs that some of the ten proxy losses cannot handle. The second column shows how PML's bare loss
fails, the third what remains of that in a SynthesisLoss. A loss with a SynthesisRegularizer behaves
like the bare one. Which kernels exist for a dtype depends on torch.

{exceptions}
"""

FOLDER = "augmenters/"
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
    """Return the table of all losses and all augmenters, and the reasons that it numbers."""
    torch.manual_seed(0)
    reasons: list[str] = []
    # Proxy losses first.
    names = sorted(LOSSES, key=lambda name: (LOSSES[name] not in PROXY_LOSSES, name))
    rows = [
        [name, *_weight(LOSSES[name]), *(_cell(LOSSES[name], by, reasons) for by in AUGMENTERS)]
        for name in names
    ]
    head = ["loss", "proxies", "fast", *(short_link(augmenter, FOLDER) for augmenter in AUGMENTERS)]
    numbered = [f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)]
    return "\n".join([table(head, rows), "", *numbered])


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _build(loss_class: type, **options: Any) -> Any:
    return loss_class(**copy.deepcopy(ARGUMENTS.get(loss_class, {})), **options)


def _batch() -> tuple[Tensor, Tensor]:
    return torch.randn(B, D, requires_grad=True), torch.arange(B) % C


# ---------------------------------------------------------------------- which are supported


def _weight(loss_class: type) -> tuple[str, str]:
    """Return where a loss keeps its proxies, and whether it takes the fast path."""
    if loss_class not in PROXY_LOSSES:
        return "", ""
    loss = _build(loss_class)
    binding = require_binding(loss, who="this page")
    fast = cosines_suffice(loss, binding.weight_of(loss), _batch()[0])
    return f"`{binding.weight}` {_form(binding)}", "yes" if fast else "no"


def _cell(loss_class: type, augmenter: type[BaseAugmenter], reasons: list[str]) -> str:
    """Return which hooks work with a loss and an augmenter, and the numbers of the reasons."""
    made = _build_augmenter(augmenter, loss_class)
    term = {"embedding_regularizer": SynthesisRegularizer(copy.deepcopy(made))}
    why_not = {
        "joined": _failure(lambda: SynthesisLoss(_build(loss_class), made)),
        "term": _failure(lambda: _build(loss_class, **term)),
    }
    working = [hook for hook, reason in why_not.items() if not reason]
    numbers = []
    for reason in filter(None, why_not.values()):
        # In words that hold for all losses with the same reason.
        reason = re.sub(rf"{loss_class.__name__}(?= (keeps|cannot|sums|takes))", "the loss", reason)
        reason = reason.replace(augmenter.__name__, "the augmenter").partition(": see the page")[0]
        reason = reason[0].lower() + reason[1:]
        if reason not in reasons:
            reasons.append(reason)
        numbers.append(reasons.index(reason) + 1)
    answer = "both" if len(working) == 2 else "".join(working) or "no"
    return " ".join([answer, *(f"({number})" for number in sorted(set(numbers)))])


def _form(binding: ProxyBinding) -> str:
    classes = "C" if binding.centers is None else "C K"
    return f"[D, {classes}]" if binding.class_dim else f"[{classes}, D]"


def _build_augmenter(augmenter: type[BaseAugmenter], loss_class: type) -> BaseAugmenter:
    known = loss_class in PROXY_LOSSES
    proxies = proxies_of(_build(loss_class)) if known else torch.randn(C, D)
    centers = proxies.shape[1] if proxies.ndim == 3 else None
    made = reference.build(augmenter, C, D, num_centers=centers)
    return reference.fill_memory(made, [(*_batch(), proxies)] * 3)


def _failure(build: Callable[[], Any]) -> str:
    """Return why a loss cannot be built or called, in the words of the error, or nothing."""
    try:
        build()(*_batch()).backward()
    except ValueError as error:
        return str(error).split(". ")[0].split(", but got")[0]
    except TypeError as error:
        if "embedding_regularizer" not in str(error):
            raise
        return "the loss takes no embedding_regularizer"
    except RuntimeError as error:
        # PML's HistogramLoss.
        if "out of bounds" not in str(error):
            raise
        return "the loss has no bin for a cosine of 1, which a copy has with its source, rounded"
    return ""


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
    "an empty batch": lambda loss, x, y: (x[:0], y[:0]),
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
    return table(("given", "bare", "in SynthesisLoss with ProxySynthesis"), rows)


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
