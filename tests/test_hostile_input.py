"""Whatever is thrown at the entry points: a message that names the argument, or sound results."""

import copy
import inspect
import math
import sys
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses
from pytorch_metric_learning.distances import DotProductSimilarity
from torch.nn.functional import normalize

import reference
from cases import EXAMPLES, PROXY_LOSSES
from pml_synthesis import (
    BaseAugmenter,
    Compose,
    EmbeddingExpansion,
    EmbeddingMixup,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SymmetricalSynthesis,
    SynthesisLoss,
    SynthesisRegularizer,
    SyntheticBatch,
    register_proxies,
)
from pml_synthesis.functional import (
    mix_units,
    random_frame,
    random_signs,
    row_order,
    spherical_expansion,
)
from pml_synthesis.functional.precision import working_dtype
from pml_synthesis.functional.unit_vectors import unit
from pml_synthesis.losses.proxy_bindings import _BINDINGS
from pml_synthesis.schedules import CosineSchedule

SPECIAL = [0.0, math.nan, math.inf, -math.inf, 1e-30, 1e30]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# Those of more than eight bits without a sign came with torch 2.3.
UNSIGNED = [getattr(torch, name) for name in ("uint16", "uint32", "uint64") if hasattr(torch, name)]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, *UNSIGNED]


@st.composite
def batches(draw, dtypes=DTYPES, out_of_range=True, special=SPECIAL, centers=(None, 1, 3)):
    """Draw embeddings, labels, proxies: any sizes, some rows of special values, equal rows."""
    rows, dim = draw(st.integers(0, 9)), draw(st.integers(1, 10))
    classes, centers = draw(st.integers(1, 5)), draw(st.sampled_from(centers))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    form = (classes, dim) if centers is None else (classes, centers, dim)
    x = torch.randn(rows, dim, dtype=torch.float64, generator=generator)
    p = torch.randn(form, dtype=torch.float64, generator=generator)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    y = torch.tensor(labels, dtype=torch.int64)
    wrong = draw(st.sampled_from([None] * 5 + [-1, classes])) if out_of_range and rows else None
    if wrong is not None:
        y[draw(st.integers(0, rows - 1))] = wrong
    for row in draw(st.lists(st.integers(0, rows - 1), max_size=9)) if rows else ():
        target = p[int(y[row]) % classes].reshape(-1, dim)[0]
        likenesses = {"equal": target, "opposite": -target, "twin": x[0], "opposite twin": -x[0]}
        kind = draw(st.sampled_from([*special, *likenesses]))
        x[row] = likenesses[kind] if isinstance(kind, str) else kind
    x *= draw(st.sampled_from([1.0, 1.0, 1.0, 1e15, 1e-15]))
    p[: draw(st.integers(0, classes))] = 0
    x = x.to(draw(st.sampled_from(dtypes)))
    p = p.to(draw(st.sampled_from([torch.float32, torch.float64])))
    return x, y.to(draw(st.sampled_from(INTEGERS))), p


some = st.sampled_from([0.5, 1.0])
ps = st.builds(ProxySynthesis, st.floats(1e-3, 1e3), some | st.floats(0, 3))
see = st.builds(
    SphericalEmbeddingExpansion, st.integers(1, 4), some | st.floats(0, 1), st.booleans()
)
public = st.sampled_from(reference.PUBLIC_AUGMENTERS).map(
    partial(reference.build, num_classes=5, embedding_size=8)
)
augmenters = st.one_of(public, ps, see, st.tuples(ps, see).map(Compose))


def fitted(augmenter, proxies):
    """Build an augmenter that is told sizes anew, with those of the proxies."""
    asked = inspect.signature(type(augmenter)).parameters
    if asked.keys().isdisjoint(("num_classes", "embedding_size")):
        return augmenter
    num_classes, *centers, dim = proxies.shape
    return reference.build(type(augmenter), num_classes, dim, num_centers=(*centers, None)[0])


def bare_takes(case, x, y):
    """Whether PML's loss takes such embeddings: not all dtypes have all kernels on the CPU."""
    if case.loss_class is losses.P2SGradLoss and x.dtype == torch.bfloat16:
        return False  # Its weight is off unit norm by more than it asserts.
    try:
        case.build(7, x.shape[1])(x, y.long())
    except RuntimeError:
        return False
    return True


