import pytest
import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper

from cases import PROXY_LOSSES, all_losses, draw_batch
from pml_synthesis import (
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    register_proxies,
)
from pml_synthesis.losses import proxies_of
from pml_synthesis.losses.proxy_bindings import _BINDINGS, find_binding
from pml_synthesis.pml import substituted


def test_all_proxy_losses_of_pml_are_known():
    """Those with a parameter that grows with the number of classes."""
    known = {case.loss_class for case in PROXY_LOSSES}
    assert known <= set(_BINDINGS)
    for name in losses.__all__ if hasattr(losses, "__all__") else dir(losses):
        loss_class = getattr(losses, name)
        if isinstance(loss_class, type) and issubclass(loss_class, losses.BaseMetricLossFunction):
            try:
                small, large = (build_anyhow(loss_class, size) for size in (3, 7))
            except TypeError:
                continue
            sizes = [sum(p.numel() for p in loss.parameters()) for loss in (small, large)]
            if sizes[0] != sizes[1]:
                assert loss_class in known, name


def build_anyhow(loss_class, num_classes):
    if loss_class is losses.P2SGradLoss:
        return loss_class(4, num_classes)
    return loss_class(num_classes=num_classes, embedding_size=4)


@all_losses
def test_finds_the_proxies(case):
    loss = case.build(5, 8)
    assert torch.equal(find_binding(loss).proxies(loss), case.proxies(loss))


@all_losses
def test_proxies_of_a_loss_bare_and_wrapped(case):
    loss = case.build(5, 8)
    for outer in (loss, SynthesisLoss(loss, ProxySynthesis()), DistributedLossWrapper(loss)):
        proxies = proxies_of(outer)
        assert torch.equal(proxies, case.proxies(loss))
        assert proxies.data_ptr() == getattr(loss, case.weight).data_ptr(), "no copy"
    twice = DistributedLossWrapper(SynthesisLoss(loss, ProxySynthesis()))
    assert torch.equal(proxies_of(twice), case.proxies(loss))


def test_proxies_of_a_loss_that_has_none():
    for loss in (losses.TripletMarginLoss(), SynthesisLoss(losses.TripletMarginLoss(), None)):
        with pytest.raises(ValueError, match="proxies_of needs .* where TripletMarginLoss keeps"):
            proxies_of(loss)


@all_losses
def test_finds_the_proxies_of_subclasses(case):
    subclass = type("Mine", (case.loss_class,), {})
    assert find_binding(subclass(**kwargs_of(case))) is find_binding(case.build(5, 8))


def kwargs_of(case):
    size = "descriptors_dim" if case.loss_class is losses.P2SGradLoss else "embedding_size"
    return {"num_classes": 5, size: 8}


@all_losses
@pytest.mark.parametrize("num_new", [0, 4])
def test_the_loss_with_an_extended_weight_is_the_loss_with_more_classes(case, num_new):
    torch.manual_seed(0)
    loss = case.build(5, 8).double()
    binding, proxies = find_binding(loss), case.proxies(loss)
    new = torch.nn.functional.normalize(torch.randn(num_new, *proxies.shape[1:]).double(), dim=-1)
    x, y = draw_batch(0, num_classes=5 + num_new)
    extended = binding.extended_weight(binding.weight_of(loss), new)
    with substituted(loss, binding.attributes(loss, extended)) as twin:
        value = twin(x, y)
    expected = case.build_with(torch.cat([proxies, new]))(x, y)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    assert getattr(loss, "num_classes", 5) in (0, 5)


