import copy
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses
from torch.nn.functional import normalize

from cases import (
    CLOSE,
    DIM,
    NUM_CLASSES,
    all_losses,
    assert_same_batch,
    assert_same_gradients,
    assert_same_gradients_of_batches,
    build_loss,
    draw_batch,
    pairs,
    triplets,
)
from pml_synthesis import IntraclassAdaptiveAugmentation, SynthesisLoss
from pml_synthesis.schedules import CosineSchedule, StepSchedule
from reference import synthesize
from reference.intraclass_adaptive_augmentation import corrected, refreshed


def iaa(num_classes=NUM_CLASSES, embedding_size=DIM, **options):
    return IntraclassAdaptiveAugmentation(num_classes, embedding_size, **options).double()


def training_set(seed, sizes, dim=DIM):
    """Embeddings of classes of the given sizes, in no order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randn(len(labels), dim, dtype=torch.float64, generator=generator)
    return (x * (1 + labels[:, None]) / 5 + labels[:, None]) / 4, labels


def estimated(sizes=(6, 1, 2, 41, 9), **options):
    augmenter = iaa(len(sizes), **options)
    augmenter.estimate(*training_set(0, sizes))
    return augmenter


# ------------------------------------------------------------------------------ the copies


@pytest.mark.parametrize("order", ["random", "sorted", "balanced", "dominated"])
@pytest.mark.parametrize("batch_size", [0, 1, 12])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_neighbors": 0, "released_roots": True}, {"num_copies": 1, "strength": 0.3}],
    ids=["defaults", "released", "one copy"],
)
def test_equals_the_reference(order, batch_size, options):
    x, y = draw_batch(3, batch_size=batch_size, order=order)
    augmenter = estimated(**options, seed=5)
    expected, batch = synthesize(augmenter, x, y), augmenter(x, y)
    assert len(batch) == batch_size * augmenter.num_copies
    assert batch.num_new_classes == 0 and batch.role == "candidate"
    assert_same_batch(batch, expected)
    assert_same_gradients_of_batches(batch, expected, [x])


def test_deviations_are_those_of_the_class():
    augmenter = estimated(num_copies=2000, num_neighbors=0, strength=1e-6, seed=0)
    x, y = 10 * torch.eye(DIM, dtype=torch.float64)[:5], torch.arange(5)
    batch = augmenter(x, y)
    for label in range(5):
        copies = 10 * batch.embeddings[batch.source == label]
        across = torch.arange(DIM) != label  # What is along the embedding goes with the norm.
        deviation = 1e-3 * augmenter.variance[label].sqrt()
        got = copies.std(dim=0)[across]
        torch.testing.assert_close(got, deviation[across], rtol=0.1, atol=1e-12)


def test_released_roots_take_one_more_root_for_each_copy():
    augmenter = estimated(num_copies=3, num_neighbors=0, released_roots=True, strength=0.8)
    variance = torch.full((1, DIM), 0.01, dtype=torch.float64)
    got = augmenter._deviations(variance, 0.8)[:, 0, 0].tolist()
    assert got == pytest.approx([0.0894, 0.2828, 0.5030], abs=1e-4)
    augmenter.released_roots = False
    assert augmenter._deviations(variance, 0.8)[:, 0, 0].tolist() == pytest.approx([0.0894], 1e-3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 6), max_size=30),
    st.lists(st.integers(0, 6), max_size=30),
    st.integers(1, 4),
    st.sampled_from([0, 1, 25]),
)
def test_properties_hold_for_all_batches(seen, labels, num_copies, num_neighbors):
    augmenter = iaa(7, 5, num_copies=num_copies, num_neighbors=num_neighbors)
    if seen:
        augmenter.estimate(torch.randn(len(seen), 5), torch.tensor(seen))
    x, y = torch.randn(len(labels), 5, dtype=torch.float64), torch.tensor(labels).long()
    batch = augmenter(x, y)
    known = [row for row, label in enumerate(labels) if label in seen]
    assert sorted(batch.source.tolist()) == sorted(known * num_copies)
    assert torch.equal(batch.labels, y[batch.source])
    torch.testing.assert_close(batch.embeddings.norm(dim=1), torch.ones(len(batch)).double())
    # A class of one embedding does not vary, unless others tell how.
    for label in set(seen):
        still = seen.count(label) == 1
        still &= num_neighbors == 0 or max(seen.count(other) for other in seen) == 1
        copies = batch.embeddings[batch.labels == label]
        unmoved = torch.isclose(copies, normalize(x)[batch.source[batch.labels == label]]).all()
        assert bool(unmoved) == still or not len(copies)


def test_nothing_is_made_before_the_estimate_and_of_classes_without_one():
    x, y = draw_batch(0)
    augmenter = iaa()
    assert len(augmenter(x, y)) == 0
    kept = y != 3
    augmenter.estimate(x[kept], y[kept])
    batch = augmenter(x, y)
    assert sorted(set(batch.source.tolist())) == kept.nonzero().squeeze(1).tolist()
    assert_same_batch(augmenter.eval()(x, y), synthesize(augmenter, x, y))


def test_strength_is_a_number_or_a_schedule():
    x, y = draw_batch(0)
    schedule = StepSchedule([0.0, 0.8], [0, 0.5], num_steps=4)
    augmenter = estimated(strength=schedule, seed=1, collect_stats=True)
    made = []
    for _ in range(4):
        expected = synthesize(augmenter, x, y)
        made.append(len(augmenter(x, y)))
        assert made[-1] == len(expected)
    assert made == [0, 0, 36, 36]
    assert augmenter.current_strength == 0.8


# ------------------------------------------------------------------------- the statistics


def state_of(augmenter):
    return {
        label: (augmenter.mean[label], augmenter.variance[label], augmenter.num_seen[label])
        for label in range(augmenter.num_classes)
        if augmenter.num_seen[label]
    }


def assert_same_statistics(got, expected):
    assert got.keys() == expected.keys()
    for label, (mean, variance, seen) in expected.items():
        torch.testing.assert_close(got[label][0], mean, **CLOSE)
        torch.testing.assert_close(got[label][1], variance, **CLOSE)
        assert got[label][2] == seen


@pytest.mark.parametrize("momentum", [0.0, 0.2, 0.7, 1.0])
def test_estimates_are_variances_and_then_the_recursion(momentum):
    augmenter, expected = iaa(momentum=momentum), {}
    for seed, sizes in enumerate([(1, 2, 41, 5), (3, 1, 40, 5, 7), (10, 0, 41, 1, 1)]):
        x, y = training_set(seed, sizes)
        augmenter.estimate(x, y)
        expected = refreshed(expected, x, y, 1 - momentum)
        assert_same_statistics(state_of(augmenter), expected)
    x, y = training_set(7, (4, 4, 4, 4, 4))
    first = iaa()
    first.estimate(x, y)
    for label in range(5):
        exact = x[y == label].var(dim=0, unbiased=False)
        torch.testing.assert_close(first.variance[label], exact, **CLOSE)


def test_a_class_that_has_drifted_varies_more():
    augmenter = iaa(1, num_neighbors=0)
    x, y = training_set(0, [9])
    augmenter.estimate(x, y)
    before = augmenter.variance.clone()
    augmenter.estimate(x + 3, y)
    torch.testing.assert_close(augmenter.variance, before + 0.8 * 0.2 * 9, **CLOSE)


@pytest.mark.parametrize("num_neighbors", [1, 2, 25])
def test_estimates_are_corrected(num_neighbors):
    augmenter, statistics = iaa(num_neighbors=num_neighbors), {}
    for seed, sizes in enumerate([(1, 2, 41, 5, 40), (1, 2, 41, 0, 3)]):
        x, y = training_set(seed, sizes)
        before = augmenter.corrected.clone()
        augmenter.estimate(x, y)
        statistics = refreshed(statistics, x, y, 0.8)
        counts = {label: n for label, n in enumerate(sizes) if n}
        expected = corrected(statistics, counts, num_neighbors)
        for label in range(5):
            wanted = expected.get(label, before[label])
            torch.testing.assert_close(augmenter.corrected[label], wanted, **CLOSE)


def test_running_statistics_are_those_of_all_batches():
    augmenter = iaa(running=True, num_neighbors=0)
    batches = [draw_batch(seed, order=order) for seed, order in enumerate(["random", "dominated"])]
    for x, y in batches:
        augmenter(x, y)
    x, y = (torch.cat(parts).detach() for parts in zip(*batches, strict=True))
    assert_same_statistics(state_of(augmenter), refreshed({}, x, y, 0))
    before = copy.deepcopy(augmenter.state_dict())
    augmenter.eval()(x, y)
    assert torch.equal(augmenter.mean, before["mean"])


def test_a_batch_that_is_not_finite_leaves_running_statistics_alone():
    augmenter = iaa(running=True, num_neighbors=0)
    x, y = draw_batch(0)
    augmenter(x, y)
    before = augmenter.mean.clone(), augmenter.variance.clone()
    augmenter(x * torch.inf, y)
    assert torch.equal(augmenter.mean, before[0]) and torch.equal(augmenter.variance, before[1])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 3e20])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_left_out_of_running_statistics_is_not_counted(wrong, first):
    """3e20 is finite, but its variance is not."""
    one, other = (iaa(running=True, num_neighbors=0).float() for _ in range(2))
    good, bad = draw_batch(0), draw_batch(1)
    bad[0].data[bad[1] == bad[1][0]] *= wrong
    rest = bad[1] != bad[1][0]
    for x, y in [bad, good] if first else [good, bad]:
        one(x.float(), y)
    for x, y in [(bad[0][rest], bad[1][rest]), good] if first else [good, bad]:
        keep = y != bad[1][0] if y is bad[1] else slice(None)
        other(x[keep].float(), y[keep])
    assert one.num_seen == other.num_seen
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.variance, other.variance)


def test_running_statistics_get_over_equal_embeddings_without_a_finite_square():
    augmenter = iaa(2, 4, running=True, num_neighbors=0).float()
    y = torch.tensor([0, 0, 1, 1])
    augmenter(torch.full((4, 4), 1e20), y)
    assert augmenter.num_seen == [0, 0]
    augmenter(torch.ones(4, 4), y)
    assert torch.equal(augmenter.mean, torch.ones(2, 4)) and augmenter.num_seen == [2, 2]


def test_batches_change_nothing_of_what_was_estimated():
    augmenter = estimated()
    before = copy.deepcopy(augmenter.state_dict())
    augmenter(*draw_batch(0))
    for name, value in augmenter.state_dict().items():
        assert name == "_extra_state" or torch.equal(value, before[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_order_of_the_training_set_does_not_matter_to_the_last_bit(dtype):
    x, y = training_set(0, [6, 1, 2, 41, 9])
    shuffle = torch.randperm(len(y))
    one, other = iaa(seed=1), iaa(seed=1)
    one.estimate(x.to(dtype), y)
    other.estimate(x.to(dtype)[shuffle], y[shuffle])
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_estimates_in_parts_are_the_same(monkeypatch):
    whole = estimated(seed=0)
    monkeypatch.setattr("pml_synthesis.functional.class_statistics._PART", 3 * DIM)
    monkeypatch.setattr("pml_synthesis.functional.ordering._PART", 5)
    for name, value in estimated(seed=0).state_dict().items():
        torch.testing.assert_close(value, whole.state_dict()[name], **CLOSE)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_estimates_take_any_integer_labels(dtype):
    one, other = iaa(), iaa()
    x, y = training_set(0, [3, 4, 5, 6, 7])
    one.estimate(x, y)
    other.estimate(x.requires_grad_(), y.to(dtype))
    assert torch.equal(one.corrected, other.corrected) and not other.corrected.requires_grad


def test_autocast_and_inference_mode_change_nothing():
    x, y = training_set(0, [30, 40, 50, 60, 70])
    one, other = (IntraclassAdaptiveAugmentation(5, DIM) for _ in range(2))
    one.estimate(x.float(), y)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        other.estimate(x.float(), y)
    assert torch.equal(one.corrected, other.corrected)
    other(x.float()[:5], y[:5])


# ------------------------------------------------------------------------------ in a loss

PAIR_LOSSES = {
    "contrastive": lambda: losses.ContrastiveLoss(
        pos_margin=0.8, neg_margin=0.5, distance=distances.CosineSimilarity()
    ),
    "multi-similarity": lambda: losses.MultiSimilarityLoss(2, 40, 0.5),
    "triplet": losses.TripletMarginLoss,
}


@pytest.mark.parametrize("build", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
def test_copies_are_candidates_of_real_anchors_but_not_of_their_own(build):
    x, y = draw_batch(0)
    augmenter = estimated(seed=2)
    made = synthesize(augmenter, x, y)
    value = SynthesisLoss(build(), augmenter)(x, y)
    rows, labels = torch.cat([x, made.embeddings]), torch.cat([y, made.labels])
    positives, negatives = ([], []), ([], [])
    for i in range(len(y)):
        for j in range(len(rows)):
            own = j == i or (j >= len(y) and made.source[j - len(y)] == i)
            kind = negatives if labels[i] != labels[j] else positives
            if kind is negatives or not own:
                kind[0].append(i), kind[1].append(j)
    tuples = tuple(torch.tensor(part) for part in (*positives, *negatives))
    expected = build()(x, y, tuples, rows, labels)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


@pytest.mark.parametrize("tuples", [triplets, pairs])
@pytest.mark.parametrize("build", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
def test_mined_tuples_meet_the_copies(build, tuples):
    x, y = draw_batch(0)
    value = SynthesisLoss(build(), estimated(seed=2))(x, y, tuples(y))
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.isfinite().all()
    assert not torch.isclose(value, build()(x, y, tuples(y)))


@all_losses
def test_copies_join_the_batch_of_a_proxy_loss(case):
    if case.uses_norms:
        pytest.skip("a copy has the norm of its source there, which the common tests look at")
    x, y = draw_batch(0)
    augmenter, loss = estimated(seed=2), build_loss(case)
    made = synthesize(augmenter, x, y)
    value = SynthesisLoss(loss, augmenter)(x, y)
    expected = loss(torch.cat([x, made.embeddings]), torch.cat([y, made.labels]))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x, *loss.parameters()])


def test_before_the_estimate_the_loss_is_the_plain_one():
    x, y = draw_batch(0)
    plain = losses.MultiSimilarityLoss()
    assert torch.equal(SynthesisLoss(plain, iaa())(x, y), plain(x, y))


# --------------------------------------------------------------- options, checkpoints, errors


def test_statistics_and_repr():
    augmenter = estimated(seed=3, collect_stats=True, num_neighbors=0)
    assert repr(augmenter) == (
        "IntraclassAdaptiveAugmentation(num_classes=5, embedding_size=8, num_copies=3, "
        "strength=0.8, num_neighbors=0, momentum=0.2, running=False, released_roots=False, seed=3)"
    )
    x, y = draw_batch(0)
    batch = augmenter(x, y)
    assert (augmenter.current_strength, augmenter.num_rows) == (0.8, 36)
    assert augmenter.num_estimated == 5
    cosines = (batch.embeddings * normalize(x)[batch.source]).sum(dim=1)
    assert augmenter.mean_cosine == pytest.approx(cosines.mean().item())
    augmenter(x[:0], y[:0])
    assert (augmenter.num_rows, augmenter.mean_cosine) == (0, 0.0)


@pytest.mark.parametrize("num_neighbors, floats", [(25, 3), (0, 2)])
def test_the_memory_has_the_size_that_is_documented(num_neighbors, floats):
    augmenter = IntraclassAdaptiveAugmentation(7, 6, num_neighbors=num_neighbors)
    nbytes = sum(buffer.nbytes for buffer in augmenter.buffers())
    assert nbytes == 4 * floats * 7 * 6
    assert augmenter.get_extra_state().nbytes == 8 * (2 + 7)


def test_resumes_from_a_checkpoint(tmp_path):
    augmenter, resumed = estimated(seed=1), iaa(seed=9)
    augmenter(*draw_batch(0))
    torch.save(augmenter.state_dict(), tmp_path / "state.pth")
    resumed.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    for part in (augmenter, resumed):
        part.estimate(*training_set(4, (1, 2, 3, 4, 5)))
    assert torch.equal(augmenter(*draw_batch(1)).embeddings, resumed(*draw_batch(1)).embeddings)


def test_a_checkpoint_with_neighbor_correction_is_refused_without():
    with pytest.raises(RuntimeError, match='Unexpected key.*"corrected"'):
        iaa(num_neighbors=0).load_state_dict(iaa().state_dict())


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("num_classes", 0, "an integer of at least 1"),
        ("embedding_size", 2.5, "an integer of at least 1"),
        ("num_copies", True, "an integer of at least 1"),
        ("num_neighbors", -1, "an integer of at least 0"),
        ("strength", -0.1, "a number of 0 at least"),
        ("strength", "much", "a number of 0 at least"),
        ("strength", CosineSchedule(0.8, -1.0, 5), "a number of 0 at least"),
        ("strength", StepSchedule([0.8, -1.0], [0, 0.5], 5), "a number of 0 at least"),
        ("momentum", 1.1, "a number in [0, 1]"),
        ("running", 1, "True or False"),
        ("released_roots", None, "True or False"),
    ],
)
def test_wrong_options(name, value, expected):
    with pytest.raises(ValueError, match=f"`{name}` to be {re.escape(expected)}"):
        iaa(**{name: value})


def test_running_statistics_have_no_correction_and_no_estimate():
    with pytest.raises(ValueError, match="`num_neighbors` to be 0 with running statistics"):
        iaa(running=True)
    augmenter = iaa(running=True, num_neighbors=0)
    assert iaa().requires_estimate and not augmenter.requires_estimate
    with pytest.raises(ValueError, match="`running` to be False where `estimate` is called"):
        augmenter.estimate(*draw_batch(0))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda x, y: (x.tolist(), y), "`embeddings` to be a tensor"),
        (lambda x, y: (x, y.double()), "`labels` to be integers"),
        (lambda x, y: (x, y[:, None]), r"`labels` to be of shape \[12\]"),
        (lambda x, y: (x[0], y), r"`embeddings` to be of shape \[B, D\]"),
        (lambda x, y: (x / 0, y), "`embeddings` to be finite"),
        (lambda x, y: (x[:, 1:], y), r"`embeddings` to be of shape \[B, 8\]"),
        (lambda x, y: (x, y + 1), "`labels` to be from 0 to 4, .*from 1 to 5"),
    ],
)
def test_a_training_set_that_is_none(make, message):
    augmenter = estimated()
    before = copy.deepcopy(augmenter.state_dict())
    with pytest.raises(ValueError, match=message):
        augmenter.estimate(*make(*draw_batch(0, order="balanced")))
    for name, value in augmenter.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_schedule_that_turns_negative():
    augmenter = estimated(strength=lambda step: 1.0 - step)
    x, y = draw_batch(0)
    augmenter(x, y), augmenter(x, y)
    with pytest.raises(ValueError, match="`strength` to be a number of 0 at least"):
        augmenter(x, y)