hostile = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def too_many_expansions(augmenter, dim):
    sizes = [getattr(part, "num_expansions", 0) for part in augmenter.modules()]
    return max(sizes) >= dim


@hostile
@given(augmenters, batches())
def test_augmenters(augmenter, batch):
    x, y, p = batch
    augmenter = fitted(augmenter, p)
    out_of_range = bool(((y.long() < 0) | (y.long() >= len(p))).any())
    if out_of_range or too_many_expansions(augmenter, x.shape[1]):
        with pytest.raises(ValueError, match="Expected argument `(labels|num_expansions)` to be"):
            augmenter(x, y, p)
        return
    made = augmenter(x, y, p)
    assert made.embeddings.dtype == made.proxies.dtype == x.dtype
    assert made.proxies.shape[1:] == p.shape[1:]
    assert made.labels.dtype == made.source.dtype == torch.int64
    assert bool(((made.labels >= 0) & (made.labels < len(p) + made.num_new_classes)).all())
    assert bool(((made.source >= 0) & (made.source < len(x))).all())
    # What is finite makes what is finite; its directions are unit vectors, or 0 where it has none.
    if x.isfinite().all():
        assert made.embeddings.isfinite().all() and made.proxies.isfinite().all()
        norms = made.embeddings.double().norm(dim=1)
        exact = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(x.dtype, 2e-5)
        assert bool((norms < 1 + exact).all())


@hostile
@given(st.sampled_from(PROXY_LOSSES), augmenters, st.data())
def test_losses_are_finite_where_the_bare_loss_with_more_classes_is(case, augmenter, data):
    dtypes, centers = [torch.float32, torch.float64], [case.centers if case.centers > 1 else None]
    x, y, p = data.draw(batches(dtypes, False, special=[0.0, 1e-30, 1e15], centers=centers))
    augmenter = fitted(augmenter, p)
    if len(x) == 0 or too_many_expansions(augmenter, x.shape[1]):
        return
    loss = case.build(len(p), x.shape[1]).to(x.dtype)
    x.requires_grad_()
    weight = getattr(loss, case.weight)
    if case.loss_class is losses.P2SGradLoss:  # It refuses proxies of no or little length.
        p = normalize(p + (p == 0), dim=-1)
    weight.data.movedim(case.class_dim, 0)[:] = p.flatten(0, -2)
    made = copy.deepcopy(augmenter)(x, y, case.proxies(loss))
    if refuses(case, made):
        with pytest.raises(ValueError, match="weights, which P2SGradLoss takes none of"):
            SynthesisLoss(loss, augmenter)(x, y)
        return
    proxies = torch.cat([case.proxies(loss), made.proxies]).detach().requires_grad_()
    rows = torch.cat([x, made.embeddings]).detach().requires_grad_()
    bare = case.build_with(proxies)(rows, torch.cat([y.long(), made.labels]))
    value = SynthesisLoss(loss, augmenter)(x, y)
    if bare.isfinite():
        assert value.isfinite()
        if takes_angles(case) and meet(rows, proxies):
            # PML's gradient of the angle has no value there; a rounding decides for each path.
            return
        gradients = torch.autograd.grad(bare, [rows, proxies])
        if all(gradient.isfinite().all() for gradient in gradients):
            for gradient in torch.autograd.grad(value, [x, weight]):
                assert gradient.isfinite().all()


def refuses(case, made):
    """Tell whether a loss refuses a synthetic batch, because it takes no weights."""
    return case.loss_class is losses.P2SGradLoss and made.weights is not None


def takes_angles(case):
    return case.loss_class in (losses.ArcFaceLoss, losses.SubCenterArcFaceLoss)


def meet(rows, proxies):
    """Tell whether a row and a proxy have the same direction, or opposite ones, to rounding."""
    cosines = normalize(rows) @ normalize(proxies.flatten(0, -2)).T
    return bool((cosines.abs() > 1 - 1e-5).any())


def test_proxies_whose_norms_overflow_have_a_finite_loss():
    torch.manual_seed(0)
    loss = losses.SphereFaceLoss(3, 8)
    loss.W.data[:, 0] *= 1e20 / loss.W.data[:, 0].abs().max()
    x, y = torch.randn(6, 8, requires_grad=True), torch.tensor([0, 0, 1, 1, 2, 2])
    value = SynthesisLoss(loss, ProxySynthesis(seed=0))(x, y)
    assert value.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, [x, loss.W]))


