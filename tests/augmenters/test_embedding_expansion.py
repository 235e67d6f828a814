import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses, miners, reducers
from torch.nn.functional import cross_entropy, normalize

from cases import (
    CLOSE,
    assert_same_batch,
    assert_same_gradients,
    assert_same_gradients_of_batches,
    draw_batch,
    pairs,
    triplets,
)
from pml_synthesis import EmbeddingExpansion, SynthesisLoss
from pml_synthesis.pml import all_pairs
from reference import synthesize
from reference.hardened_distance import Matrix, groups_of, hardened

ORDERS = ["random", "sorted", "balanced", "dominated"]
PAIR_LOSSES = {
    "triplet": losses.TripletMarginLoss,
    "contrastive": lambda **kwargs: losses.ContrastiveLoss(neg_margin=1.5, **kwargs),
    "multi-similarity": losses.MultiSimilarityLoss,
    "lifted": losses.LiftedStructureLoss,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("num_points", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_reference(order, num_points, seed):
    x, y = draw_batch(seed, order=order)
    augmenter = EmbeddingExpansion(num_points, seed=seed)
    expected, batch = synthesize(augmenter, x, y), augmenter(x, y)
    assert (batch.num_new_classes, batch.role) == (0, "negative")
    assert_same_batch(batch, expected)
    if num_points:
        assert_same_gradients_of_batches(batch, expected, [x])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 4), st.integers(0, 2**63))
def test_properties_hold_for_all_batches(labels, num_points, seed):
    x, y = torch.randn(len(labels), 5, dtype=torch.float64), torch.tensor(labels).long()
    batch = EmbeddingExpansion(num_points, seed=seed)(x, y)
    not_alone = [row for row, label in enumerate(labels) if labels.count(label) > 1]
    assert sorted(batch.source.tolist()) == sorted(not_alone * num_points)
    assert torch.equal(batch.labels, y[batch.source])
    torch.testing.assert_close(batch.embeddings.norm(dim=1), torch.ones(len(batch)).double())
    if len(batch) == 0:
        return
    partner = dict(zip(batch.source[::num_points].tolist(), partners_of(batch, x, y), strict=True))
    for label in set(labels):
        members = [row for row in not_alone if labels[row] == label]
        unmatched = [row for row in members if partner[partner[row]] != row]
        assert len(unmatched) == len(members) % 2


def partners_of(batch, x, y):
    """Return the other end of the chord that the points of each source lie on."""
    num_points, units = len(batch) // len(set(batch.source.tolist())), normalize(x)
    found = []
    for points, source in zip(
        batch.embeddings.split(num_points), batch.source[::num_points].tolist(), strict=True
    ):
        ends = [row for row in range(len(y)) if y[row] == y[source] and row != source]
        shares = torch.arange(1, num_points + 1).double()[:, None] / (num_points + 1)
        errors = [
            (normalize(torch.lerp(units[source], units[end], shares)) - points).abs().max()
            for end in ends
        ]
        assert min(errors) < 1e-9
        found.append(ends[errors.index(min(errors))])
    return found


def test_the_chord_is_divided_into_equal_parts_and_not_the_angle():
    angle = 1.2
    x = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    batch = EmbeddingExpansion(2)(x, torch.tensor([3, 3]))
    of_first = batch.embeddings[batch.source == 0]
    assert torch.atan2(*of_first.T.flip(0)).tolist() == pytest.approx([0.3758, 0.8242], abs=1e-4)
    of_second = batch.embeddings[batch.source == 1]
    torch.testing.assert_close(of_second.flip(0), of_first)


@pytest.mark.parametrize("members, others", [(2, 1), (4, 3), (5, 4)])
def test_every_other_embedding_of_the_class_becomes_a_partner(members, others):
    x, y = torch.randn(members, 6).double(), torch.zeros(members, dtype=torch.int64)
    augmenter, seen = EmbeddingExpansion(1, seed=0), set()
    for _ in range(80):
        batch = augmenter(x, y)
        seen |= set(zip(batch.source.tolist(), partners_of(batch, x, y), strict=True))
    assert len(seen) == members * others


# ---------------------------------------------------------------------------- in a loss


