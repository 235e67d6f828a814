"""What the tests run over: augmenters, PML's proxy losses, reducers, batches and mined tuples."""

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses, reducers
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

import reference
from pml_synthesis import BaseAugmenter, SyntheticBatch

NUM_CLASSES, DIM = 5, 8
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@dataclass(frozen=True)
class Example:
    """An augmenter to test, as its reference names it."""

    augmenter: type[BaseAugmenter]
    name: str

    def __call__(self):
        """Build it; if it has a memory, there is something in it."""
        made = reference.build(self.augmenter, NUM_CLASSES, DIM, self.name, seed=1)
        batches = [(*draw_batch(s), draw_proxies(s, NUM_CLASSES, DIM)) for s in (100, 101, 102)]
        return reference.fill_memory(made, batches)

    def is_refused_by(self, loss_class):
        refusing = getattr(reference.reference_of(self.augmenter), "REFUSED_BY", ())
        return issubclass(loss_class, tuple(refusing))


# With each of these the hooks are compared with the references.
EXAMPLES = [
    Example(augmenter, name)
    for augmenter in reference.PUBLIC_AUGMENTERS
    for name in reference.reference_of(augmenter).EXAMPLES
]
AUGMENTERS = {f"{each.augmenter.__name__} {each.name}": each for each in EXAMPLES}
all_augmenters = pytest.mark.parametrize("augmenter", AUGMENTERS.values(), ids=AUGMENTERS)


class Mirror(BaseAugmenter):
    """Makes one row of each row, in the opposite direction, and no classes."""

    requires_proxies = False

    def synthesize(self, batch, generator):
        embeddings = batch.embeddings
        source = torch.arange(len(batch))
        return SyntheticBatch(-embeddings, batch.labels, embeddings[:0], source)


def skip_refused(case, augmenter):
    """Skip a loss that takes no weights with an augmenter that makes some."""
    if case.loss_class is losses.P2SGradLoss:
        made = augmenter()(*draw_batch(0), draw_proxies(0, NUM_CLASSES, DIM))
        if made.weights is not None:
            pytest.skip("PML's P2SGradLoss takes no weights, as the hooks say")


@dataclass(frozen=True)
class ProxyLoss:
    """A proxy loss of PML: how to build it, and where its weight is."""

    loss_class: type
    weight: str
    class_dim: int
    centers: int = 1
    options: tuple[tuple[str, Any], ...] = ()

    def build(self, num_classes, dim, **kwargs):
        size = "descriptors_dim" if self.loss_class is losses.P2SGradLoss else "embedding_size"
        return self.loss_class(
            **{"num_classes": num_classes, size: dim}, **dict(self.options), **kwargs
        )

    def build_with(self, rows, **kwargs):
        """Build the loss with given proxies, rows [C K, D], as a leaf or not."""
        rows = rows.reshape(-1, rows.shape[-1])
        loss = self.build(len(rows) // self.centers, rows.shape[1], **kwargs)
        del loss._parameters[self.weight]
        setattr(loss, self.weight, rows.movedim(0, self.class_dim))
        return loss

    def proxies(self, loss):
        """Return the proxies, [C, D] or [C, K, D], written here apart from the bindings."""
        weight = getattr(loss, self.weight)
        rows = weight.t() if self.class_dim else weight
        if self.loss_class in (losses.SubCenterArcFaceLoss, losses.SoftTripleLoss):
            return rows.reshape(-1, self.centers, rows.shape[1])
        return rows

    @property
    def uses_norms(self):
        return self.loss_class in (losses.LargeMarginSoftmaxLoss, losses.SphereFaceLoss)

    @property
    def name(self):
        return self.loss_class.__name__


PROXY_LOSSES = [
    ProxyLoss(losses.ProxyNCALoss, "proxies", 0, options=(("softmax_scale", 3),)),
    ProxyLoss(losses.ProxyAnchorLoss, "proxies", 0),
    ProxyLoss(losses.NormalizedSoftmaxLoss, "W", 1),
    ProxyLoss(losses.LargeMarginSoftmaxLoss, "W", 1),
    ProxyLoss(losses.SphereFaceLoss, "W", 1),
    ProxyLoss(losses.CosFaceLoss, "W", 1),
    ProxyLoss(losses.ArcFaceLoss, "W", 1),
    ProxyLoss(losses.SubCenterArcFaceLoss, "W", 1, centers=3),
    ProxyLoss(losses.SoftTripleLoss, "fc", 1, centers=2, options=(("centers_per_class", 2),)),
    ProxyLoss(losses.P2SGradLoss, "weight", 1),
]
LOSSES = {case.name: case for case in PROXY_LOSSES}
all_losses = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)


