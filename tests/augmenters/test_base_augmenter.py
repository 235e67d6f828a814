import copy
import pickle
import random
from functools import partial

import numpy as np
import pytest
import torch

import reference
from cases import Mirror
from pml_synthesis import BaseAugmenter, Compose, ProxySynthesis, SphericalEmbeddingExpansion

AUGMENTERS = {
    **{
        augmenter.__name__: partial(reference.build, augmenter, 5, 10)
        for augmenter in reference.PUBLIC_AUGMENTERS
    },
    "ps mu 0.7": lambda **kwargs: ProxySynthesis(mu=0.7, **kwargs),
    "both": lambda **kwargs: Compose(
        [ProxySynthesis(**kwargs), SphericalEmbeddingExpansion(3, 0.5, **kwargs)]
    ),
}
all_augmenters = pytest.mark.parametrize("build", AUGMENTERS.values(), ids=AUGMENTERS)


def inputs(seed=0, rows=12):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 10, generator=generator)
    y = torch.randint(5, (rows,), generator=generator)
    return x, y, torch.randn(5, 10, generator=generator)


def tensors(batch):
    return batch.embeddings, batch.labels, batch.proxies, batch.source


def assert_same(one, other):
    for a, b in zip(tensors(one), tensors(other), strict=True):
        assert torch.equal(a, b)


@all_augmenters
def test_same_seed_same_numbers(build):
    one, other = build(seed=7), build(seed=7)
    for _ in range(3):
        assert_same(one(*inputs()), other(*inputs()))


def draws_numbers(augmenter):
    """Tell whether an augmenter takes random numbers at all."""
    generator = torch.Generator()
    before = generator.get_state()
    for part in augmenter.modules():
        if isinstance(part, BaseAugmenter):
            part._generator = lambda: generator
    for _ in range(3):
        augmenter(*inputs())
    return not torch.equal(generator.get_state(), before)


@all_augmenters
def test_each_seed_and_each_step_draws_anew(build):
    if not draws_numbers(build()):
        pytest.skip("there are no random numbers in this method")
    augmenter, other = build(seed=7), build(seed=8)
    made = [augmenter(*inputs()).embeddings for _ in range(3)]
    assert not torch.equal(made[1], made[2])
    others = [other(*inputs()).embeddings for _ in range(3)]
    assert not torch.equal(made[2], others[2])


@all_augmenters
def test_manual_seed_decides_by_default(build):
    torch.manual_seed(11)
    one = build()
    torch.manual_seed(12)
    other = build()
    assert_same(one(*inputs()), build(seed=11)(*inputs()))
    assert_same(other(*inputs()), build(seed=12)(*inputs()))


@all_augmenters
def test_resumes_bit_for_bit(build, tmp_path):
    augmenter = build(seed=7)
    for _ in range(3):
        augmenter(*inputs())
    torch.save(augmenter.state_dict(), tmp_path / "state.pth")
    resumed = build(seed=99)
    resumed.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    for _ in range(3):
        assert_same(augmenter(*inputs()), resumed(*inputs()))


@all_augmenters
def test_disturbs_nobody_and_is_disturbed_by_nobody(build):
    undisturbed = build(seed=7)
    expected = [undisturbed(*inputs()) for _ in range(3)]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    augmenter = build(seed=7)
    build()
    got = [augmenter(*inputs())]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    torch.rand(5), np.random.rand(), random.random(), torch.manual_seed(5)
    got += [augmenter(*inputs()), augmenter(*inputs())]
    for one, other in zip(got, expected, strict=True):
        assert_same(one, other)


@all_augmenters
def test_eval_mode_keeps_the_step(build):
    augmenter, twin = build(seed=7).eval(), build(seed=7)
    assert_same(augmenter(*inputs()), augmenter(*inputs()))
    assert_same(augmenter(*inputs()), twin(*inputs()))
    assert (augmenter.step, twin.step) == (0, 1)


@all_augmenters
def test_copies_and_pickles_continue_alike(build):
    augmenter = build(seed=7)
    augmenter(*inputs())
    copies = [copy.deepcopy(augmenter), pickle.loads(pickle.dumps(augmenter))]
    expected = augmenter(*inputs())
    for twin in copies:
        assert_same(twin(*inputs()), expected)


@all_augmenters
def test_order_of_rows_does_not_matter(build):
    x, y, p = inputs()
    shuffle = torch.randperm(len(y))
    one, other = build(seed=7)(x, y, p), build(seed=7)(x[shuffle], y[shuffle], p)
    assert torch.equal(one.source, shuffle[other.source])
    assert torch.equal(one.labels, other.labels)
    torch.testing.assert_close(one.embeddings, other.embeddings)
    assert torch.equal(one.proxies, other.proxies)


@all_augmenters
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_follows_the_embeddings(build, dtype):
    x, y, p = inputs()
    batch = build(seed=7)(x.to(dtype), y, p)
    assert (batch.embeddings.dtype, batch.proxies.dtype) == (dtype, dtype)
    assert (batch.labels.dtype, batch.source.dtype) == (torch.int64, torch.int64)


@all_augmenters
def test_device_follows_the_embeddings(build, device):
    x, y, p = inputs()
    on_host, on_device = build(seed=7)(x, y, p), build(seed=7).to(device)(x.to(device), y, p)
    assert all(tensor.device.type == device.type for tensor in tensors(on_device))
    for one, other in zip(tensors(on_host), tensors(on_device), strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-4, atol=1e-5)


