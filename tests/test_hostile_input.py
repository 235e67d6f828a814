"""Whatever is thrown at the entry points: a message that names the argument, or sound results."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses

from cases import PROXY_LOSSES, PUBLIC_AUGMENTERS
from pml_synthesis import (
    Compose,
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)

SPECIAL = [0.0, math.nan, math.inf, -math.inf, 1e-30, 1e30]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


@st.composite
def batches(draw, dtypes=DTYPES, out_of_range=True, special=SPECIAL):
    """Draw embeddings, labels, proxies: any sizes, some rows of special values, equal rows."""
    rows, dim = draw(st.integers(0, 9)), draw(st.integers(1, 8))
    classes, centers = draw(st.integers(1, 5)), draw(st.sampled_from([None, 1, 3]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    form = (classes, dim) if centers is None else (classes, centers, dim)
    x = torch.randn(rows, dim, dtype=torch.float64, generator=generator)
    p = torch.randn(form, dtype=torch.float64, generator=generator)
    # One batch in five has a label too many.
    highest = classes - int(draw(st.integers(0, 4)) < 4 or not out_of_range)
    y = torch.tensor(draw(st.lists(st.integers(0, highest), min_size=rows, max_size=rows)))
    for row in draw(st.lists(st.integers(0, rows - 1), max_size=9)) if rows else ():
        kind = draw(st.sampled_from([*special, "equal", "opposite", "twin"]))
        target = p[int(y[row]) % classes].reshape(-1, dim)[0]
        x[row] = {"equal": target, "opposite": -target, "twin": x[0]}.get(kind, torch.tensor(0.0))
        if not isinstance(kind, str):
            x[row] = kind
    p[: draw(st.integers(0, classes))] = 0
    x = x.to(draw(st.sampled_from(dtypes)))
    p = p.to(draw(st.sampled_from([torch.float32, torch.float64])))
    return x, y.to(draw(st.sampled_from(INTEGERS))), p


augmenters = st.one_of(
    st.sampled_from(PUBLIC_AUGMENTERS).map(lambda augmenter: augmenter()),
    st.builds(ProxySynthesis, st.floats(1e-3, 1e3), st.floats(0, 3)),
    st.builds(SphericalEmbeddingExpansion, st.integers(1, 4), st.floats(0, 1), st.booleans()),
    st.builds(
        lambda mu, k, fraction: Compose(
            [ProxySynthesis(mu=mu), SphericalEmbeddingExpansion(k, fraction)]
        ),
        st.floats(0, 3),
        st.integers(1, 3),
        st.floats(0, 1),
    ),
)
hostile = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def too_many_expansions(augmenter, dim):
    sizes = [getattr(part, "num_expansions", 0) for part in augmenter.modules()]
    return max(sizes) >= dim


@hostile
@given(augmenters, batches())
def test_augmenters(augmenter, batch):
    x, y, p = batch
    out_of_range = len(y) > 0 and int(y.max()) >= len(p)
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
    x, y, _ = data.draw(
        batches([torch.float32, torch.float64], out_of_range=False, special=[0.0, 1e-30])
    )
    if len(x) == 0 or too_many_expansions(augmenter, x.shape[1]):
        return
    torch.manual_seed(0)
    loss = case.build(5, x.shape[1]).to(x.dtype)
    x.requires_grad_()
    weight = getattr(loss, case.weight)
    if case.loss_class is not losses.P2SGradLoss:  # It refuses a proxy of no length.
        zero = data.draw(st.integers(0, 5 * case.centers))
        weight.data.movedim(case.class_dim, 0)[:zero] = 0
    made = augmenter(x, y, case.proxies(loss))
    augmenter.load_state_dict({name: {"seed": 0, "step": 0} for name in augmenter.state_dict()})
    proxies = torch.cat([case.proxies(loss), made.proxies]).detach().requires_grad_()
    rows = torch.cat([x, made.embeddings]).detach().requires_grad_()
    bare = case.build_with(proxies)(rows, torch.cat([y.long(), made.labels]))
    value = SynthesisLoss(loss, augmenter)(x, y)
    if bare.isfinite():
        assert value.isfinite()
        gradients = torch.autograd.grad(bare, [rows, proxies])
        if all(gradient.isfinite().all() for gradient in gradients):
            for gradient in torch.autograd.grad(value, [x, weight]):
                assert gradient.isfinite().all()


@hostile
@given(st.sampled_from(PROXY_LOSSES), augmenters, batches([torch.float32, torch.float64]))
def test_hooks_never_give_a_number_for_what_is_not_one(case, augmenter, batch):
    x, y, _ = batch
    if len(x) == 0 or too_many_expansions(augmenter, x.shape[1]):
        return
    torch.manual_seed(0)
    regularizer = SynthesisRegularizer(augmenter)
    for loss in (
        SynthesisLoss(case.build(7, x.shape[1]).to(x.dtype), augmenter),
        case.build(7, x.shape[1], embedding_regularizer=regularizer).to(x.dtype),
    ):
        value = loss(x, y.long())
        assert value.shape == ()
        if not x.isfinite().all():
            assert not value.isfinite()
