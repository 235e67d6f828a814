from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses
from torch.nn.functional import normalize

from cases import CLOSE, DIM, NUM_CLASSES, PROXY_LOSSES, build_loss, draw_batch, taking_turns
from pml_synthesis import (
    BaseAugmenter,
    Compose,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SyntheticBatch,
)
from pml_synthesis.augmenters import mixing_weight
from pml_synthesis.losses import joined_cosines, proxy_evaluation
from pml_synthesis.losses.joined_cosines import cosines_suffice
from pml_synthesis.losses.proxy_bindings import ProxyBinding

FAST = [case for case in PROXY_LOSSES if case.loss_class in joined_cosines._LOSSES]


class Random(BaseAugmenter):
    """Makes rows and classes that are mixes of nothing, of any norm."""

    def synthesize(self, batch, generator):
        embeddings, labels, proxies = batch.embeddings, batch.labels, batch.proxies
        new = torch.randn(3, *proxies.shape[1:], dtype=proxies.dtype, generator=generator)
        rows = 2 * embeddings + torch.randn(embeddings.shape, generator=generator)
        new_labels = len(proxies) + torch.arange(len(labels)) % 3
        return SyntheticBatch(rows, new_labels, 3 * new, torch.arange(len(labels)))


AUGMENTERS = {
    "ps": lambda: ProxySynthesis(seed=1),
    "ps mu 2.5": lambda: ProxySynthesis(mu=2.5, seed=1),
    "random": lambda: Random(seed=1),
    "compose": lambda: Compose(
        [ProxySynthesis(seed=1), SphericalEmbeddingExpansion(3, 0.5, detach=False, seed=1)]
    ),
}
all_augmenters = pytest.mark.parametrize("augmenter", AUGMENTERS.values(), ids=AUGMENTERS)
fast_losses = pytest.mark.parametrize("case", FAST, ids=lambda case: case.name)


@pytest.fixture
def taken(monkeypatch):
    """Which path was taken by each joined call: True for the fast one."""
    paths = []

    def noting(*args):
        paths.append(cosines_suffice(*args))
        return paths[-1]

    monkeypatch.setattr(proxy_evaluation, "cosines_suffice", noting)
    return paths


def general(monkeypatch):
    monkeypatch.setattr(proxy_evaluation, "cosines_suffice", lambda *_: False)


@taking_turns(
    ["order"],
    {order: (order,) for order in ("random", "sorted", "dominated")},
    case={case.name: case for case in FAST},
    augmenter=AUGMENTERS,
    hostile={name: name for name in ("", "zero proxy", "zero row", "equal")},
)
def test_equals_the_general_path(case, augmenter, order, hostile, monkeypatch, taken):
    x, y = draw_batch(0, order=order)
    loss = build_loss(case)
    weight = getattr(loss, case.weight)
    with torch.no_grad():
        proxies = weight.movedim(case.class_dim, 0)
        if hostile == "zero proxy":
            proxies[2] = 0
        if hostile == "zero row":
            x[3] = 0
        if hostile == "equal" and "Arc" not in case.name:
            x[3] = 5 * proxies[y[3] * case.centers]
    value = SynthesisLoss(loss, augmenter())(x, y)
    gradients = torch.autograd.grad(value, [x, weight])
    assert taken == [True]

    assert value.isfinite() and all(gradient.isfinite().all() for gradient in gradients)

    general(monkeypatch)
    expected = SynthesisLoss(loss, augmenter())(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)
    of_x, of_weight = torch.autograd.grad(expected, [x, weight])
    # The gradient of what has no direction means nothing: its size is about 1 / 1e-12.
    rows = torch.arange(len(x)) != (3 if hostile == "zero row" else -1)
    torch.testing.assert_close(gradients[0][rows], of_x[rows], **CLOSE)
    of_proxies = of_weight.movedim(case.class_dim, 0)
    rows = torch.arange(len(of_proxies)) != (2 if hostile == "zero proxy" else -1)
    got = gradients[1].movedim(case.class_dim, 0)
    torch.testing.assert_close(got[rows], of_proxies[rows], **CLOSE)


@fast_losses
def test_equals_the_general_path_in_float32(case, monkeypatch, taken):
    x, y = draw_batch(0, batch_size=40, dtype=torch.float32)
    loss = build_loss(case).float()
    value = SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y)
    assert taken == [True]
    general(monkeypatch)
    expected = SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