def test_embeddings_whose_norms_overflow_have_a_finite_loss():
    torch.manual_seed(0)
    distance = DotProductSimilarity(normalize_embeddings=False)
    loss = losses.NormalizedSoftmaxLoss(3, 8, temperature=1e18, distance=distance)
    x, y = torch.eye(8)[:6], torch.tensor([0, 0, 1, 1, 2, 2])
    x[0] *= 2e19
    assert loss(x, y).isfinite()
    assert SynthesisLoss(loss, SymmetricalSynthesis(seed=0))(x, y).isfinite()


@hostile
@given(st.sampled_from(PROXY_LOSSES), augmenters, batches(out_of_range=False))
def test_hooks_never_give_a_number_for_what_is_not_one(case, augmenter, batch):
    x, y, _ = batch
    augmenter = fitted(augmenter, case.proxies(case.build(7, x.shape[1])))
    if len(x) == 0 or too_many_expansions(augmenter, x.shape[1]):
        return
    torch.manual_seed(0)
    if not bare_takes(case, x, y):
        return
    made = copy.deepcopy(augmenter)(x, y, case.proxies(case.build(7, x.shape[1])))
    if refuses(case, made):
        return
    regularizer = SynthesisRegularizer(augmenter)
    for loss in (
        SynthesisLoss(case.build(7, x.shape[1]), augmenter),
        case.build(7, x.shape[1], embedding_regularizer=regularizer),
    ):
        value = loss(x, y.long())
        assert value.shape == ()
        if not x.isfinite().all():
            assert value.isnan()


@hostile
@given(batches(out_of_range=False), st.integers(1, 7), st.floats(0, 1), st.integers(0, 1000))
def test_functions_keep_what_is_not_finite_to_its_row(batch, size, weight, seed):
    x, y, p = batch
    y, p, dim = y.long(), p if p.ndim == 2 else p[:, 0], x.shape[1]
    draws = torch.Generator().manual_seed(seed)
    direction = torch.randn(dim, dtype=torch.float64, generator=draws)
    order = row_order(x, y, direction)
    assert order.sort().values.tolist() == list(range(len(x)))
    assert y[order].tolist() == y.sort().values.tolist()

    finite = x.isfinite().all(dim=1)
    dtype = working_dtype(x)
    mixed, _ = mix_units(unit(x.to(dtype)), unit(p[y].to(dtype)), weight)
    assert mixed[finite].isfinite().all()
    assert not mixed[~finite].isfinite().all(dim=1).any()
    if size < dim:
        frame, signs = random_frame(size - 1, dim - 2, draws), random_signs(len(x), dim, draws)
        points = spherical_expansion(x, p[y], frame, signs)
        assert points.dtype == x.dtype and points.shape == (len(x), size, dim)
        assert points[finite].isfinite().all()
        assert not points[~finite].isfinite().flatten(1).all(dim=1).any()


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.fractions(),
    st.text(max_size=3),
    st.sampled_from([10**400, Fraction(10**400), np.float64(0.5), np.int64(3), np.array([0.5])]),
    st.sampled_from([torch.tensor(1), torch.ones(2, 3), [], [0.4], {}, {"num_classes": 5}]),
    st.sampled_from([object(), ProxySynthesis, torch.nn.Identity(), losses.TripletMarginLoss()]),
)


