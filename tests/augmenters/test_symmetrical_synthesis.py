import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses, miners, samplers, trainers
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from cases import (
    CLOSE,
    NUM_CLASSES,
    assert_same_batch,
    assert_same_gradients,
    assert_same_gradients_of_batches,
    draw_batch,
    pairs,
    triplets,
)
from pml_synthesis import SymmetricalSynthesis, SynthesisLoss
from reference import synthesize
from reference.hardened_distance import Matrix, hardened

PAIR_LOSSES = [losses.ContrastiveLoss, losses.MultiSimilarityLoss, losses.TripletMarginLoss]


def axes_of(batch, x, y):
    """Return the row that each synthetic one was reflected about: q + N(b) points where a does."""
    middle = batch.embeddings + torch.nn.functional.normalize(x)[batch.source]
    cosines = cosine_similarity(middle[:, None], x[None], dim=2).abs()
    same_class = y[batch.source][:, None] == y[None]
    return torch.where(same_class, cosines, -1.0).argmax(dim=1)


@pytest.mark.parametrize("order", ["random", "sorted", "balanced", "dominated"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_reference(order, seed):
    x, y = draw_batch(seed, order=order)
    augmenter = SymmetricalSynthesis(seed=seed)
    expected, batch = synthesize(augmenter, x, y), augmenter(x, y)
    assert batch.num_new_classes == 0
    assert_same_batch(batch, expected)
    assert_same_gradients_of_batches(batch, expected, [x])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 2**63))
def test_properties_hold_for_all_batches(labels, seed):
    x, y = torch.randn(len(labels), 5, dtype=torch.float64), torch.tensor(labels).long()
    batch = SymmetricalSynthesis(seed=seed)(x, y)
    assert torch.equal(batch.labels, y[batch.source])
    not_alone = [row for row, label in enumerate(labels) if labels.count(label) > 1]
    assert sorted(batch.source.tolist()) == not_alone
    torch.testing.assert_close(batch.embeddings.norm(dim=1), torch.ones(len(batch)).double())
    if not_alone:
        axes = axes_of(batch, x, y)
        assert (axes != batch.source).all()
        cosines = cosine_similarity(x[batch.source], x[axes])
        torch.testing.assert_close(cosine_similarity(batch.embeddings, x[axes]), cosines)
        # The angle to the source is twice the angle to the axis.
        doubled = 2 * cosines**2 - 1
        torch.testing.assert_close(cosine_similarity(batch.embeddings, x[batch.source]), doubled)


def test_two_rows_are_reflected_about_each_other():
    x = torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    batch = SymmetricalSynthesis()(x, torch.tensor([2, 2]))
    made = dict(zip(batch.source.tolist(), batch.embeddings.tolist(), strict=True))
    assert made[0] == pytest.approx([0, 1], abs=1e-6)
    assert made[1] == pytest.approx([0.5**0.5, -(0.5**0.5)], abs=1e-6)


def test_every_other_row_of_the_class_becomes_an_axis():
    x, y = torch.randn(5, 6), torch.zeros(5, dtype=torch.int64)
    augmenter, seen = SymmetricalSynthesis(seed=0), set()
    for _ in range(60):
        batch = augmenter(x, y)
        seen |= set(zip(batch.source.tolist(), axes_of(batch, x, y).tolist(), strict=True))
    assert seen == {(row, axis) for row in range(5) for axis in range(5) if row != axis}


@pytest.mark.parametrize("labels", [[0, 1, 2], []])
def test_nothing_comes_of_rows_that_are_alone(labels):
    batch = SymmetricalSynthesis()(torch.randn(len(labels), 4), torch.tensor(labels).long())
    assert (len(batch), batch.num_new_classes) == (0, 0)


def test_statistics_and_repr():
    augmenter = SymmetricalSynthesis(seed=3, collect_stats=True)
    assert repr(augmenter) == "SymmetricalSynthesis(role='all', seed=3)"
    assert augmenter.num_rows == 0
    augmenter(torch.randn(4, 3), torch.tensor([0, 0, 1, 2]))
    assert augmenter.num_rows == 2


@pytest.mark.parametrize("loss_class", PAIR_LOSSES)
def test_joins_the_batch_of_a_pair_loss(loss_class):
    x, y = draw_batch(0)
    augmenter = SymmetricalSynthesis(seed=1)
    made = synthesize(augmenter, x, y)
    value = SynthesisLoss(loss_class(), augmenter)(x, y)
    expected = loss_class()(torch.cat([x, made.embeddings]), torch.cat([y, made.labels]))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


@pytest.mark.parametrize("loss_class", PAIR_LOSSES)
@pytest.mark.parametrize(
    "mine", [miners.TripletMarginMiner(margin=0.2), miners.MultiSimilarityMiner()]
)
def test_a_mined_tuple_is_repeated_with_the_reflected_row_as_anchor(loss_class, mine):
    x, y = draw_batch(4)
    y[0] = NUM_CLASSES  # Alone: it can be an anchor, and nothing is made of it.
    tuples = mine(x, y)
    augmenter = SymmetricalSynthesis(seed=1)
    batch = synthesize(augmenter, x, y)
    position = {row: len(y) + made for made, row in enumerate(batch.source.tolist())}

    def repeated(anchors, *others):
        again = [k for k, anchor in enumerate(anchors.tolist()) if anchor in position]
        made = torch.tensor([position[anchor] for anchor in anchors[again].tolist()])
        new = torch.cat([anchors, made.long()])
        return new, *(torch.cat([other, other[again]]) for other in others)

    if len(tuples) == 3:
        expected_tuples = repeated(*tuples)
    else:
        expected_tuples = repeated(*tuples[:2]) + repeated(*tuples[2:])
    joined = torch.cat([x, batch.embeddings]), torch.cat([y, batch.labels])
    value = SynthesisLoss(loss_class(), augmenter)(x, y, tuples)
    torch.testing.assert_close(value, loss_class()(*joined, expected_tuples), **CLOSE)
    assert len(expected_tuples[0]) > len(tuples[0])


