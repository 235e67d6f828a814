"""Half embeddings, autocast and scaled gradients: values of float32, weights that stay float32."""

import copy
from contextlib import nullcontext

import pytest
import torch
from pytorch_metric_learning import losses

from cases import DIM, NUM_CLASSES, all_losses, draw_batch
from pml_synthesis import (
    ProxySynthesis,
    SphericalEmbeddingExpansion,
    SynthesisLoss,
    SynthesisRegularizer,
)


def see():
    return SphericalEmbeddingExpansion(3, 0.5, detach=False, seed=1)


def with_ps():
    loss = losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM, temperature=0.5)
    return SynthesisLoss(loss, ProxySynthesis(seed=1))


def with_see():
    # The weight of a loss that is not wrapped would become half for good.
    options = {"embedding_regularizer": SynthesisRegularizer(see()), "embedding_reg_weight": 0.2}
    return SynthesisLoss(losses.CosFaceLoss(NUM_CLASSES, DIM, scale=4, **options), augmenter=None)


# The dtype, and whether autocast makes it or the embeddings come in it.
CALLS = {
    "bfloat16 embeddings": (torch.bfloat16, False),
    "float16 embeddings": (torch.float16, False),
    "float64 embeddings": (torch.float64, False),
    "autocast to bfloat16": (torch.bfloat16, True),
    "autocast to float16": (torch.float16, True),
}


def relative_error(value, expected):
    difference = value.double() - expected.double()
    return float(torch.linalg.vector_norm(difference) / torch.linalg.vector_norm(expected.double()))


def call(loss, weight, trunk, x, y, dtype=torch.float32, autocast=False):
    """Return the value and the gradients of the weight and of the trunk."""
    with torch.autocast(x.device.type, dtype) if autocast else nullcontext():
        value = loss(trunk(x).to(dtype), y)
    value.backward()
    return value.detach(), weight.grad, trunk.weight.grad


@pytest.mark.parametrize("loss_class", [losses.NormalizedSoftmaxLoss, losses.CosFaceLoss])
def test_opposite_embeddings_have_finite_gradients_in_float16(loss_class):
    # As large an alpha gives a lambda of 1/2.
    a, w = torch.randn(2, 2, DIM, generator=torch.Generator().manual_seed(0))
    y = torch.arange(12) % 4
    x = torch.cat([a, -a / 100])[y].to(torch.float16).requires_grad_()
    loss = loss_class(4, DIM).half()
    loss.W.data = torch.cat([w, -w / 100]).T.to(torch.float16)
    value = SynthesisLoss(loss, ProxySynthesis(alpha=1e15, seed=0))(x, y)
    value.backward()
    assert value.isfinite() and x.grad.isfinite().all() and loss.W.grad.isfinite().all()


@all_losses
@pytest.mark.parametrize(
    "augmenter", [lambda: ProxySynthesis(seed=1), see, lambda: None], ids=["ps", "see", "none"]
)
@pytest.mark.parametrize("dtype, autocast", CALLS.values(), ids=CALLS)
def test_agrees_with_float32(case, augmenter, dtype, autocast, device):
    x, y = (tensor.detach().to(device) for tensor in draw_batch(0, dtype=torch.float32))
    original = case.build(NUM_CLASSES, DIM).to(device), torch.nn.Linear(DIM, DIM).to(device)
    try:
        bare, trunk = copy.deepcopy(original)
        call(bare, getattr(bare, case.weight), trunk, x, y, dtype, autocast)
    except (RuntimeError, AssertionError) as error:
        pytest.skip(f"PML's bare {case.name} fails with {dtype}: {error!r}")

    results = []
    for precision in ((dtype, autocast), ()):
        loss, trunk = copy.deepcopy(original)
        weight = getattr(loss, case.weight)
        wrapped = SynthesisLoss(loss, augmenter())
        results.append(call(wrapped, weight, trunk, x, y, *precision))
        assert getattr(loss, case.weight) is weight
        assert weight.dtype == weight.grad.dtype == torch.float32
        # Close, since P2SGrad renormalizes its own.
        before = getattr(original[0], case.weight)
        torch.testing.assert_close(weight, before, rtol=1e-5, atol=1e-5)
    (value, *gradients), (expected, *expected_gradients) = results
    assert autocast or value.dtype == dtype
    rounding = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    assert relative_error(value, expected) < 3 * rounding
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative_error(got, wanted) < 12 * rounding


def train(loss, device, scaler=None, steps=10):
    """Train, under autocast to float16 where gradients are scaled; return how all weights moved."""
    torch.manual_seed(0)
    trunk = torch.nn.Linear(DIM, DIM).to(device)
    parameters = [*trunk.parameters(), *loss.to(device).parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for step in range(steps):
        x, y = (tensor.detach().to(device) for tensor in draw_batch(step, dtype=torch.float32))
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16) if scaler else nullcontext():
            value = loss(trunk(x), y)
        if scaler is None:
            value.backward()
            optimizer.step()
        else:
            scaler.scale(value).backward()
            scaler.step(optimizer)
            scaler.update()
    assert all(parameter.dtype == torch.float32 for parameter in parameters)
    return [after.detach() - start for after, start in zip(parameters, before, strict=True)]


scaled = pytest.mark.skipif(
    not hasattr(torch.amp, "GradScaler"), reason="torch 2.3 brought GradScaler for any device"
)


@scaled
@pytest.mark.parametrize("make_loss", [with_ps, with_see])
def test_scaled_gradients_train_like_float32(make_loss, device):
    loss = make_loss()
    expected = train(copy.deepcopy(loss), device)
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10)
    for moved, wanted in zip(train(loss, device, scaler), expected, strict=True):
        assert relative_error(moved, wanted) < 12 * torch.finfo(torch.float16).eps
    assert scaler.get_scale() == 2.0**10, "no step was left out"


@scaled
@pytest.mark.parametrize("make_loss", [with_ps, with_see])
def test_a_step_with_gradients_too_large_is_left_out_and_no_harm_done(make_loss, device):
    loss = make_loss()
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**40)
    for moved in train(loss, device, scaler, steps=1):
        assert not moved.any()
    assert scaler.get_scale() < 2.0**40
    for moved in train(loss, device, scaler, steps=40):
        assert moved.isfinite().all() and moved.any()