def batch_hard(x, y, batch, margin):
    """The released loss, by loops: only real positives, and the group of the anchor."""
    units, groups = normalize(x), groups_of(normalize(x), batch)
    total = x.new_zeros(())
    for i in range(len(y)):
        positives = [j for j in range(len(y)) if y[j] == y[i] and j != i]
        others = [v for j in range(len(y)) if y[j] != y[i] for v in groups[j]]
        if not positives or not others:
            continue
        farthest = torch.stack([(units[i] - units[j]).norm() for j in positives]).max()
        pairs_of_both = itertools.product(groups[i], others)
        nearest = torch.stack([(u - v).norm() for u, v in pairs_of_both]).min()
        total = total + (farthest - nearest + margin).clamp_min(0)
    return total


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("margin", [1e-5, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_batch_hard_triplets_are_the_released_loss(order, margin, seed):
    x, y = draw_batch(seed, batch_size=13, order=order)
    augmenter = EmbeddingExpansion(seed=seed)
    expected = batch_hard(x, y, synthesize(augmenter, x, y), margin)
    loss = losses.TripletMarginLoss(margin=margin, reducer=reducers.SumReducer())
    value = SynthesisLoss(loss, augmenter, miner=miners.BatchHardMiner())(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])
    plain = loss(x, y, miners.BatchHardMiner()(x, y))
    assert value > plain


@pytest.mark.parametrize("build", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
@pytest.mark.parametrize(
    ("tuples", "order"),
    [
        *[(None, "random"), (None, "dominated"), (triplets, "sorted"), (triplets, "random")],
        *[(pairs, "balanced"), (pairs, "dominated")],
    ],
)
def test_hardens_the_negatives_of_pair_losses(build, tuples, order):
    x, y = draw_batch(1, order=order)
    augmenter, loss = EmbeddingExpansion(seed=1), build()
    mined = None if tuples is None else tuples(y)
    matrix = hardened(loss.distance, x, y, synthesize(augmenter, x, y))
    expected = build(distance=Matrix(matrix, loss.distance.is_inverted))(x, y, mined)
    value = SynthesisLoss(loss, augmenter)(x, y, mined)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])
    assert value >= build()(x, y, mined)


@pytest.mark.parametrize("normalize_embeddings", [True, False])
def test_hardens_the_logits_of_n_pairs(normalize_embeddings):
    x, y = draw_batch(0)
    distance = distances.DotProductSimilarity(normalize_embeddings=normalize_embeddings)
    augmenter = EmbeddingExpansion(seed=1)
    batch = synthesize(augmenter, x, y)
    points = normalize(x) if normalize_embeddings else x
    groups = groups_of(points, batch)
    groups = [[v / v.norm() * g[0].norm() for v in g] for g in groups]
    a, p, _, _ = all_pairs(y)
    first = [int((y[a] == label).nonzero()[0, 0]) for label in sorted(set(y[a].tolist()))]
    logits = []
    for i in a[first].tolist():
        for j in p[first].tolist():
            products = [u @ v for u, v in itertools.product(groups[i], groups[j])]
            logits.append(points[i] @ points[j] if y[i] == y[j] else torch.stack(products).max())
    logits = torch.stack(logits).view(len(first), len(first))
    expected = cross_entropy(logits, torch.arange(len(first)))
    value = SynthesisLoss(losses.NPairsLoss(distance=distance), augmenter)(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


@pytest.mark.parametrize("build", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
@pytest.mark.parametrize("miner", [None, miners.BatchHardMiner()])
def test_without_points_it_is_the_plain_loss(build, miner):
    x, y = draw_batch(0)
    plain = build()(x, y, miner and miner(x, y))
    value = SynthesisLoss(build(), EmbeddingExpansion(0), miner=miner)(x, y)
    assert torch.equal(value, plain)
    alone = torch.arange(len(y))
    value = SynthesisLoss(build(), EmbeddingExpansion(2), miner=miner)(x, alone)
    assert torch.equal(value, build()(x, alone, miner and miner(x, alone)))


def test_statistics_and_repr():
    augmenter = EmbeddingExpansion(3, seed=3, collect_stats=True)
    assert repr(augmenter) == "EmbeddingExpansion(num_points=3, seed=3)"
    assert augmenter.num_rows == 0
    augmenter(torch.randn(4, 3), torch.tensor([0, 0, 1, 2]))
    assert augmenter.num_rows == 6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("num_points", [1, 3])
def test_opposite_embeddings_of_a_class_have_bounded_gradients(dtype, num_points):
    x = torch.tensor([[1.0, 2, 0, 0], [-1, -2, 0, 0], [0, 0, 1, 3], [0, 0, 3, 1]])
    x, y = x.to(dtype).requires_grad_(), torch.tensor([0, 0, 1, 1])
    batch = EmbeddingExpansion(num_points, seed=0)(x, y)
    torch.testing.assert_close(
        batch.embeddings.float().norm(dim=1), torch.ones(len(batch)), rtol=0, atol=2e-2
    )
    batch.embeddings.float().square().sum(dim=1).sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() < 1e3
    cosine = distances.CosineSimilarity()  # torch has no cdist for all of these dtypes
    for loss in (losses.NormalizedSoftmaxLoss(2, 4), losses.TripletMarginLoss(distance=cosine)):
        value = SynthesisLoss(loss, EmbeddingExpansion(num_points, seed=0))(x, y)
        (gradient,) = torch.autograd.grad(value, [x])
        assert value.isfinite() and gradient.isfinite().all()