def opposite_batch(case, gap, seed):
    """Draw embeddings and proxies of four classes, two and two opposite up to a gap."""
    generator = torch.Generator().manual_seed(seed)

    def draw(vectors):
        first = torch.randn(vectors, DIM, dtype=torch.float64, generator=generator)
        near = -2 * first + gap * torch.randn(first.shape, dtype=torch.float64, generator=generator)
        return torch.cat([first, near])

    y = torch.arange(12) % 4
    return draw(2)[y].requires_grad_(), y, draw(2 * case.centers)


def loss_and_gradients(case, x, y, proxies, weight, dtype):
    """Compute them with a given mixing weight, the gradients relative to the largest number."""
    loss = case.build(4, DIM).to(dtype)
    parameter = getattr(loss, case.weight)
    parameter.data = proxies.movedim(0, case.class_dim).to(dtype).contiguous()
    x = x.detach().to(dtype).requires_grad_()
    with mock.patch.object(mixing_weight, "_draw_beta", lambda *_: weight):
        value = SynthesisLoss(loss, ProxySynthesis(mu=3, seed=1))(x, y)
    gradients = torch.autograd.grad(value, [x, parameter])
    return value.double(), [g.double() / g.abs().max() for g in gradients]


# Exponents of 10: how far two vectors are from being opposite, and lambda from 1/2.
gaps, offsets = st.floats(-6, -1), st.floats(-4, -1)


@fast_losses
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=20, deadline=None)
@given(gaps, offsets, st.sampled_from([-1, 1]), st.integers(0, 1000))
def test_equals_the_general_path_near_opposite_vectors(case, dtype, gap, offset, side, seed):
    x, y, proxies = opposite_batch(case, 10**gap, seed)
    weight = 0.5 + side * 10**offset
    value, gradients = loss_and_gradients(case, x, y, proxies, weight, dtype)
    with mock.patch.object(proxy_evaluation, "cosines_suffice", lambda *_: False):
        expected, of_general = loss_and_gradients(case, x, y, proxies, weight, torch.float64)
    precision = 1000 * torch.finfo(dtype).eps / 10**offset
    torch.testing.assert_close(value, expected, rtol=precision, atol=precision)
    for got, wanted in zip(gradients, of_general, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=10 * precision)


@fast_losses
@all_augmenters
@pytest.mark.parametrize("of", ["embedding", "proxy"])
def test_norms_that_overflow_are_taken_as_in_the_general_path(case, augmenter, of, monkeypatch):
    x, y = draw_batch(0, dtype=torch.float32)
    loss = build_loss(case).float()
    weight = getattr(loss, case.weight)
    with torch.no_grad():
        vector = x[0] if of == "embedding" else weight.movedim(case.class_dim, 0)[0]
        vector *= 1e20 / vector.abs().max()
    value = SynthesisLoss(loss, augmenter())(x, y)
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, [x, weight]))
    general(monkeypatch)
    expected = SynthesisLoss(loss, augmenter())(x, y)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


SHORT = {
    "an embedding": [slice(0, 1), slice(0, 0)],
    "a proxy": [slice(0, 0), slice(1, 2)],
    "some of both": [slice(0, None, 3), slice(0, None, 2)],
    "all": [slice(0, None), slice(0, None)],
}


def normalized_twice(proxies):
    return normalize(normalize(proxies))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mixing", [0.3, 1e-9, 1 - 2**-22, 1 - 1e-7, 1 - 1e-13])
@pytest.mark.parametrize("norm", [1e-11, 9e-13, 1e-14, 0.0])
@pytest.mark.parametrize("where", SHORT.values(), ids=SHORT)
@pytest.mark.parametrize("of_proxies", [normalize, normalized_twice])
def test_short_vectors_are_taken_as_in_the_general_path(of_proxies, where, norm, mixing, dtype):
    """The augmenter mixes them as they are, PML divides them by 1e-12."""
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randn(n, DIM, dtype=torch.float64, generator=generator) for n in (12, 4))
    inputs = list(draws)
    short = [torch.zeros(len(vectors), dtype=torch.bool) for vectors in inputs]
    for vectors, part, is_short in zip(inputs, where, short, strict=True):
        vectors[part] = normalize(vectors[part]) * norm
        is_short[part] = True
    x, p = (vectors.to(dtype).requires_grad_() for vectors in inputs)
    with mock.patch.object(mixing_weight, "_draw_beta", lambda *_: mixing):
        batch = ProxySynthesis(mu=2, seed=1)(x, torch.arange(12) % 4, p)
    rows, proxies = torch.cat([x, batch.embeddings]), torch.cat([p, batch.proxies])
    expected = normalize(rows) @ of_proxies(proxies).T
    shortest = 1e-24 if of_proxies is normalized_twice else 1e-12
    got = joined_cosines.joined_cosines(batch, ProxyBinding("proxies"), p, x, shortest).matrix

    close = CLOSE if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(got, expected, **close)
    if dtype == torch.float32 and mixing > 1 - 2**-22:
        # Of a rounded weight, lerp rounds the gradients otherwise than the values.
        return
    weights = torch.randn(expected.shape, dtype=dtype, generator=generator)
    gradients = [torch.autograd.grad((m * weights).sum(), [x, p]) for m in (got, expected)]
    for one, other in zip(*gradients, strict=True):
        if of_proxies is normalized_twice and norm < 1e-12 and len(other) == len(p):
            # The gradient of what has no direction means nothing.
            one, other = (part[~short[1]] for part in (one, other))
        # Each relative to its length, as those of short vectors are 1e12 times as large.
        lengths = torch.linalg.vector_norm(other, dim=1, keepdim=True).clamp_min(1)
        torch.testing.assert_close(one / lengths, other / lengths, **close)


