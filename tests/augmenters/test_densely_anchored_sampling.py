import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses, miners
from torch.nn.functional import cosine_similarity, normalize

from cases import (
    CLOSE,
    DIM,
    NUM_CLASSES,
    assert_same_batch,
    assert_same_gradients,
    assert_same_gradients_of_batches,
    draw_batch,
)
from pml_synthesis import DenselyAnchoredSampling, SynthesisLoss
from pml_synthesis.augmenters.densely_anchored_sampling import newest_pairs
from reference import densely_anchored_sampling as das
from reference import synthesize

ORDERS = ["random", "sorted", "balanced", "dominated"]
PAIR_LOSSES = [losses.ContrastiveLoss, losses.MultiSimilarityLoss, losses.TripletMarginLoss]


def sampling(**options):
    sizes = {"num_classes": NUM_CLASSES, "embedding_size": DIM}
    return DenselyAnchoredSampling(**sizes | {"num_channels": 3} | options).double()


# ------------------------------------------------------------------------- the reference


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("bank_size", [1, 4, 20])
def test_equals_the_reference_over_steps(order, detach, bank_size):
    """The copies, their gradients, and the memory after each step."""
    options = {"scale_range": (0.5, 2.0), "shift": 0.3, "normalize": bank_size != 4}
    augmenter = sampling(bank_size=bank_size, detach=detach, seed=3, **options)
    for step, size in enumerate([5, 12, 0, 1, 12]):
        x, y = draw_batch(step, size, order=order)
        expected = synthesize(augmenter, x, y)
        counts, banks = das.memory_of(augmenter)
        drawn = das.drawn_order(x, y, augmenter._generator())
        das.remember(counts, banks, augmenter, x, y, drawn)

        batch = augmenter(x, y)
        assert batch.embeddings.requires_grad == (not detach and size > 0) or size == 0
        assert_same_batch(batch, expected)
        if batch.embeddings.requires_grad and size:
            assert_same_gradients_of_batches(batch, expected, [x])
        got_counts, got_banks = das.memory_of(augmenter)
        assert got_counts == counts
        for label, bank in banks.items():
            torch.testing.assert_close(stacked(got_banks[label]), stacked(bank), **CLOSE)


def stacked(bank):
    return torch.stack(bank) if bank else torch.zeros(0, DIM, dtype=torch.float64)


@pytest.mark.parametrize("loss_class", PAIR_LOSSES)
@pytest.mark.parametrize("normalize", [True, False])
def test_a_pair_loss_mines_embeddings_and_copies_together(loss_class, normalize):
    far = {"scale_range": (0.5, 2.0), "shift": 0.5, "detach": False}
    augmenter, miner = sampling(normalize=normalize, **far), miners.MultiSimilarityMiner()
    with torch.no_grad():
        augmenter(*draw_batch(1))
    x, y = draw_batch(0)
    made = synthesize(augmenter, x, y)
    rows, labels = torch.cat([x, made.embeddings]), torch.cat([y, made.labels])
    expected = loss_class()(rows, labels, miner(rows, labels))
    value = SynthesisLoss(loss_class(), augmenter, miner=miner)(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


@pytest.mark.parametrize("loss_class", [losses.NPairsLoss, losses.LiftedStructureLoss])
def test_without_normalize_norms_are_those_of_the_copies(loss_class):
    distance = {
        losses.NPairsLoss: distances.DotProductSimilarity(normalize_embeddings=False),
        losses.LiftedStructureLoss: distances.LpDistance(normalize_embeddings=False),
    }[loss_class]
    loss = loss_class(distance=distance)
    augmenter = sampling(normalize=False, scale_range=(0.5, 2.0), detach=False)
    x, y = draw_batch(0)
    made = synthesize(augmenter, x, y)
    expected = loss(torch.cat([x, made.embeddings]), torch.cat([y, made.labels]))
    value = SynthesisLoss(loss, augmenter)(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


# ------------------------------------------------------------------------------ properties


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=12),
    st.integers(1, 8),
    st.booleans(),
    st.integers(0, 2**63),
)
def test_properties_hold_for_all_batches(labels, bank_size, detach, seed):
    x = torch.randn(len(labels), DIM, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(labels).long()
    augmenter = sampling(
        num_copies=2, bank_size=bank_size, detach=detach, seed=seed, scale_range=(0.9, 1.2)
    )
    for step in range(3):
        batch = augmenter(x, y)
        assert torch.equal(batch.labels, y[batch.source])
        assert sorted(batch.source.tolist()) == sorted(2 * list(range(len(y))))
        torch.testing.assert_close(batch.embeddings.norm(dim=1), torch.ones(len(batch)).double())
        sizes = torch.bincount(y, minlength=NUM_CLASSES)
        # All embeddings differ: each ordered pair gives a difference.
        every = (step + 1) * sizes * (sizes - 1)
        assert torch.equal(augmenter.num_differences, every.clamp_max(bank_size))
        assert torch.equal(augmenter.channel_counts.sum(dim=1), (step + 1) * 3 * sizes)
        filled = torch.arange(bank_size) >= bank_size - augmenter.num_differences[:, None]
        assert torch.equal(augmenter.differences.any(dim=2), filled)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=4), st.integers(1, 9))
