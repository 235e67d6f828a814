"""What is compared: the bare loss, the loss with as many rows and classes as ours, and ours."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from benchmarks.speed.measure import Step
from pml_synthesis import (
    BaseAugmenter,
    DenselyAnchoredSampling,
    EmbeddingExpansion,
    EmbeddingMixup,
    IntraclassAdaptiveAugmentation,
    MemVir,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SymmetricalSynthesis,
    SynthesisLoss,
    SynthesisRegularizer,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LOSSES: dict[str, Callable[..., nn.Module]] = {
    "norm-softmax": losses.NormalizedSoftmaxLoss,
    "Proxy-NCA": losses.ProxyNCALoss,
    "ArcFace": losses.ArcFaceLoss,
    "Proxy-Anchor": losses.ProxyAnchorLoss,
    "CosFace": losses.CosFaceLoss,
    "SubCenterArcFace": partial(losses.SubCenterArcFaceLoss, sub_centers=2),
    "SoftTriple": partial(losses.SoftTripleLoss, centers_per_class=2),
    "SphereFace": losses.SphereFaceLoss,
    "LargeMarginSoftmax": losses.LargeMarginSoftmaxLoss,
    "P2SGrad": lambda num_classes, embedding_size: losses.P2SGradLoss(embedding_size, num_classes),
}


@dataclass(frozen=True)
class Size:
    """B rows of D numbers, of C classes."""

    rows: int
    dim: int
    classes: int


def build(loss: str, num_classes: int, size: Size, **options: object) -> nn.Module:
    """Return a loss of so many classes."""
    made = LOSSES[loss](num_classes=num_classes, embedding_size=size.dim, **options)
    return made.to(DEVICE)


def batch(rows: int, size: Size, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return embeddings, a leaf, and labels, each class once if there are enough."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(rows, size.dim, generator=generator).to(DEVICE).requires_grad_()
    return embeddings, (torch.arange(rows) % num_classes).to(DEVICE)


def step(loss: nn.Module, embeddings: Tensor, labels: Tensor) -> Step:
    """Return forward and backward with gradients to embeddings and proxies."""

    def forward_and_backward() -> None:
        embeddings.grad = None
        loss.zero_grad()
        loss(embeddings, labels).backward()

    return forward_and_backward


def proxy_synthesis_steps(loss: str, size: Size) -> dict[str, Step]:
    """Return the contenders of a step with PS: bare, plain-big and ours."""
    return {name: proxy_synthesis_step(name, loss, size) for name in ("bare", "plain-big", "ours")}


def proxy_synthesis_step(contender: str, loss: str, size: Size) -> Step:
    """Return one of them; plain-big is a plain batch of B + M rows and C + E classes."""
    if contender == "bare":
        return step(build(loss, size.classes, size), *batch(size.rows, size, size.classes))
    if contender == "plain-big":
        classes = size.classes + size.rows
        return step(build(loss, classes, size), *batch(2 * size.rows, size, classes))
    ours = SynthesisLoss(build(loss, size.classes, size), ProxySynthesis())
    return step(ours, *batch(size.rows, size, size.classes))


def expansion_steps(loss: str, size: Size, num_expansions: int) -> dict[str, Step]:
    """Return ours with SEE on all rows, and the bare loss on B and on B K rows, these constant."""
    see = SphericalEmbeddingExpansion(num_expansions, fraction=1.0)
    term = {"embedding_regularizer": SynthesisRegularizer(see), "embedding_reg_weight": 1.0}
    ours = build(loss, size.classes, size, **term)
    rows = batch(size.rows, size, size.classes)
    more, labels = batch(size.rows * num_expansions, size, size.classes)
    bare = build(loss, size.classes, size)
    first, second = step(bare, *rows), step(bare, more.detach(), labels)

    def both() -> None:
        first()
        second()

    return {"bare on both": both, "ours": step(ours, *rows)}


def full_mem_vir(size: Size, num_steps: int, step_gap: int) -> MemVir:
    """Return an augmenter whose memory is full."""
    made = MemVir(size.classes, size.dim, size.rows, num_steps, step_gap, warm_up_steps=0)
    made.to(DEVICE)
    (x, y), proxies = batch(size.rows, size, size.classes), torch.randn(size.classes, size.dim)
    for _ in range(made.num_slots):
        made(x.detach(), y, proxies.to(DEVICE))
    return made


def mem_vir_steps(loss: str, size: Size, num_steps: int, step_gap: int) -> dict[str, Step]:
    """Return the contenders of a step with MemVir, its memory full: bare, plain-big and ours."""
    times = num_steps + 1
    ours = SynthesisLoss(build(loss, size.classes, size), full_mem_vir(size, num_steps, step_gap))
    big = build(loss, times * size.classes, size)
    return {
        "bare": step(build(loss, size.classes, size), *batch(size.rows, size, size.classes)),
        "plain-big": step(big, *batch(times * size.rows, size, times * size.classes)),
        "ours": step(ours, *batch(size.rows, size, size.classes)),
    }


def hardened_steps(size: Size) -> dict[str, Step]:
    """Return batch-hard triplets of the batch, of three batches at once, and ours with two points
    on each chord, which are as many."""
    triplets, miner = losses.TripletMarginLoss(margin=0.2), miners.BatchHardMiner()
    ours = SynthesisLoss(triplets, EmbeddingExpansion(2), miner=miner)
    plain = SynthesisLoss(triplets, None, miner=miner)
    rows = batch(size.rows, size, size.classes)
    return {
        "bare": step(plain, *rows),
        "joined": step(plain, *batch(3 * size.rows, size, size.classes)),
        "ours": step(ours, *rows),
    }


PAIR_LOSSES: dict[str, Callable[[], nn.Module]] = {
    "Contrastive": losses.ContrastiveLoss,
    "MultiSimilarity": losses.MultiSimilarityLoss,
}


def joined_steps(loss: nn.Module, augmenter: BaseAugmenter, size: Size) -> dict[str, Step]:
    """Return the contenders of a step whose synthetic embeddings join the batch, four real ones of
    a class: the bare loss, the bare loss on a batch of that many embeddings, and ours."""
    x, _ = batch(size.rows, size, size.classes)
    y = (torch.arange(size.rows) // 4 % size.classes).to(DEVICE)
    for _ in range(5):  # What remembers is to be full.
        made = augmenter(x.detach(), y)
    more = torch.cat([x.detach(), made.embeddings.detach()]).requires_grad_()
    more_labels = torch.cat([y, made.labels])
    ours = SynthesisLoss(copy.deepcopy(loss), augmenter)
    return {
        "bare": step(loss, x, y),
        "plain-big": step(loss, more, more_labels),
        "ours": step(ours, x, y),
    }


def estimated(size: Size) -> IntraclassAdaptiveAugmentation:
    """Return an augmenter that knows all classes, eight embeddings of each."""
    made = IntraclassAdaptiveAugmentation(size.classes, size.dim).to(DEVICE)
    x, y = batch(8 * size.classes, size, size.classes)
    made.estimate(x, y)
    return made


def copying_steps(loss: str, size: Size) -> dict[str, Step]:
    """Return the contenders of a step with IAA, four embeddings of a class: the bare loss, the
    bare loss with as many reference embeddings as candidates, and ours."""
    x, _ = batch(size.rows, size, size.classes)
    y = (torch.arange(size.rows) // 4 % size.classes).to(DEVICE)
    augmenter, bare = estimated(size), PAIR_LOSSES[loss]()
    more = torch.randn((1 + augmenter.num_copies) * size.rows, size.dim, device=DEVICE)
    more_labels = y.repeat(1 + augmenter.num_copies)

    def with_references() -> None:
        x.grad = None
        bare(x, y, None, more, more_labels).backward()

    ours = SynthesisLoss(PAIR_LOSSES[loss](), augmenter)
    return {"bare": step(bare, x, y), "plain-big": with_references, "ours": step(ours, x, y)}


METHODS: dict[str, tuple[str, Callable[[Size], BaseAugmenter]]] = {
    "Proxy Synthesis": ("norm-softmax", lambda _: ProxySynthesis()),
    "SEE, K = 8": ("norm-softmax", lambda _: SphericalEmbeddingExpansion(8, fraction=1.0)),
    "MemVir, N = 5": ("norm-softmax", lambda size: full_mem_vir(size, 5, 10)),
    "Mixup": ("norm-softmax", lambda _: EmbeddingMixup()),
    "Embedding Expansion, n = 2": ("MultiSimilarity", lambda _: EmbeddingExpansion(2)),
    "Symmetrical Synthesis": ("MultiSimilarity", lambda _: SymmetricalSynthesis()),
    "IAA, M = 3": ("MultiSimilarity", estimated),
    "DAS, T = 3": (
        "MultiSimilarity",
        lambda size: DenselyAnchoredSampling(size.classes, size.dim).to(DEVICE),
    ),
}


def with_method(loss: str, method: str | None, size: Size) -> nn.Module:
    """Return a loss, bare or with a method: SEE as a term, the others joined."""
    plain = PAIR_LOSSES[loss]() if loss in PAIR_LOSSES else build(loss, size.classes, size)
    if method is None:
        return plain
    augmenter = METHODS[method][1](size)
    if isinstance(augmenter, SphericalEmbeddingExpansion):
        term = {"embedding_regularizer": SynthesisRegularizer(augmenter)}
        return build(loss, size.classes, size, **term, embedding_reg_weight=0.2)
    return SynthesisLoss(plain, augmenter)


def first_steps(loss: str, method: str | None, size: Size) -> Step:
    """Return what builds a loss, bare or with a method, and takes two steps.

    Four embeddings of a class are in the batch. A method's memory has its full size.
    """

    def build_and_step() -> None:
        embeddings, _ = batch(size.rows, size, size.classes)
        labels = torch.arange(size.rows, device=DEVICE) // 4 % size.classes
        take = step(with_method(loss, method, size), embeddings, labels)
        take()
        take()

    return build_and_step
