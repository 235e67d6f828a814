from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses, miners, reducers
from torch.nn.functional import one_hot

from cases import (
    CLOSE,
    DIM,
    NUM_CLASSES,
    PROXY_LOSSES,
    assert_same_batch,
    assert_same_gradients,
    assert_same_gradients_of_batches,
    build_loss,
    draw_batch,
    draw_proxies,
    taking_turns,
)
from pml_synthesis import (
    Compose,
    EmbeddingMixup,
    SymmetricalSynthesis,
    SynthesisLoss,
    SynthesisRegularizer,
)
from pml_synthesis.augmenters import mixing_weight
from pml_synthesis.augmenters.mixing_weight import draw_mixing_weight
from reference import soft_label_loss, synthesize
from reference.order import unit

WEIGHT = 0.4
SOFT = [case for case in PROXY_LOSSES if case.loss_class is not losses.P2SGradLoss]
orders = pytest.mark.parametrize("order", ["random", "sorted", "balanced", "dominated"])
both = pytest.mark.parametrize("same_class", [False, True])
hooks = pytest.mark.parametrize("hook", ["joined", "term"])


def fixed(weight):
    return mock.patch.object(mixing_weight, "_draw_beta", lambda *_: weight)


@orders
@both
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_reference(order, same_class, seed):
    x, y = draw_batch(seed, batch_size=3 + 5 * seed, order=order)
    augmenter = EmbeddingMixup(same_class=same_class, seed=seed)
    expected, batch = synthesize(augmenter, x, y), augmenter(x, y)
    assert batch.num_new_classes == 0 and batch.role == "candidate"
    assert_same_batch(batch, expected)
    assert_same_gradients_of_batches(batch, expected, [x])
    torch.testing.assert_close(batch.weights, expected.weights, **CLOSE)
    assert torch.equal(batch.partner, expected.partner)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30), st.booleans(), st.floats(1e-3, 1e3), st.data())
def test_properties_hold_for_all_batches(labels, same_class, alpha, data):
    seed = data.draw(st.integers(0, 2**63))
    x, y = torch.randn(len(labels), 5, dtype=torch.float64), torch.tensor(labels).long()
    augmenter = EmbeddingMixup(alpha, same_class, seed=seed, collect_stats=True)
    batch = augmenter(x, y)
    if len(set(labels)) < 2:
        assert (len(batch), batch.num_new_classes) == (0, 0)
        return
    weight, source, partner = augmenter.mixing_weight, batch.source, batch.partner
    assert 0 <= weight <= 1
    assert torch.equal(batch.labels, y[source])
    torch.testing.assert_close(batch.embeddings.norm(dim=1), torch.ones(len(batch)).double())
    two = partner >= 0
    assert (y[source][two] != y[partner][two]).all()
    assert (batch.weights[~two] == 1).all() and (same_class or two.all())
    # The two halves of a mix: the same embedding, each other's labels, together of weight 1.
    members = enumerate(zip(source.tolist(), partner.tolist(), strict=True))
    halves = {pair: m for m, pair in members if pair[1] >= 0}
    for (i, j), m in halves.items():
        other = halves.get((j, i))
        assert other is not None
        kept = unit(weight * unit(x[i]) + (1 - weight) * unit(x[j]))
        swapped = unit((1 - weight) * unit(x[i]) + weight * unit(x[j]))
        made = batch.embeddings[m]
        assert torch.allclose(made, kept) or torch.allclose(made, swapped)
    first = len(batch) - int(two.sum()) // 2
    assert torch.equal(batch.embeddings[:first][two[:first]], batch.embeddings[first:])
    halved = batch.weights[:first][two[:first]] + batch.weights[first:]
    torch.testing.assert_close(halved, torch.ones_like(halved))
    if same_class:
        assert sorted(source[:first].tolist()) == list(range(len(labels)))


def soft_batch(augmenter, x, y):
    """Return mixes [P, D] and their soft labels [P, C]."""
    batch = synthesize(augmenter, x, y)
    mixes = len(batch) - int((batch.partner >= 0).sum()) // 2
    shares = one_hot(batch.labels, NUM_CLASSES) * batch.weights[:, None]
    soft = shares[:mixes].clone()
    soft[batch.partner[:mixes] >= 0] += shares[mixes:]
    return batch.embeddings[:mixes], soft