def test_newest_pairs_are_the_last_of_all(classes, num_pairs):
    kinds = torch.tensor([kind for members in classes for kind in members]).long()
    first, second, number = newest_pairs(
        torch.tensor([len(members) for members in classes]).long(), kinds, num_pairs
    )
    start = 0
    for index, members in enumerate(classes):
        places = range(start, start + len(members))
        start += len(members)
        every = [(a, b) for a in places for b in places if kinds[a] != kinds[b]]
        count = int(number[index])
        got = list(zip(first[index].tolist(), second[index].tolist(), strict=True))
        assert count == min(len(every), num_pairs)
        assert got[num_pairs - count :] == every[-num_pairs:]


# ------------------------------------------------------------------ scaling and shifting


def test_only_the_most_counted_channels_of_the_class_are_scaled():
    augmenter = sampling(num_channels=2, scale_range=(3.0, 3.0), shift=0, normalize=False)
    # Of class 0 the channels 1 and 4, then 1 and 5: 4 and 5 are counted alike.
    x = torch.zeros(2, DIM, dtype=torch.float64)
    x[0, [1, 4]], x[1, [1, 5]] = 1.0, 1.0
    for row in (1, 0):
        augmenter(x[row : row + 1], torch.tensor([0]))
    assert augmenter.channel_counts[0].tolist() == [0, 2, 0, 0, 1, 1, 0, 0]
    ones = torch.ones(2, DIM, dtype=torch.float64)
    made = augmenter.eval()(ones, torch.tensor([0, 3]))
    for row, label in zip(made.embeddings.tolist(), made.labels.tolist(), strict=True):
        # The batch itself is counted, too: its channels 0 and 1.
        channels = [0, 1] if label == 3 else [1, 0]
        expected = [1.0] * DIM
        for channel in channels:
            expected[channel] = 3.0
        assert row == expected


def test_factors_and_differences_are_drawn_anew_for_each_copy_and_cover_their_ranges():
    augmenter = sampling(num_copies=200, scale_range=(0.5, 2.0), shift=0, normalize=False)
    x = torch.linspace(1, 2, DIM).double().repeat(2, 1)
    batch = augmenter(x, torch.tensor([0, 1]))
    factors = (batch.embeddings / x[0])[:, -3:]
    assert factors.min() < 0.51 and factors.max() > 1.99 and factors.unique().numel() == 1200
    assert factors.mean() == pytest.approx(1.25, abs=0.05)
    assert torch.equal(batch.embeddings[:, :-3], x[0, :-3].expand(400, -1))

    x, y = draw_batch(0, batch_size=3, num_classes=1)
    augmenter = sampling(num_copies=200, scale_range=(1, 1), shift=0.5, normalize=False)
    batch = augmenter(x, y)
    shifts = (batch.embeddings - x[batch.source]).detach() / 0.5
    drawn = {tuple(shift) for shift in shifts.mul(1e6).round().tolist()}
    differences = (x[:, None] - x[None]).detach().reshape(9, DIM)
    assert drawn == {tuple(d) for d in differences.mul(1e6).round().tolist() if any(d)}


def test_the_present_batch_shifts_its_own_copies():
    x, y = draw_batch(0, batch_size=2, num_classes=1)
    batch = sampling(scale_range=(1, 1), shift=1.0, normalize=False, num_copies=9)(x, y)
    for copy, row in zip(batch.embeddings, batch.source.tolist(), strict=True):
        a, b = x[row], x[1 - row]
        both = torch.stack([a + (a - b), b])
        assert torch.isclose(copy, both).all(dim=1).any()


def test_a_class_of_one_embedding_is_not_shifted_until_it_has_a_difference():
    augmenter = sampling(scale_range=(1, 1), shift=1.0)
    x, y = draw_batch(0, batch_size=2, num_classes=1)
    alone = augmenter(x[:1], y[:1])
    torch.testing.assert_close(alone.embeddings, normalize(x[:1]).detach().expand(3, -1), **CLOSE)
    augmenter(x, y)
    shifted = augmenter(x[:1], y[:1])
    assert (cosine_similarity(shifted.embeddings, x[:1]) < 0.999).all()


@pytest.mark.parametrize("normalize_", [True, False])
def test_the_control_makes_copies(normalize_):
    augmenter = sampling(scale_range=(1.0, 1.0), shift=0, normalize=normalize_)
    for step in range(3):
        x, y = draw_batch(step)
        batch = augmenter(x, y)
    expected = normalize(x) if normalize_ else x
    torch.testing.assert_close(batch.embeddings, expected[batch.source].detach(), **CLOSE)