def taking_turns(names, values, **axes):
    """Run over the product of axes; values of other arguments take turns, and meet all of each.

    What depends on two arguments at once is seen, in fewer tests than the whole product has.

    Arguments:
        names: of the arguments that take turns.
        values: tuples of their values, by a name.
        axes: the values of each other argument, by a name, one of them as many as take turns.
    """
    turns, tests = list(values), []
    for chosen in itertools.product(*(enumerate(axis) for axis in axes.values())):
        turn = turns[sum(place for place, _ in chosen) % len(turns)]
        keys = [key for _, key in chosen]
        given = [axis[key] for axis, key in zip(axes.values(), keys, strict=True)]
        tests.append(pytest.param(*given, *values[turn], id="-".join([turn, *keys])))
    return pytest.mark.parametrize([*axes, *names], tests)


def build_loss(case, seed=0, dtype=torch.float64, **kwargs):
    """Build a loss with weights of a seed."""
    torch.manual_seed(seed)
    loss = case.build(NUM_CLASSES, DIM, **kwargs).to(dtype)
    if case.loss_class is losses.P2SGradLoss:
        # It renormalizes its weight in each call, and changes it no more from the second time on.
        loss.weight.data = loss.weight.data.renorm(2, 1, 1e-5).mul(1e5)
    return loss


REDUCERS = {
    "default": lambda num_classes: None,
    "mean": lambda num_classes: reducers.MeanReducer(),
    "sum": lambda num_classes: reducers.SumReducer(),
    "avg_non_zero": lambda num_classes: reducers.AvgNonZeroReducer(),
    "threshold": lambda num_classes: reducers.ThresholdReducer(low=0.1),
    "class_weighted": lambda num_classes: reducers.ClassWeightedReducer(
        torch.linspace(0.5, 2, num_classes, dtype=torch.float64)
    ),
    "per_anchor": lambda num_classes: reducers.PerAnchorReducer(),
    "nothing": lambda num_classes: reducers.DoNothingReducer(),
    "multiple": lambda num_classes: reducers.MultipleReducers({"loss": reducers.SumReducer()}),
}


def draw_batch(
    seed, batch_size=12, num_classes=NUM_CLASSES, dim=DIM, order="random", dtype=torch.float64
):
    """Draw embeddings (a leaf) and labels: "random", or "sorted", "balanced" or "dominated"."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(batch_size, dim, dtype=torch.float64, generator=generator)
    labels = torch.randint(num_classes, (batch_size,), generator=generator)
    if order == "balanced":
        labels = torch.arange(batch_size) % num_classes
    if order == "dominated":
        labels[: 2 * batch_size // 3] = 1
    if order == "sorted":
        labels = labels.sort().values
    return embeddings.to(dtype).requires_grad_(), labels


def draw_proxies(seed, *shape):
    """Draw proxies, a leaf."""
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def triplets(labels):
    """Some of all triplets, so that rows are named unequally often, and one not at all."""
    a, p, n = lmu.get_all_triplets_indices(labels)
    kept = (a % 3 != 0) & (a != 1) & (p != 1) & (n != 1)
    return a[kept], p[kept], n[kept]


def pairs(labels):
    """Some positive and some negative pairs."""
    a, p, n = triplets(labels)
    return a, p, a[:7], n[:7]


def assert_same_batch(batch, expected):
    for name in ("labels", "source"):
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name
    for name in ("embeddings", "proxies"):
        torch.testing.assert_close(getattr(batch, name), getattr(expected, name), **CLOSE)


def assert_same_gradients_of_batches(batch, expected, inputs):
    """Compare the gradients of weighted sums of all that was made."""
    weights = torch.randn_like(expected.embeddings), torch.randn_like(expected.proxies)
    sums = [
        (made.embeddings * weights[0]).sum() + (made.proxies * weights[1]).sum()
        for made in (batch, expected)
    ]
    assert_same_gradients(*sums, inputs)


def assert_same_gradients(value, expected, inputs, expected_inputs=None):
    got = torch.autograd.grad(value, inputs)
    wanted = torch.autograd.grad(expected, expected_inputs or inputs)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