# ------------------------------------------------------------------------ the role "negative"


@pytest.mark.parametrize("order", ["random", "sorted", "balanced", "dominated"])
def test_the_role_changes_nothing_but_the_role(order):
    x, y = draw_batch(0, order=order)
    batch, joined = (
        SymmetricalSynthesis("negative", seed=1)(x, y),
        SymmetricalSynthesis(seed=1)(x, y),
    )
    assert (batch.role, joined.role) == ("negative", "all")
    assert_same_batch(batch, joined)


@pytest.mark.parametrize("loss_class", [*PAIR_LOSSES, losses.LiftedStructureLoss])
@pytest.mark.parametrize(
    ("tuples", "order"),
    [(None, "random"), (None, "dominated"), (triplets, "sorted"), (pairs, "random")],
)
def test_hardens_the_negatives_of_pair_losses(loss_class, tuples, order):
    x, y = draw_batch(0, order=order)
    augmenter, loss = SymmetricalSynthesis("negative", seed=1), loss_class()
    mined = None if tuples is None else tuples(y)
    matrix = hardened(loss.distance, x, y, synthesize(augmenter, x, y))
    expected = loss_class(distance=Matrix(matrix, loss.distance.is_inverted))(x, y, mined)
    value = SynthesisLoss(loss, augmenter)(x, y, mined)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


def released_products(a, p):
    """Return the six matrices of products whose largest entries are the logits of the release."""
    about_a = torch.stack([2 * (u @ v) / (u @ u) * u - v for u, v in zip(a, p, strict=True)])
    about_p = torch.stack([2 * (u @ v) / (v @ v) * v - u for u, v in zip(a, p, strict=True)])
    points = {"a": a, "p": p, "q1": about_a, "q2": about_p}
    return {
        f"{one} {other}": torch.stack([torch.stack([u @ v for v in v_of]) for u in u_of])
        for (one, u_of), (other, v_of) in itertools.combinations(points.items(), 2)
    }


def largest(*matrices):
    return torch.stack(matrices).amax(dim=0)


@pytest.mark.parametrize("normalize_embeddings", [True, False], ids=["unit", "raw"])
@pytest.mark.parametrize("seed", range(5))
def test_covers_four_of_the_six_products_of_the_released_n_pairs(normalize_embeddings, seed):
    x, _ = draw_batch(seed, batch_size=12)
    y = torch.arange(6).repeat(2)
    points = normalize(x) if normalize_embeddings else x
    six = released_products(points[:6], points[6:])
    covered = largest(six["a p"], six["a q1"], six["p q2"].T, six["q1 q2"].T)
    positives = torch.eye(6, dtype=torch.bool)
    logits = torch.where(positives, six["a p"], covered)

    distance = distances.DotProductSimilarity(normalize_embeddings=normalize_embeddings)
    loss = SynthesisLoss(losses.NPairsLoss(distance=distance), SymmetricalSynthesis("negative"))
    value, expected = loss(x, y), cross_entropy(logits, torch.arange(6))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])

    # With the classes exchanged, the release takes a q2 and p q1 beside these.
    released = largest(*six.values())
    others = largest(covered, covered.T, six["a q2"], six["a q2"].T, six["p q1"], six["p q1"].T)
    assert torch.equal(largest(released, released.T)[~positives], others[~positives])
    assert not torch.equal(largest(released, released.T), largest(covered, covered.T))
    # Its logits of positive pairs are those of a p where these are unit vectors at less than 90
    # degrees.
    if normalize_embeddings:
        near = positives & (six["a p"] > 0)
        torch.testing.assert_close(released[near], six["a p"][near], **CLOSE)


class Points(torch.utils.data.Dataset):
    """Eight classes that differ in two of twelve coordinates, the others being noise."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(8).repeat_interleave(8)
        angles = self.labels * torch.pi / 4
        signal = torch.stack([angles.cos(), angles.sin()], dim=1)
        noise = torch.randn(64, 10, generator=generator)
        self.points = torch.cat([signal, noise], dim=1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.points[index], self.labels[index]


@pytest.mark.parametrize("role", ["all", "negative"])
@pytest.mark.parametrize("miner", [None, miners.MultiSimilarityMiner()])
@pytest.mark.parametrize("loss_class", PAIR_LOSSES)
def test_trains_with_a_trainer_of_pml(loss_class, miner, role):
    points, trunk = Points(), torch.nn.Linear(12, 4)
    loss = SynthesisLoss(loss_class(), SymmetricalSynthesis(role, collect_stats=True))
    untrained = loss_class()(trunk(points.points), points.labels)
    trainer = trainers.MetricLossOnly(
        models={"trunk": trunk},
        optimizers={"trunk_optimizer": torch.optim.Adam(trunk.parameters(), lr=0.02)},
        batch_size=32,
        loss_funcs={"metric_loss": loss},
        mining_funcs={"tuple_miner": miner} if miner else {},
        dataset=points,
        sampler=samplers.MPerClassSampler(
            points.labels, m=4, batch_size=32, length_before_new_iter=320
        ),
        dataloader_num_workers=0,
        data_device="cpu",
    )
    trainer.train(num_epochs=4)
    assert loss.augmenter.step == 40
    assert loss.augmenter.num_rows == 32
    trained = loss_class()(trunk(points.points), points.labels)
    assert trained < 0.8 * untrained
