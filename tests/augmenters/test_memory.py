"""What every augmenter with a memory has to do with it, found by its buffers and counters."""

import copy
import gc
import pickle

import pytest
import torch

import reference
from cases import CLOSE, EXAMPLES, draw_batch, draw_proxies
from pml_synthesis import Compose, ProxySynthesis
from ranks import REMEMBERING as IN_A_LOSS
from ranks import remember, start_ranks, train

# The examples are small: they are full long before.
FULL = 16


def build(example):
    return reference.build(example.augmenter, 5, 8, example.name, seed=7)


REMEMBERING = {
    f"{example.augmenter.__name__} {example.name}": lambda example=example: build(example)
    for example in EXAMPLES
    if reference.has_memory(build(example))
}
REMEMBERING["inside of a Compose"] = lambda: Compose(
    [ProxySynthesis(seed=7), *(make() for make in list(REMEMBERING.values())[:-1])]
)
all_memories = pytest.mark.parametrize("make", REMEMBERING.values(), ids=REMEMBERING)


def inputs(step, proxies=True):
    """A batch, of another size in every third step."""
    x, y = draw_batch(step, batch_size=7 if step % 3 == 2 else 12, dtype=torch.float32)
    return x.detach(), y, draw_proxies(step, 5, 8).detach().float()


def advance(augmenter, start, stop):
    return [augmenter(*inputs(step)) for step in range(start, stop)]


def assert_same(one, other):
    for name in ("embeddings", "labels", "proxies", "source", "parent", "weights", "term"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None and b is None) or torch.equal(a, b), name


def state_of(augmenter):
    return {name: value.clone() for name, value in augmenter.state_dict().items()}


def assert_same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_some_augmenters_remember():
    assert len(REMEMBERING) > 1


# ------------------------------------------------------------------------------- resuming


@all_memories
@pytest.mark.parametrize("stop", [0, 1, 3, 8])
def test_goes_on_bit_for_bit_from_a_state_dict(make, stop, tmp_path):
    """Saved before there is anything in the memory, while it fills, and after."""
    augmenter, resumed = make(), make()
    advance(augmenter, 0, stop)
    advance(resumed, 50, 53)  # All of this has to go.
    torch.save(augmenter.state_dict(), tmp_path / "state.pth")
    resumed.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    for one, other in zip(
        advance(augmenter, stop, FULL), advance(resumed, stop, FULL), strict=True
    ):
        assert_same(one, other)
    assert_same_state(augmenter, resumed)


@all_memories
@pytest.mark.parametrize("stop", [1, 3, FULL])
def test_copies_and_pickles_remember_the_same_and_nothing_of_each_other(make, stop):
    augmenter = make()
    advance(augmenter, 0, stop)
    copies = [copy.deepcopy(augmenter), pickle.loads(pickle.dumps(augmenter))]
    advance(copies[0], 90, 93)
    copies[0] = copy.deepcopy(augmenter)
    expected = advance(augmenter, stop, stop + 6)
    for twin in copies:
        for one, other in zip(advance(twin, stop, stop + 6), expected, strict=True):
            assert_same(one, other)
        assert_same_state(twin, augmenter)


# ------------------------------------------------------------------------------ eval mode


@all_memories
@pytest.mark.parametrize("stop", [0, 1, 3, FULL])
def test_nothing_is_remembered_or_advanced_in_eval_mode(make, stop):
    augmenter = make()
    advance(augmenter, 0, stop)
    before, twin = state_of(augmenter), copy.deepcopy(augmenter)
    augmenter.eval()
    for one, other in zip(*(advance(augmenter, 70, 73) for _ in range(2)), strict=True):
        assert_same(one, other)
    after = augmenter.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    # And training goes on as if nothing had been in between.
    for one, other in zip(
        *(advance(a.train(), stop, stop + 3) for a in (augmenter, twin)), strict=True
    ):
        assert_same(one, other)


# ---------------------------------------------------------------------- size of the memory


@all_memories
def test_the_memory_has_its_size_from_the_start(make):
    augmenter = make()
    shapes = {name: value.shape for name, value in augmenter.state_dict().items()}
    advance(augmenter, 0, FULL)
    assert shapes == {name: value.shape for name, value in augmenter.state_dict().items()}