@taking_turns(
    ["order"],
    {order: (order,) for order in ("random", "sorted", "dominated")},
    case={case.name: case for case in SOFT},
    hook={hook: hook for hook in ("joined", "term")},
    same_class={"any class": False, "same class": True},
)
def test_two_halves_are_one_embedding_with_a_soft_label(case, hook, same_class, order):
    if case.uses_norms:
        pytest.skip("each half has the norm of its own member, so that the two are not equal")
    x, y = draw_batch(2, order=order)
    loss, twin = build_loss(case), build_loss(case)
    proxies, hard = case.proxies(twin), one_hot(y, NUM_CLASSES).double()
    augmenter = EmbeddingMixup(same_class=same_class, seed=1)
    mixes, soft = soft_batch(augmenter, x, y)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(len(soft)).double())
    if hook == "joined":
        value = SynthesisLoss(loss, augmenter)(x, y)
        expected = soft_label_loss(case, torch.cat([x, mixes]), torch.cat([hard, soft]), proxies)
    else:
        options = {"embedding_reg_weight": WEIGHT}
        loss = build_loss(case, embedding_regularizer=SynthesisRegularizer(augmenter), **options)
        value = loss(x, y)
        term = soft_label_loss(case, mixes, soft, proxies)
        expected = soft_label_loss(case, x, hard, proxies) + WEIGHT * term
    torch.testing.assert_close(value, expected, **CLOSE)
    weights = getattr(loss, case.weight), getattr(twin, case.weight)
    assert_same_gradients(value, expected, [x, weights[0]], [x, weights[1]])


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("case", SOFT, ids=lambda case: case.name)
def test_a_weight_of_0_or_1_gives_plain_embeddings(case, weight):
    x, y = draw_batch(0, order="balanced")
    with fixed(weight):
        batch = EmbeddingMixup(seed=1)(x, y)
        value = SynthesisLoss(build_loss(case), EmbeddingMixup(seed=1))(x, y)
    counts = batch.weights > 0
    assert (batch.weights[counts] == 1).all()
    rows = batch.source[counts]
    torch.testing.assert_close(batch.embeddings[counts], unit_rows(x)[rows])
    joined = torch.cat([x, x[rows] if case.uses_norms else unit_rows(x)[rows]])
    expected = build_loss(case)(joined, torch.cat([y, y[rows]]))
    torch.testing.assert_close(value, expected, **CLOSE)


def unit_rows(x):
    return torch.stack([unit(row) for row in x])


@both
@pytest.mark.parametrize("labels", [[], [3], [3, 3, 3]])
def test_a_batch_of_one_class_gives_nothing(labels, same_class):
    x, y = torch.randn(len(labels), DIM), torch.tensor(labels).long()
    augmenter = EmbeddingMixup(same_class=same_class)
    batch = augmenter(x, y, draw_proxies(0, NUM_CLASSES, 2, DIM))
    assert (len(batch), batch.num_new_classes) == (0, 0)
    if labels:
        loss = losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM)
        assert torch.equal(SynthesisLoss(loss, augmenter)(x, y), loss(x, y))


def test_opposite_embeddings_do_not_cancel():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    with fixed(0.5):
        batch = EmbeddingMixup()(x, torch.tensor([0, 1]))
    torch.testing.assert_close(batch.embeddings.norm(dim=1), torch.ones(4))


def test_members_of_a_class_meet_all_other_classes():
    x, y = torch.randn(8, 6), torch.arange(8) // 2
    augmenter, seen = EmbeddingMixup(seed=0), set()
    for _ in range(200):
        batch = augmenter(x, y)
        seen |= set(zip(batch.source.tolist(), batch.partner.tolist(), strict=True))
    assert seen == {(i, j) for i in range(8) for j in range(8) if y[i] != y[j]}