@all_augmenters
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_any_integer_labels(build, dtype):
    x, y, p = inputs()
    assert_same(build(seed=7)(x, y.to(dtype), p), build(seed=7)(x, y, p))


@all_augmenters
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(build, dtype):
    expected = build(seed=7)(*inputs(rows=3000))
    with torch.autocast("cpu", dtype):
        assert_same(build(seed=7)(*inputs(rows=3000)), expected)


@all_augmenters
def test_one_copy_of_labels_to_the_host_and_none_of_embeddings(build, monkeypatch):
    copied, to = [], torch.Tensor.to

    def recording_to(tensor, *args, **kwargs):
        if args and args[0] == "cpu":
            copied.append(tuple(tensor.shape))
        return to(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", recording_to)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor.to("cpu"))
    reads = [torch.Tensor.item, torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__float__]
    for method in reads:

        def forbidden(tensor, *args, method=method, **kwargs):
            assert not tensor.is_floating_point(), "a floating-point value was read on the host"
            return method(tensor, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, method.__name__, forbidden)
    augmenter = build(seed=7)
    augmenter(*inputs())
    # Running statistics take the four classes whose embeddings are finite.
    assert copied == ([(12,), (4,)] if getattr(augmenter, "running", False) else [(12,)])


WRONG_INPUTS = {
    "1-d embeddings": (lambda x, y, p: (x[0], y, p), r"`embeddings` to be of shape \[B, D\]"),
    "no width": (lambda x, y, p: (x[:, :0], y, p[:, :0]), r"`embeddings` .* D of 1 at least.* 0\)"),
    "integer embeddings": (lambda x, y, p: (x.long(), y, p), "`embeddings` to be floating point"),
    "no labels": (lambda x, y, p: (x, None, p), "`labels` to be a tensor, but got None"),
    "too few labels": (lambda x, y, p: (x, y[1:], p), r"`labels` to be of shape \[12\].*\(11,\)"),
    "2-d labels": (lambda x, y, p: (x, y[:, None], p), r"`labels` to be of shape \[12\]"),
    "float labels": (lambda x, y, p: (x, y.float(), p), "`labels` to be integers.*float32"),
    "bool labels": (lambda x, y, p: (x, y > 2, p), "`labels` to be integers.*bool"),
    "large labels": (lambda x, y, p: (x, y + 7, p), "`labels` to be from 0 to 4.*from 7 to 11"),
    "negative labels": (lambda x, y, p: (x, y - 1, p), "`labels` to be from 0 to 4.*from -1 to"),
    "narrow proxies": (
        lambda x, y, p: (x, y, p[:, :3]),
        r"`proxies` to be of shape \[C, 10\].*\(5, 3\)",
    ),
    "integer proxies": (lambda x, y, p: (x, y, p.long()), "`proxies` to be floating point"),
    "1-d proxies": (lambda x, y, p: (x, y, p[0]), r"`proxies` to be of shape \[C, 10\]"),
}


@all_augmenters
@pytest.mark.parametrize("wrong, message", WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_wrong_inputs(build, wrong, message):
    augmenter = build()
    with pytest.raises(ValueError, match=message):
        augmenter(*wrong(*inputs()))
    assert augmenter.step == 0


@all_augmenters
def test_no_proxies_are_wrong_where_they_are_needed(build):
    augmenter, (x, y, _) = build(), inputs()
    if augmenter.requires_proxies:
        with pytest.raises(ValueError, match="`proxies` to be the class proxies, which"):
            augmenter(x, y)
    else:
        augmenter(x, y)
    assert augmenter.step == int(not augmenter.requires_proxies)


def test_largest_seed():
    assert len(ProxySynthesis(seed=2**64 - 1)(*inputs())) == 12


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", True])
def test_wrong_seed(seed):
    with pytest.raises(ValueError, match="`seed` to be an integer from 0"):
        ProxySynthesis(seed=seed)


class Sometimes(Mirror):
    def __init__(self):
        super().__init__(collect_stats=True)
        self.add_to_recordable_attributes(name="seen", is_stat=True)

    def synthesize(self, batch, generator):
        if len(batch) == 1:
            self.seen = 1
        return super().synthesize(batch, generator)


def test_statistics_start_from_zero_in_each_call():
    x, y, _ = inputs()
    augmenter = Sometimes()
    augmenter(x[:1], y[:1])
    assert augmenter.seen == 1
    augmenter(x, y)
    assert augmenter.seen == 0


def test_a_users_augmenter_needs_no_proxies():
    x, y, _ = inputs()
    batch = Mirror()(x, y)
    assert torch.equal(batch.embeddings, -x)


@pytest.mark.parametrize("form", [(5, 10), (5, 3, 10)])
def test_no_classes_fit_to_proxies_of_any_form(form):
    x, y, _ = inputs()
    batch = Mirror()(x, y, torch.randn(form))
    assert batch.proxies.shape == (0, *form[1:])


def test_counters_are_not_those_of_the_base_class():
    with pytest.raises(ValueError, match="`counters` of Counting to be other names than seed"):
        type("Counting", (Mirror,), {"counters": ("step",)})


def test_an_augmenter_must_return_a_synthetic_batch():
    class Forgetful(Mirror):
        def synthesize(self, *args):
            super().synthesize(*args)

    x, y, _ = inputs()
    message = "`Forgetful.synthesize` to be one that returns a SyntheticBatch, but got None"
    with pytest.raises(ValueError, match=message):
        Forgetful()(x, y)