def bytes_of_tensors():
    """Return how many bytes the tensors hold that are alive and younger than the tests."""
    gc.collect()
    tensors = (value for value in gc.get_objects() if issubclass(type(value), torch.Tensor))
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@all_memories
def test_a_full_memory_grows_no_more(make):
    augmenter, batches = make(), [inputs(step) for step in range(FULL)]

    def repeat(times):
        for _ in range(times):
            for given in batches:
                augmenter(*given)
        return bytes_of_tensors(), len(pickle.dumps(augmenter))

    tensors, pickled = repeat(1)
    tensors_later, pickled_later = repeat(4)
    assert tensors_later == tensors
    # Integers that count take some bytes more; a list with an entry for each step takes hundreds.
    assert pickled_later - pickled < 4 * FULL


# ------------------------------------------------------------------------ several processes

NUM_STEPS = 10


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return start_ranks(remember, 2, tmp_path_factory.mktemp("ranks"), NUM_STEPS)


@pytest.mark.parametrize("broadcast_buffers", [True, False])
@pytest.mark.parametrize("name", IN_A_LOSS)
def test_two_processes_remember_what_one_does(ranks, name, broadcast_buffers):
    """The memory shows in the loss of each later step."""
    alone = train(name, num_steps=NUM_STEPS)
    for results in ranks:
        steps = results[f"{name} {broadcast_buffers}"]
        for got, expected in zip(steps, alone, strict=True):
            value, trunk, *proxies = expected
            torch.testing.assert_close(got[0], len(ranks) * value, **CLOSE)
            torch.testing.assert_close(got[1], trunk, **CLOSE)
            torch.testing.assert_close(got[2:], [len(ranks) * grad for grad in proxies], **CLOSE)


SIZED = [
    example
    for example in EXAMPLES
    if reference.has_memory(build(example)) and hasattr(build(example), "num_classes")
]
all_sized = pytest.mark.parametrize(
    "example", SIZED, ids=[f"{one.augmenter.__name__} {one.name}" for one in SIZED]
)
DIFFERING = {
    "width": (
        lambda x, y, p: (x[:, 1:], y, p[..., 1:]),
        r"`embeddings` to be of shape \[B, 8\], by the `embedding_size` .* but got \(12, 7\)",
    ),
    "number of proxies": (
        lambda x, y, p: (x, y, torch.cat([p, p])),
        "`proxies` to be those of 5 classes, by the `num_classes` .* but got 'those of 10'",
    ),
    "labels beyond": (
        lambda x, y, p: (x, y + 1, None),
        r"`labels` to be from 0 to 4, by the `num_classes` .*start at 1\), .*from 1 to 5'",
    ),
    "labels below": (
        lambda x, y, p: (x, y - 1, None),
        "`labels` to be from 0 to 4, by the `num_classes` .*from -1 to 3'",
    ),
}


@all_sized
@pytest.mark.parametrize("change, message", DIFFERING.values(), ids=DIFFERING)
def test_a_batch_of_other_sizes_is_refused_with_the_same_words(example, change, message):
    augmenter = build(example)
    advance(augmenter, 0, 2)
    x, y, p = inputs(0)
    centers = getattr(augmenter, "num_centers", None)
    p = p if centers is None else p.unsqueeze(1).expand(-1, centers, -1)
    batch = change(x, torch.arange(12) % 5, p)
    if batch[2] is None and augmenter.requires_proxies:
        pytest.skip("its labels are those of proxies")
    before = copy.deepcopy(augmenter.state_dict())
    with pytest.raises(ValueError, match=message):
        augmenter(*batch)
    for name, value in augmenter.state_dict().items():
        assert torch.equal(value, before[name])


@all_sized
@pytest.mark.parametrize("num_classes, dim", [(6, 8), (5, 9)])
def test_a_checkpoint_of_other_sizes_is_refused_and_changes_nothing(example, num_classes, dim):
    augmenter = build(example)
    other = reference.build(example.augmenter, num_classes, dim, example.name, seed=8)
    before = copy.deepcopy(other.state_dict())
    same = f"Expected the checkpoint to be of a {example.augmenter.__name__} with the same sizes"
    with pytest.raises(RuntimeError, match=same):
        other.load_state_dict(augmenter.state_dict())
    for name, value in other.state_dict().items():
        assert torch.equal(value, before[name])