def test_with_the_released_settings_copies_hardly_move():
    augmenter = DenselyAnchoredSampling(20, 512, collect_stats=True)
    shared = torch.randn(20, 1, 512)
    for _ in range(5):
        x = normalize((shared + 0.67 * torch.randn(20, 2, 512)).flatten(0, 1))
        augmenter(x, torch.arange(20).repeat_interleave(2))
    assert augmenter.mean_cosine == pytest.approx(0.99997, abs=2e-5)


# ------------------------------------------------------------------------------ the memory


def test_equal_embeddings_have_no_difference():
    x, y = draw_batch(0, batch_size=4, num_classes=1)
    x = x.detach()[[0, 1, 0, 0]]
    augmenter = sampling(bank_size=20)
    augmenter(x, y)
    # Three times one embedding and once the other.
    assert augmenter.num_differences[0] == 6
    assert (augmenter.differences[0, -6:].abs().sum(dim=1) > 0.1).all()
    augmenter(x[[0, 2, 3]], y[:3])
    assert augmenter.num_differences[0] == 6


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e300])
def test_what_is_not_finite_is_not_remembered(value):
    augmenter = DenselyAnchoredSampling(NUM_CLASSES, DIM)
    x, y = draw_batch(0, batch_size=4, num_classes=1)
    x = x.detach()
    x[1, 2] = value
    made = augmenter(x, y)
    assert made.embeddings[made.source != 1].isfinite().all()
    assert augmenter.num_differences[0] == 6
    assert augmenter.differences.isfinite().all()


def test_which_differences_stay_is_drawn():
    """Not those of the same end of a class in each step."""
    x, y = draw_batch(0, batch_size=8, num_classes=1)
    augmenter, kept = sampling(bank_size=7), []
    for _ in range(40):
        augmenter(x, y)
        kept.append(augmenter.differences[0].mean(dim=0))
    directions = normalize(torch.stack(kept), dim=1)
    assert directions.mean(dim=0).norm() < 0.5


def test_the_size_of_the_memory_is_that_of_the_formula():
    augmenter = DenselyAnchoredSampling(7, 16, bank_size=5)
    taken = sum(buffer.numel() * buffer.element_size() for buffer in augmenter.buffers())
    assert taken == 4 * 7 * 16 * (5 + 1) + 8 * 7


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_classes": 0}, "`num_classes` to be an integer of at least 1, but got 0"),
        ({"embedding_size": 8.0}, "`embedding_size` to be an integer of at least 1"),
        ({"num_copies": 0}, "`num_copies` to be an integer of at least 1"),
        ({"num_channels": True}, "`num_channels` to be an integer of at least 1, but got True"),
        ({"num_channels": 9}, "`num_channels` to be at most 8, the `embedding_size`, but got 9"),
        ({"bank_size": None}, "`bank_size` to be an integer of at least 1"),
        ({"scale_range": 0.01}, "`scale_range` to be two numbers of 0 at least, the lower one"),
        ({"scale_range": (1.1, 0.9)}, "`scale_range` to be two numbers .*lower one first"),
        ({"scale_range": (-0.1, 0.9)}, "`scale_range` to be two numbers of 0 at least"),
        ({"scale_range": (0.9, 1.0, 1.1)}, "`scale_range` to be two numbers"),
        ({"scale_range": "01"}, "`scale_range` to be two numbers"),
        ({"scale_range": (1, float("inf"))}, "`scale_range` to be two numbers"),
        ({"shift": -1}, "`shift` to be a number of 0 at least, but got -1"),
        ({"detach": 1}, "`detach` to be True or False"),
        ({"normalize": None}, "`normalize` to be True or False"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        sampling(**options)


def test_a_checkpoint_of_another_bank():
    with pytest.raises(RuntimeError, match=r"sizes, but got `differences` of shape \(5, 10, 8\)"):
        sampling(bank_size=3).load_state_dict(sampling().state_dict())


def test_statistics_and_repr():
    augmenter = sampling(num_copies=2, scale_range=[1, 1], shift=0, seed=3, collect_stats=True)
    assert repr(augmenter) == (
        "DenselyAnchoredSampling(num_classes=5, embedding_size=8, num_copies=2, num_channels=3, "
        "scale_range=(1, 1), bank_size=10, shift=0, detach=True, normalize=True, seed=3)"
    )
    augmenter(torch.randn(4, DIM), torch.tensor([0, 0, 1, 2]))
    assert (augmenter.num_rows, augmenter.mean_differences) == (8, 1)
    assert augmenter.mean_cosine == pytest.approx(1)
    augmenter(torch.randn(0, DIM), torch.tensor([]).long())
    assert (augmenter.num_rows, augmenter.mean_cosine, augmenter.mean_differences) == (0, 0, 0)