def test_any_embedding_can_be_the_partner_with_same_class():
    x, y = torch.eye(4, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    augmenter, seen = EmbeddingMixup(same_class=True, seed=0, collect_stats=True), set()
    for _ in range(200):
        batch = augmenter(x, y)
        for made, row in zip(batch.embeddings[:4], batch.source[:4].tolist(), strict=True):
            others = made.clone()
            others[row] = 0
            seen.add((row, int(others.argmax()) if others.any() else row))
    assert len(seen) == 16


def test_statistics_and_repr():
    augmenter = EmbeddingMixup(seed=3, collect_stats=True)
    assert repr(augmenter) == "EmbeddingMixup(alpha=2.0, same_class=False, seed=3)"
    assert augmenter.num_rows == 0
    augmenter(torch.randn(4, 3), torch.tensor([0, 0, 1, 2]))
    assert augmenter.num_rows == 8 and 0 < augmenter.mixing_weight < 1


def test_weights_follow_the_beta_distribution():
    generator = torch.Generator().manual_seed(0)
    draws = [draw_mixing_weight(2.0, torch.float32, generator) for _ in range(4000)]
    # Beta(2, 2): mean 1/2, variance 1/20.
    assert abs(torch.tensor(draws).mean() - 0.5) < 0.02
    assert abs(torch.tensor(draws).var() - 0.05) < 0.005


@pytest.mark.parametrize("alpha", [0, -1, None, "2", float("nan"), True])
def test_wrong_alpha(alpha):
    with pytest.raises(ValueError, match="`alpha` to be a positive number, but got"):
        EmbeddingMixup(alpha)


@pytest.mark.parametrize("same_class", [None, 1, "yes"])
def test_wrong_same_class(same_class):
    with pytest.raises(ValueError, match="`same_class` to be True or False, but got"):
        EmbeddingMixup(same_class=same_class)


# ------------------------------------------------------------------------------ pair losses


def meetings(batch, y):
    """Return, for each real anchor, positives and negatives among the mixes: (weight, mix)."""
    positives, negatives = ([[] for _ in y] for _ in range(2))
    fields = batch.embeddings, batch.labels, batch.source, batch.partner, batch.weights
    for z, label, source, partner, weight in zip(*fields, strict=True):
        for k in range(len(y)):
            if y[k] == label and k != source:
                positives[k].append((weight, z))
            if y[k] != label and partner < 0:
                negatives[k].append((weight, z))
            if partner >= 0 and y[k] == y[partner] and k != partner:
                negatives[k].append((weight, z))
    return positives, negatives


def distance(a, b):
    return torch.linalg.vector_norm(unit(a) - unit(b))


def average_non_zero(elements):
    positive = [element for element in elements if element > 0]
    return sum(positive) / len(positive) if positive else torch.tensor(0.0)


def contrastive(x, positives, negatives):
    pulls = [w * distance(x[k], z) for k, found in enumerate(positives) for w, z in found]
    pushes = [
        w * torch.relu(1 - distance(x[k], z)) for k, found in enumerate(negatives) for w, z in found
    ]
    return average_non_zero(pulls) + average_non_zero(pushes)


def triplet(x, positives, negatives):
    return average_non_zero(
        [
            w * v * torch.relu(distance(x[k], p) - distance(x[k], n) + 0.05)
            for k in range(len(x))
            for w, p in positives[k]
            for v, n in negatives[k]
        ]
    )


def margin(x, positives, negatives):
    total, count, beta = 0, 0, float(torch.tensor(1.2))  # PML keeps it in float32.
    for k in range(len(x)):
        for w, p in positives[k]:
            for v, n in negatives[k]:
                pull = torch.relu(distance(x[k], p) - beta + 0.2)
                push = torch.relu(beta - distance(x[k], n) + 0.2)
                total, count = total + w * v * (pull + push), count + int(pull > 0) + int(push > 0)
    return total / count


PAIR_LOSSES = {
    losses.ContrastiveLoss: contrastive,
    losses.TripletMarginLoss: triplet,
    losses.MarginLoss: margin,
}
pair_losses = pytest.mark.parametrize("loss_class", PAIR_LOSSES)


@pair_losses
@both
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_term_of_pair_losses_written_out(loss_class, same_class, weight):
    x, y = draw_batch(0, batch_size=10, num_classes=3)
    formula, mixup = PAIR_LOSSES[loss_class], EmbeddingMixup(same_class=same_class, seed=1)
    with fixed(weight):
        loss = loss_class(
            embedding_regularizer=SynthesisRegularizer(mixup), embedding_reg_weight=WEIGHT
        )
        value = loss(x, y)
        batch = EmbeddingMixup(same_class=same_class, seed=1)(x, y)
    expected = loss_class()(x, y) + WEIGHT * formula(x, *meetings(batch, y))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


@pair_losses
@both
def test_pair_losses_join_the_mixes(loss_class, same_class):
    x, y = draw_batch(0, batch_size=10, num_classes=3)
    augmenter = EmbeddingMixup(same_class=same_class, seed=1)
    batch = synthesize(augmenter, x, y)
    positives, negatives = meetings(batch, y)
    for k in range(len(y)):
        real = [(1.0, x[j], bool(y[j] == y[k])) for j in range(len(y)) if j != k]
        positives[k] += [(w, z) for w, z, same in real if same]
        negatives[k] += [(w, z) for w, z, same in real if not same]
    value = SynthesisLoss(loss_class(), augmenter)(x, y)
    expected = PAIR_LOSSES[loss_class](x, positives, negatives)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


def fits(y, anchor, partner):
    """Tell whether a mix made of a negative is one of the anchor's class, but not of the anchor."""
    return partner < 0 or (y[partner] == y[anchor] and partner != anchor)


@both
def test_mixes_replace_their_source_in_mined_pairs(same_class):
    x, y = draw_batch(4, num_classes=3)
    augmenter = EmbeddingMixup(same_class=same_class, seed=1)
    batch = synthesize(augmenter, x, y)
    a, p, a2, n = tuples = miners.MultiSimilarityMiner()(x, y)
    made = list(zip(batch.embeddings, batch.source, batch.partner, batch.weights, strict=True))
    pulls, pushes, left_out = [], [], 0
    for k, j in zip(a, p, strict=True):
        pulls.append(distance(x[k], x[j]))
        pulls += [w * distance(x[k], z) for z, source, _, w in made if source == j]
    for k, j in zip(a2, n, strict=True):
        pushes.append(torch.relu(1 - distance(x[k], x[j])))
        mixes = [(z, w) for z, source, i, w in made if source == j and fits(y, k, i)]
        pushes += [w * torch.relu(1 - distance(x[k], z)) for z, w in mixes]
        left_out += sum(int(source == j) for _, source, _, _ in made) - len(mixes)
    assert left_out > 0
    value = SynthesisLoss(losses.ContrastiveLoss(), augmenter)(x, y, tuples)
    expected = average_non_zero(pulls) + average_non_zero(pushes)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


@both
def test_mixes_replace_their_source_in_mined_triplets(same_class):
    x, y = draw_batch(4, num_classes=3)
    augmenter = EmbeddingMixup(same_class=same_class, seed=1)
    batch = synthesize(augmenter, x, y)
    made = list(zip(batch.embeddings, batch.source, batch.partner, batch.weights, strict=True))
    tuples = miners.TripletMarginMiner(margin=0.2)(x, y)
    elements = []
    for a, p, n in zip(*tuples, strict=True):
        triplets = [(x[p], x[n], 1)]
        triplets += [(z, x[n], w) for z, source, _, w in made if source == p]
        triplets += [(x[p], z, w) for z, source, i, w in made if source == n and fits(y, a, i)]
        for pull, push, w in triplets:
            violation = distance(x[a], pull) - distance(x[a], push) + 0.05
            elements.append(w * torch.relu(violation))
    value = SynthesisLoss(losses.TripletMarginLoss(), augmenter)(x, y, tuples)
    expected = average_non_zero(elements)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


def test_composed_with_an_augmenter_of_another_role():
    x, y = draw_batch(0, num_classes=3)
    summed = losses.ContrastiveLoss(reducer=reducers.SumReducer())
    parts = Compose([SymmetricalSynthesis(seed=1), EmbeddingMixup(seed=1)])(x, y)
    symmetrical, mixes = parts.parts
    assert (symmetrical.role, mixes.role) == ("all", "candidate")
    assert (parts.partner[: len(symmetrical)] == -1).all()
    joined = torch.cat([x, symmetrical.embeddings]), torch.cat([y, symmetrical.labels])
    positives, negatives = meetings(mixes, y)
    pulls = [w * distance(x[k], z) for k, found in enumerate(positives) for w, z in found]
    pushes = [
        w * torch.relu(1 - distance(x[k], z)) for k, found in enumerate(negatives) for w, z in found
    ]
    expected = summed(*joined) + sum(pulls) + sum(pushes)
    both = Compose([SymmetricalSynthesis(seed=1), EmbeddingMixup(seed=1)])
    torch.testing.assert_close(SynthesisLoss(summed, both)(x, y), expected, **CLOSE)


@pytest.mark.parametrize("loss_class", [losses.MultiSimilarityLoss, losses.NTXentLoss])
@hooks
def test_losses_that_sum_inside_of_a_logarithm_refuse(loss_class, hook):
    x, y = draw_batch(0)
    loss = SynthesisLoss(loss_class(), EmbeddingMixup())
    if hook == "term":
        loss = loss_class(embedding_regularizer=SynthesisRegularizer(EmbeddingMixup()))
    with pytest.raises(ValueError, match=f"without weights: {loss_class.__name__} sums over them"):
        loss(x, y)


@hooks
def test_p2sgrad_refuses(hook):
    case = PROXY_LOSSES[-1]
    loss = SynthesisLoss(build_loss(case), EmbeddingMixup())
    if hook == "term":
        loss = build_loss(case, embedding_regularizer=SynthesisRegularizer(EmbeddingMixup()))
    with pytest.raises(ValueError, match="weights, which P2SGradLoss takes none of"):
        loss(*draw_batch(0))