class Cancelled(BaseAugmenter):
    """Makes one embedding and one proxy without a direction."""

    def synthesize(self, batch, generator):
        new_label = batch.labels.new_full((1,), batch.num_classes)
        cancelled = 0 * batch.embeddings[:1], new_label, 0 * batch.proxies[:1]
        return SyntheticBatch(*cancelled, source=0 * new_label)


@fast_losses
def test_vectors_without_a_direction_are_as_far_as_in_the_general_path(case, monkeypatch, taken):
    x, y = draw_batch(0)
    loss = SynthesisLoss(build_loss(case), Cancelled())
    value = loss(x, y)
    assert taken == [True]
    general(monkeypatch)
    torch.testing.assert_close(value, loss(x, y), **CLOSE)


@fast_losses
@pytest.mark.parametrize("weight, mixed", [(0.474, True), (0.476, False), (0.524, False)])
def test_cosines_are_mixed_apart_from_one_half(case, weight, mixed, monkeypatch):
    calls, apply = [], joined_cosines._MixedCosines.apply
    noting = mock.Mock(side_effect=lambda *args: calls.append(args) or apply(*args))
    monkeypatch.setattr(joined_cosines._MixedCosines, "apply", noting)
    loss_and_gradients(case, *opposite_batch(case, 1, 0), weight, torch.float32)
    assert bool(calls) == mixed


@fast_losses
@pytest.mark.parametrize(
    "of_rows, of_loss", [(torch.float32, torch.float64), (torch.float64, torch.float32)]
)
def test_weights_of_another_dtype(case, of_rows, of_loss, taken):
    x, y = draw_batch(0, dtype=of_rows)
    loss = build_loss(case).to(of_loss)
    value = SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y)
    value.backward()
    assert taken == [True]
    expected = SynthesisLoss(build_loss(case), ProxySynthesis(seed=1))(x.detach().double(), y)
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-4)
    assert getattr(loss, case.weight).grad.dtype == of_loss


@fast_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_cosines(case, dtype):
    x, y = draw_batch(0, dtype=torch.float32)
    loss = build_loss(case).float()
    value = SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y)
    with torch.autocast("cpu", dtype):
        under_autocast = SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y)
    torch.testing.assert_close(under_autocast, value, rtol=1e-5, atol=1e-5)


def with_distance(loss_class, distance):
    return loss_class(NUM_CLASSES, DIM, distance=distance)