class CenterLoss(losses.BaseMetricLossFunction):
    """A user's loss: the squared distance to the class center, relative to all centers."""

    def __init__(self, num_classes, embedding_size, **kwargs):
        super().__init__(**kwargs)
        self.how_many = num_classes
        self.centers = torch.nn.Parameter(torch.randn(num_classes, embedding_size))

    def compute_loss(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
        distances = torch.cdist(embeddings, self.centers)
        assert distances.shape[1] == self.how_many
        per_row = torch.nn.functional.cross_entropy(-distances, labels, reduction="none")
        indices = torch.arange(len(labels))
        return {"loss": {"losses": per_row, "indices": indices, "reduction_type": "element"}}


@pytest.fixture
def registered():
    register_proxies(CenterLoss, "centers", sized_by_classes={"how_many": int}, uses_norms=True)
    yield
    del _BINDINGS[CenterLoss]


@pytest.mark.parametrize("augmenter", [ProxySynthesis, SphericalEmbeddingExpansion])
def test_a_users_own_loss(registered, augmenter):
    options = {} if augmenter is ProxySynthesis else {"num_expansions": 2}
    loss = CenterLoss(5, 8).double()
    x, y = draw_batch(0)
    SynthesisLoss(loss, augmenter(**options))(x, y).backward()
    assert x.grad.isfinite().all() and loss.centers.grad.isfinite().all()
    assert loss.how_many == 5


def test_a_registered_class_dim_that_does_not_fit_is_named():
    register_proxies(CenterLoss, "centers", class_dim=1)
    try:
        with pytest.raises(ValueError, match="`proxies` .*register_proxies: see its `class_dim`"):
            SynthesisLoss(CenterLoss(5, 8).double(), ProxySynthesis())(*draw_batch(0))
    finally:
        del _BINDINGS[CenterLoss]


def test_an_unknown_loss_says_how_to_register_it():
    message = r"where CenterLoss keeps any is unknown.*pml_synthesis.register_proxies\(CenterLoss"
    with pytest.raises(ValueError, match=message):
        SynthesisLoss(CenterLoss(5, 8), ProxySynthesis())


@pytest.mark.parametrize("wrong", [torch.nn.Linear, "CenterLoss", None])
def test_wrong_loss_class(wrong):
    with pytest.raises(ValueError, match="`loss_class` to be a subclass of PML's BaseMetricLoss"):
        register_proxies(wrong, "weight")


class LinearLoss(CenterLoss):
    """A user's loss that keeps its proxies in a layer."""

    def __init__(self, num_classes, embedding_size, **kwargs):
        losses.BaseMetricLossFunction.__init__(self, **kwargs)
        self.layer = torch.nn.Linear(embedding_size, num_classes, bias=False)

    def compute_loss(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
        logits = self.layer(embeddings)
        per_row = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        indices = torch.arange(len(labels))
        return {"loss": {"losses": per_row, "indices": indices, "reduction_type": "element"}}


def test_proxies_in_a_submodule():
    register_proxies(LinearLoss, "layer.weight", uses_norms=True)
    try:
        loss = LinearLoss(5, 8).double()
        x, y = draw_batch(0)
        SynthesisLoss(loss, ProxySynthesis())(x, y).backward()
        assert loss.layer.weight.grad.isfinite().all()
        assert loss.layer.weight.shape == (5, 8)
    finally:
        del _BINDINGS[LinearLoss]


@pytest.mark.parametrize(
    "options",
    [
        {"weight": "centres"},
        {"weight": "layer.weight"},
        {"weight": "centers", "centers": "how_much"},
        {"weight": "centers", "sized_by_classes": {"how_few": int}},
    ],
)
def test_a_name_that_the_loss_does_not_have(options):
    register_proxies(CenterLoss, **options)
    try:
        with pytest.raises(ValueError, match="CenterLoss has no `.*register_proxies was told"):
            SynthesisLoss(CenterLoss(5, 8), ProxySynthesis())
    finally:
        del _BINDINGS[CenterLoss]


@pytest.mark.parametrize("weight", [None, 3, "", torch.zeros(3)])
def test_wrong_weight(weight):
    with pytest.raises(ValueError, match="`weight` to be the name of a parameter"):
        register_proxies(CenterLoss, weight)


def test_wrong_class_dim():
    with pytest.raises(ValueError, match="`class_dim` to be 0 .* or 1 .* but got 2"):
        register_proxies(CenterLoss, "centers", class_dim=2)
    assert CenterLoss not in _BINDINGS