def number(value):
    """Whether a value is a number that float64 can hold."""
    kinds = (int, float, Fraction, np.integer)
    return (
        isinstance(value, kinds)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def integer(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def schedule(**given):
    return CosineSchedule(**{"start": 0.0, "end": 1.0, "num_steps": 5} | given)


def taught(**given):
    register_proxies(**{"loss_class": UsersLoss, "weight": "proxies"} | given)


class UsersLoss(losses.ProxyNCALoss):
    pass


ARGUMENTS = {
    "alpha": (ProxySynthesis, lambda v: number(v) and v > 0),
    "mu": (ProxySynthesis, lambda v: number(v) and 0 <= v <= 1000),
    "seed": (ProxySynthesis, lambda v: v is None or (integer(v) and 0 <= v < 2**64)),
    "num_expansions": (SphericalEmbeddingExpansion, lambda v: integer(v) and v >= 1),
    "fraction": (
        SphericalEmbeddingExpansion,
        lambda v: callable(v) or (number(v) and 0 <= v <= 1),
    ),
    "num_points": (EmbeddingExpansion, lambda v: integer(v) and v >= 0),
    "role": (SymmetricalSynthesis, lambda v: isinstance(v, str) and v in ("all", "negative")),
    "same_class": (EmbeddingMixup, lambda v: isinstance(v, bool)),
    "augmenters": (Compose, lambda v: False),
    "start": (schedule, number),
    "end": (schedule, number),
    "num_steps": (schedule, lambda v: integer(v) and v >= 1),
    "loss": (
        partial(SynthesisLoss, augmenter=None),
        lambda v: isinstance(v, losses.TripletMarginLoss),
    ),
    "augmenter": (SynthesisRegularizer, lambda v: False),
    "loss_class": (taught, lambda v: False),
    "weight": (taught, lambda v: isinstance(v, str) and v != ""),
    "class_dim": (taught, lambda v: integer(v) and v in (0, 1)),
    "centers": (taught, lambda v: v is None or (isinstance(v, str) and v != "")),
    "sized_by_classes": (taught, lambda v: v is None or v == {}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
@settings(max_examples=100, deadline=None)
@given(value=anything)
def test_what_is_given_to_a_constructor_is_taken_or_named(name, value):
    build, fits = ARGUMENTS[name]
    try:
        if fits(value):
            build(**{name: value})
        else:
            with pytest.raises(ValueError, match=f"Expected argument `{name}` to be .*, but got"):
                build(**{name: value})
    finally:
        _BINDINGS.pop(UsersLoss, None)


FOUR = torch.arange(4)
TENSORS = {"embeddings": torch.ones(4, 3), "labels": FOUR, "proxies": torch.ones(4, 3)}
FIELDS = {**TENSORS, "source": FOUR}
no_tensor = anything.filter(lambda value: not isinstance(value, torch.Tensor))


@hostile
@given(augmenters, st.sampled_from(sorted(FIELDS)), no_tensor)
def test_what_is_no_tensor_is_named(augmenter, name, value):
    augmenter = fitted(augmenter, TENSORS["proxies"])
    message = f"Expected argument `{name}` to be .*, but got"
    calls = [(SyntheticBatch, FIELDS)]
    may_be_missing = name == "proxies" and value is None and not augmenter.requires_proxies
    if name in TENSORS and not may_be_missing:
        calls.append((augmenter, TENSORS))
    if name in ("embeddings", "labels"):
        wrapped = SynthesisLoss(losses.ProxyNCALoss(4, 3), augmenter)
        calls.append((wrapped, {key: TENSORS[key] for key in ("embeddings", "labels")}))
    for called, given_ in calls:
        with pytest.raises(ValueError, match=message):
            called(**given_ | {name: value})
    assert all(part.step == 0 for part in augmenter.modules() if isinstance(part, BaseAugmenter))


@pytest.mark.parametrize("hook", ["joined", "term"])
@pytest.mark.parametrize("pairs", [False, True], ids=["proxies", "pairs"])
def test_embeddings_without_a_width_are_named(hook, pairs):
    x, y = torch.ones(4, 0), FOUR
    for augmenter in [example() for example in EXAMPLES]:
        build = losses.TripletMarginLoss if pairs else partial(losses.ProxyAnchorLoss, 5, 8)
        if pairs and augmenter.requires_proxies:
            continue
        if hook == "joined":
            loss = SynthesisLoss(build(), augmenter)
        else:
            loss = build(embedding_regularizer=SynthesisRegularizer(augmenter))
        before = augmenter.step
        with pytest.raises(ValueError, match=r"`embeddings` to be of shape \[B, D\] with a D of 1"):
            loss(x, y)
        assert augmenter.step == before


@hostile
@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.integers(1, 10**400), st.integers(0, 10**401))
def test_a_schedule_stays_between_its_ends(start, end, num_steps, step):
    value = CosineSchedule(start, end, num_steps)(step)
    rounding = 1e-12 * max(abs(start), abs(end))
    assert min(start, end) - rounding <= value <= max(start, end) + rounding
    assert step < num_steps or value == pytest.approx(end, abs=rounding)