OTHERS = {
    "uses norms": lambda: losses.SphereFaceLoss(NUM_CLASSES, DIM),
    "has no distance": lambda: losses.P2SGradLoss(DIM, NUM_CLASSES),
    "is a subclass": lambda: type("Mine", (losses.ArcFaceLoss,), {})(NUM_CLASSES, DIM),
    "distance not squared": lambda: with_distance(
        losses.ProxyNCALoss, distances.LpDistance(power=1)
    ),
    "another norm": lambda: with_distance(losses.ProxyNCALoss, distances.LpDistance(p=1, power=2)),
    "another distance": lambda: with_distance(losses.ProxyNCALoss, distances.SNRDistance()),
    "does not normalise": lambda: with_distance(
        losses.NormalizedSoftmaxLoss, distances.DotProductSimilarity(normalize_embeddings=False)
    ),
    "records statistics": lambda: with_distance(
        losses.ArcFaceLoss, distances.CosineSimilarity(collect_stats=True)
    ),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_losses_take_the_general_path(make, taken):
    x, y = draw_batch(0, dtype=torch.float32)
    assert SynthesisLoss(make(), ProxySynthesis())(x, y).isfinite()
    assert taken == [False]


REGISTRATIONS = {
    "register_forward_pre_hook": lambda module, inputs: None,
    "register_forward_hook": lambda module, inputs, output: None,
    "register_full_backward_pre_hook": lambda module, gradients: None,
    "register_full_backward_hook": lambda module, inputs, outputs: None,
}


@pytest.mark.parametrize("part", [lambda loss: loss, lambda loss: loss.distance])
@pytest.mark.parametrize("register", REGISTRATIONS)
def test_hooks_take_the_general_path(part, register, taken):
    x, y = draw_batch(0)
    loss = build_loss(FAST[0])
    hook = mock.Mock(side_effect=REGISTRATIONS[register])
    handle = getattr(part(loss), register)(hook)
    SynthesisLoss(loss, ProxySynthesis())(x, y).backward()
    assert hook.called
    handle.remove()
    SynthesisLoss(loss, ProxySynthesis())(x, y)
    assert taken == [False, True]


def test_a_hook_that_changes_the_embeddings(monkeypatch):
    x, y = draw_batch(0)
    loss = build_loss(FAST[0])
    stretch = torch.linspace(1, 5, DIM, dtype=x.dtype)
    loss.register_forward_pre_hook(lambda _, inputs: (inputs[0] * stretch, *inputs[1:]))
    value = SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y)
    general(monkeypatch)
    torch.testing.assert_close(value, SynthesisLoss(loss, ProxySynthesis(seed=1))(x, y), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_the_general_path(dtype, taken):
    x, y = draw_batch(0, dtype=dtype)
    SynthesisLoss(losses.ProxyAnchorLoss(NUM_CLASSES, DIM), ProxySynthesis())(x, y)
    assert taken == [False]


@pytest.mark.parametrize("class_dim", [0, 1])
def test_gradcheck(class_dim):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    p = torch.randn(3, 6, dtype=torch.float64, generator=generator)
    weight = p.movedim(0, class_dim).contiguous().requires_grad_()
    binding, y = ProxyBinding("weight", class_dim), torch.tensor([0, 1, 2, 1])

    def cosines(x, weight):
        batch = ProxySynthesis(mu=2, seed=1)(x, y, weight.movedim(class_dim, 0))
        return joined_cosines.joined_cosines(batch, binding, weight, x).matrix

    torch.autograd.gradcheck(cosines, (x, weight))
    torch.autograd.gradgradcheck(cosines, (x, weight))


@fast_losses
@pytest.mark.parametrize("of", ["both", "embeddings", "proxies"])
def test_second_derivatives_are_those_of_the_general_path(case, of, monkeypatch, taken):
    def gradients_of_penalty():
        x, y = draw_batch(0)
        loss = build_loss(case)
        weight = getattr(loss, case.weight)
        x.requires_grad_(of != "proxies")
        weight.requires_grad_(of != "embeddings")
        inputs = [part for part in (x, weight) if part.requires_grad]
        value = SynthesisLoss(loss, ProxySynthesis(mu=2, seed=1))(x, y)
        first = torch.autograd.grad(value, inputs, create_graph=True)
        return torch.autograd.grad(sum(part.square().sum() for part in first), inputs)

    got = gradients_of_penalty()
    assert taken == [True]
    general(monkeypatch)
    for one, other in zip(got, gradients_of_penalty(), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_norms_of_proxies_are_the_same_in_both_layouts():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2500, 8, dtype=torch.float64, generator=generator)
    vectors *= torch.logspace(-14, 3, len(vectors), dtype=torch.float64).unsqueeze(1)
    expected = torch.linalg.vector_norm(vectors, dim=1)
    for columns in (vectors.T, vectors.T.contiguous()):
        got = joined_cosines._norms_of_columns(columns[:, :2400], columns[:, 2400:])
        torch.testing.assert_close(got, expected, rtol=1e-14, atol=0)


def test_no_copy_of_the_proxies_is_made():
    """The largest tensor that autograd keeps is the weight itself or of B + M rows."""
    num_classes, dim, batch_size = 4000, 64, 16
    loss = losses.NormalizedSoftmaxLoss(num_classes, dim)
    x, y = draw_batch(0, batch_size, num_classes, dim, dtype=torch.float32)
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        SynthesisLoss(loss, ProxySynthesis())(x, y)
    kept.pop(loss.W.data_ptr())
    assert max(kept.values()) <= 4 * 2 * batch_size * (num_classes + batch_size)
