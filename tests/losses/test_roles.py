"""What synthetic embeddings are to a pair loss: everything, candidates, or hardened negatives."""

import itertools
from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch.nn.functional import normalize

from cases import CLOSE, Mirror, assert_same_gradients, draw_batch, pairs, triplets
from pml_synthesis import (
    BaseAugmenter,
    Compose,
    EmbeddingExpansion,
    SymmetricalSynthesis,
    SynthesisLoss,
    SynthesisRegularizer,
    SyntheticBatch,
)
from pml_synthesis.pml import all_pairs
from reference.hardened_distance import Matrix, hardened


class Near(BaseAugmenter):
    """Makes two embeddings near each real one, in a role; a third has no source."""

    requires_proxies = False

    def __init__(self, role="all", weighted=False):
        super().__init__(seed=3)
        self.role = role
        self.weighted = weighted

    def synthesize(self, batch, generator):
        x = batch.embeddings.repeat(2, 1)
        noise = torch.randn(x.shape, dtype=torch.float64, generator=generator).to(x)
        source = torch.arange(len(batch)).repeat(2)
        weights = torch.linspace(0.1, 1, len(source)).to(x) if self.weighted else None
        labels = batch.labels[source]
        rows = torch.cat([x + 0.5 * noise, x[:1] + noise[:1]])
        return SyntheticBatch(
            rows,
            torch.cat([labels, labels[:1]]),
            x[:0],
            torch.cat([source, source.new_tensor([-1])]),
            weights=None if weights is None else torch.cat([weights, weights[:1]]),
            role=self.role,
        )


def made(augmenter, x, y):
    """What the augmenter makes at its first step."""
    return type(augmenter)(**augmenter.options())(x, y)


HARDENED = {
    "triplet": losses.TripletMarginLoss,
    "contrastive": lambda **kwargs: losses.ContrastiveLoss(neg_margin=1.5, **kwargs),
    "multi-similarity": losses.MultiSimilarityLoss,
    "supcon": losses.SupConLoss,
    "lifted": losses.LiftedStructureLoss,
}


@pytest.mark.parametrize("build", HARDENED.values(), ids=HARDENED)
@pytest.mark.parametrize(
    ("tuples", "seed"), [(None, 0), (triplets, 1), (pairs, 0)], ids=["all", "triplets", "pairs"]
)
def test_negatives_harden_the_distances_between_classes(build, tuples, seed):
    x, y = draw_batch(seed)
    augmenter, loss = Near("negative"), build()
    mined = None if tuples is None else tuples(y)
    value = SynthesisLoss(loss, augmenter)(x, y, mined)
    matrix = hardened(loss.distance, x, y, made(augmenter, x, y))
    twin = build()
    twin.distance = Matrix(matrix, loss.distance.is_inverted)
    expected = twin(x, y, mined)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])
    assert not torch.isclose(value, build()(x, y, mined))


@pytest.mark.parametrize(
    "augmenter", [EmbeddingExpansion(9, seed=0), SymmetricalSynthesis("negative", seed=0)]
)
def test_classes_of_one_embedding_keep_their_distances(augmenter):
    x, _ = draw_batch(0, batch_size=6)
    y = torch.tensor([0, 0, 0, 0, 1, 2])
    none = torch.empty(0, dtype=torch.int64)
    loss = losses.ContrastiveLoss(neg_margin=2.0)

    def value(loss, i, j):
        # Twice, since PML takes a single pair for none.
        return loss(x, y, (none, none, torch.tensor([i, i]), torch.tensor([j, j])))

    synthesis = SynthesisLoss(loss, augmenter)
    torch.testing.assert_close(value(synthesis, 4, 5), value(loss, 4, 5), **CLOSE)
    pairs_of_both = itertools.product(range(4), (4, 5))
    assert any(value(synthesis, *pair) > value(loss, *pair) + 1e-3 for pair in pairs_of_both)


@pytest.mark.parametrize("equal", [False, True], ids=["different", "equal"])
def test_negatives_in_n_pairs_which_compares_some_embeddings_with_others(equal):
    x, y = draw_batch(0)
    a, p, _, _ = all_pairs(y)
    first = [int((y[a] == c).nonzero()[0, 0]) for c in sorted(set(y[a].tolist()))]
    anchors, positives = a[first], p[first]
    if equal:
        # An anchor of one class, a positive of another one, and an embedding of neither.
        with torch.no_grad():
            x[positives[1]] = x[anchors[2]] = x[anchors[0]]
    augmenter = Near("negative")
    value = SynthesisLoss(losses.NPairsLoss(), augmenter)(x, y)
    matrix = hardened(distances.DotProductSimilarity(), x, y, made(augmenter, x, y))
    logits = matrix[anchors][:, positives]
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(len(first)))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


CANDIDATES = {
    "triplet": losses.TripletMarginLoss,
    "contrastive": lambda: losses.ContrastiveLoss(neg_margin=1.5),
    "multi-similarity": losses.MultiSimilarityLoss,
    "ntxent": losses.NTXentLoss,
    "circle": losses.CircleLoss,
}


def candidate_tuples(y, batch):
    """All pairs of real anchors with real embeddings and candidates, by loops."""
    labels = torch.cat([y, batch.labels]).tolist()
    found = ([], [], [], [])
    for i, j in itertools.product(range(len(y)), range(len(labels))):
        own = i == j or (j >= len(y) and int(batch.source[j - len(y)]) == i)
        if labels[i] == labels[j] and not own:
            found[0].append(i), found[1].append(j)
        if labels[i] != labels[j]:
            found[2].append(i), found[3].append(j)
    return tuple(map(torch.tensor, found))


@pytest.mark.parametrize("build", CANDIDATES.values(), ids=CANDIDATES)
def test_candidates_meet_real_anchors_alone_and_not_their_own_source(build):
    x, y = draw_batch(0)
    augmenter = Near("candidate")
    value = SynthesisLoss(build(), augmenter)(x, y)
    batch = made(augmenter, x, y)
    reference = torch.cat([x, batch.embeddings]), torch.cat([y, batch.labels])
    expected = build()(x, y, candidate_tuples(y, batch), *reference)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


@pytest.mark.parametrize("tuples", [triplets, pairs])
def test_mined_tuples_are_repeated_for_candidates(tuples):
    x, y = draw_batch(0)
    augmenter, loss = Near("candidate"), losses.ContrastiveLoss(reducer=reducers.SumReducer())
    if tuples is triplets:
        loss = losses.TripletMarginLoss(margin=0.3, reducer=reducers.SumReducer())
    value = SynthesisLoss(loss, augmenter)(x, y, tuples(y))
    batch = made(augmenter, x, y)
    units = normalize(torch.cat([x, batch.embeddings]), dim=1)

    def places(i):
        return [i, *(len(y) + m for m in range(len(batch)) if int(batch.source[m]) == i)]

    def d(i, j):
        return torch.linalg.vector_norm(units[i] - units[j])

    total = 0.0
    mined = [part.tolist() for part in tuples(y)]
    if tuples is triplets:
        for a, p, n in zip(*mined, strict=True):
            stand_ins = [(q, n) for q in places(p)] + [(p, q) for q in places(n)[1:]]
            total = total + sum((d(a, i) - d(a, j) + 0.3).clamp_min(0) for i, j in stand_ins)
    else:
        for a, p in zip(*mined[:2], strict=True):
            total = total + sum(d(a, i) for i in places(p))
        for a, n in zip(*mined[2:], strict=True):
            total = total + sum((1 - d(a, i)).clamp_min(0) for i in places(n))
    torch.testing.assert_close(value, total, **CLOSE)


def test_weights_multiply_pairs():
    x, y = draw_batch(0)
    for role in ("all", "candidate"):
        augmenter = Near(role, weighted=True)
        loss = losses.ContrastiveLoss(neg_margin=1.5, reducer=reducers.SumReducer())
        value = SynthesisLoss(loss, augmenter)(x, y)
        batch = made(augmenter, x, y)
        rows, labels = torch.cat([x, batch.embeddings]), torch.cat([y, batch.labels])
        weights = torch.cat([torch.ones(len(y)).double(), batch.weights])
        found = all_pairs(labels) if role == "all" else candidate_tuples(y, batch)
        total, units = 0.0, normalize(rows, dim=1)
        for k, (i, j) in enumerate(itertools.chain(zip(*found[:2]), zip(*found[2:]))):  # noqa: B905
            d = torch.linalg.vector_norm(units[i] - units[j])
            term = d if k < len(found[0]) else (1.5 - d).clamp_min(0)
            total = total + weights[i] * weights[j] * term
        torch.testing.assert_close(value, total, **CLOSE)


@pytest.mark.parametrize("role", ["all", "candidate"])
def test_weights_multiply_the_betas_of_the_classes_of_anchors(role):
    x, y = draw_batch(0)
    options = {"nu": 0.1, "learn_beta": True, "num_classes": 5}
    loss = losses.MarginLoss(**options, reducer=reducers.DoNothingReducer()).double()
    elements = SynthesisLoss(loss, Near(role, weighted=True))(x, y)["beta_reg_loss"]
    weights = torch.cat([torch.ones(len(y)).double(), made(Near(role, True), x, y).weights])
    expected = 0.1 * 1.2 * weights[elements["indices"]]
    torch.testing.assert_close(elements["losses"], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("role", ["all", "candidate"])
def test_a_term_keeps_its_weights_where_the_reducer_gives_no_scalar(role):
    x, y = draw_batch(0)

    def term(**options):
        regularizer = SynthesisRegularizer(Near(role, weighted=True))
        loss = losses.ContrastiveLoss(**options, embedding_regularizer=regularizer)
        return loss(x, y)

    value = term(reducer=reducers.DoNothingReducer())["embedding_reg_loss"]["losses"]
    plain = losses.ContrastiveLoss()(x, y)
    torch.testing.assert_close(value, term() - plain, **CLOSE)


def test_parts_of_a_compose_may_differ_in_role():
    x, y = draw_batch(0)
    parts = [Near("negative"), Near("candidate"), Mirror()]
    value = SynthesisLoss(losses.ContrastiveLoss(neg_margin=1.5), Compose(parts))(x, y)
    alone = [
        SynthesisLoss(losses.ContrastiveLoss(neg_margin=1.5), part)(x, y)
        for part in (Near("negative"), Near("candidate"), Mirror())
    ]
    assert all(not torch.isclose(value, other) for other in alone)
    value.backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("role", ["all", "candidate", "negative"])
def test_proxy_losses_take_all_roles_alike(role):
    x, y = draw_batch(0)
    torch.manual_seed(0)
    loss = losses.ProxyAnchorLoss(5, 8).double()
    batch = made(Near(role), x, y)
    expected = loss(torch.cat([x, batch.embeddings]), torch.cat([y, batch.labels]))
    torch.testing.assert_close(SynthesisLoss(loss, Near(role))(x, y), expected, **CLOSE)


@pytest.mark.parametrize("loss", [losses.MultiSimilarityLoss(), losses.TripletMarginLoss()])
def test_a_miner_sees_the_embeddings_of_the_role_all(loss):
    x, y = draw_batch(0, batch_size=20)
    parts = [Near("all"), Near("negative")]
    miner = miners.MultiSimilarityMiner()
    value = SynthesisLoss(loss, Compose(parts[:1]), miner=miner)(x, y)
    batch = Compose([Near("all")])(x, y)
    rows, labels = torch.cat([x, batch.embeddings]), torch.cat([y, batch.labels])
    expected = loss(rows, labels, miner(rows, labels))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])
    with pytest.raises(ValueError, match="`indices_tuple` to be None where the SynthesisLoss has"):
        SynthesisLoss(loss, Near(), miner=miner)(x, y, triplets(y))
    plain = loss(x, y, miner(x, y))
    torch.testing.assert_close(SynthesisLoss(loss, None, miner=miner)(x, y), plain, **CLOSE)
    bare = SynthesisLoss(loss, Near(), miner=miner).eval()(x, y)
    torch.testing.assert_close(bare, loss(x, y), **CLOSE)


@pytest.mark.parametrize(
    "build", [miners.BatchHardMiner, miners.MultiSimilarityMiner, miners.TripletMarginMiner]
)
@pytest.mark.parametrize("normalize_embeddings", [True, False])
def test_a_miner_sees_distances_that_negatives_harden(build, normalize_embeddings):
    x, y = draw_batch(0)
    distance = distances.LpDistance(normalize_embeddings=normalize_embeddings)
    if build is miners.MultiSimilarityMiner:
        distance = distances.DotProductSimilarity(normalize_embeddings=normalize_embeddings)
    miner, loss, augmenter = build(distance=distance), losses.TripletMarginLoss(), Near("negative")
    value = SynthesisLoss(loss, augmenter, miner=miner)(x, y)
    batch = made(augmenter, x, y)
    given = batch
    if not normalize_embeddings:
        own = batch.source >= 0
        norms = torch.where(own, x.norm(dim=1)[batch.source], batch.embeddings.norm(dim=1))
        given = replace(batch, embeddings=normalize(batch.embeddings) * norms[:, None])
    twin = build(distance=Matrix(hardened(distance, x, y, given), distance.is_inverted))
    tuples = twin(x, y)
    expected = losses.TripletMarginLoss(
        distance=Matrix(hardened(loss.distance, x, y, batch), is_inverted=False)
    )(x, y, tuples)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])
    assert miner.distance is distance
    of_real = miner(x, y)
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(of_real, tuples, strict=True))


def test_a_miner_is_refused_what_the_loss_is_refused():
    x, y = draw_batch(0)
    loss = SynthesisLoss(losses.TripletMarginLoss(), Near("negative"), miners.BatchHardMiner())
    with pytest.raises(ValueError, match="role 'all' where `ref_emb` is given"):
        loss(x, y, None, *draw_batch(1))


def test_a_miner_of_other_points_is_refused():
    loss = SynthesisLoss(losses.TripletMarginLoss(), Near("negative"), miners.AngularMiner())
    with pytest.raises(ValueError, match="`miner` to be one that compares embeddings .*AngularMin"):
        loss(*draw_batch(0))


def test_a_miner_for_a_proxy_loss():
    x, y = draw_batch(0, batch_size=20)
    torch.manual_seed(0)
    loss = losses.ProxyAnchorLoss(5, 8).double()
    miner = miners.MultiSimilarityMiner()
    batch = made(Near(), x, y)
    rows, labels = torch.cat([x, batch.embeddings]), torch.cat([y, batch.labels])
    expected = loss(rows, labels, miner(rows, labels))
    value = SynthesisLoss(loss, Near(), miner=miner)(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)


def test_a_term_of_a_pair_loss():
    x, y = draw_batch(0)
    for role in ("all", "candidate"):
        augmenter, plain = Near(role), losses.ContrastiveLoss(neg_margin=1.5)
        loss = losses.ContrastiveLoss(
            neg_margin=1.5,
            embedding_regularizer=SynthesisRegularizer(augmenter),
            embedding_reg_weight=0.4,
        )
        batch = made(augmenter, x, y)
        if role == "all":
            term = plain(batch.embeddings, batch.labels)
        else:
            a, p, b, n = candidate_tuples(y, batch)
            of_synthetic = p >= len(y), n >= len(y)
            found = (
                a[of_synthetic[0]],
                p[of_synthetic[0]] - len(y),
                b[of_synthetic[1]],
                n[of_synthetic[1]] - len(y),
            )
            term = plain(x, y, found, batch.embeddings, batch.labels)
        value, expected = loss(x, y), plain(x, y) + 0.4 * term
        torch.testing.assert_close(value, expected, **CLOSE)
        assert_same_gradients(value, expected, [x])


@pytest.mark.parametrize(
    "role, loss",
    [
        ("candidate", losses.NPairsLoss()),
        ("candidate", losses.ThresholdConsistentMarginLoss()),
        ("candidate", losses.FastAPLoss()),
        ("negative", losses.AngularLoss()),
        ("negative", losses.ThresholdConsistentMarginLoss()),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_loss_that_cannot_honour_a_role_says_so(role, loss):
    message = f"role '{role}', which {type(loss).__name__} cannot honour"
    with pytest.raises(ValueError, match=message):
        SynthesisLoss(loss, Near(role))(*draw_batch(0))


@pytest.mark.parametrize("hook", ["joined", "term"])
def test_triplets_that_swap_anchor_and_positive_refuse_candidates(hook):
    x, y = draw_batch(0)
    loss = SynthesisLoss(losses.TripletMarginLoss(swap=True), Near("candidate"))
    if hook == "term":
        regularizer = SynthesisRegularizer(Near("candidate"))
        loss = losses.TripletMarginLoss(swap=True, embedding_regularizer=regularizer)
    message = r"role 'candidate', which TripletMarginLoss\(swap=True\) cannot honour"
    with pytest.raises(ValueError, match=message):
        loss(x, y)
    assert SynthesisLoss(losses.TripletMarginLoss(swap=True), Near("all"))(x, y).isfinite()


def test_negatives_have_no_term_and_no_weights_and_no_references():
    x, y = draw_batch(0)
    loss = losses.ContrastiveLoss(embedding_regularizer=SynthesisRegularizer(Near("negative")))
    with pytest.raises(ValueError, match="the role 'negative' only changes the distances"):
        loss(x, y)
    with pytest.raises(ValueError, match="`augmenter` to be one that makes embeddings without"):
        SynthesisLoss(losses.ContrastiveLoss(), Near("negative", weighted=True))(x, y)
    with pytest.raises(ValueError, match="role 'all' where `ref_emb` is given"):
        SynthesisLoss(losses.ContrastiveLoss(), Near("negative"))(x, y, None, x, y)


def test_an_unknown_role():
    with pytest.raises(ValueError, match="`role` to be one of 'all', 'candidate', 'negative'"):
        Near("positive")(*draw_batch(0))


@pytest.mark.parametrize("hook", ["joined", "term"])
def test_a_reducer_that_cannot_honour_candidates_says_so(hook):
    x, y = draw_batch(0)
    reducer = reducers.PerAnchorReducer()
    if hook == "joined":
        loss = SynthesisLoss(losses.ContrastiveLoss(reducer=reducer), Near("candidate"))
    else:
        regularizer = SynthesisRegularizer(Near("candidate"))
        loss = losses.ContrastiveLoss(reducer=reducer, embedding_regularizer=regularizer)
    with pytest.raises(ValueError, match="role 'candidate', which PerAnchorReducer cannot honour"):
        loss(x, y)


@pytest.mark.parametrize("build", [losses.TripletMarginLoss, lambda: losses.ProxyNCALoss(5, 8)])
def test_mined_tuples_may_be_lists_and_nothing_else(build):
    x, y = draw_batch(0)
    torch.manual_seed(0)
    loss, augmenter = build().double(), Near()
    expected = SynthesisLoss(loss, Near())(x, y, triplets(y))
    torch.testing.assert_close(SynthesisLoss(loss, Near())(x, y, list(triplets(y))), expected)
    a = torch.tensor([0])
    for wrong in (y, {}, (), (a, a), [a] * 5, ([0], [1], [2]), (a, a, a.double()), (a, a, y[0])):
        with pytest.raises(ValueError, match="Expected argument `indices_tuple` to be"):
            SynthesisLoss(loss, augmenter)(x, y, wrong)
    assert augmenter.step == 0


def test_mined_tuples_name_real_embeddings_alone():
    x, y = draw_batch(0)
    beyond = tuple(part + 5 for part in triplets(y))
    for loss in (losses.ContrastiveLoss(), losses.TripletMarginLoss()):
        with pytest.raises(ValueError, match="`indices_tuple` to be from 0 to 11"):
            SynthesisLoss(loss, Near())(x, y, beyond)


def test_an_embedding_that_is_not_a_number_makes_the_hardened_loss_so():
    x, y = draw_batch(0)
    x = x.detach().clone()
    x[3] = float("nan")
    assert SynthesisLoss(losses.NPairsLoss(), Near("negative"))(x, y).isnan()


def test_embeddings_that_are_all_not_a_number_make_the_hardened_loss_so():
    x, y = draw_batch(0)
    assert SynthesisLoss(losses.NPairsLoss(), Near("negative"))(x / 0, y).isnan()


class Selecting(losses.ContrastiveLoss):
    """Compares a copy of what it is given, made in one of several ways."""

    def __init__(self, copied):
        super().__init__(neg_margin=1.5)
        self.copied = copied

    def compute_loss(self, embeddings, *call):
        return super().compute_loss(self.copied(embeddings), *call)


COPIES = {
    "clone": lambda x: x.clone(),
    "to": lambda x: x.to(x.dtype),
    "selected": lambda x: x[torch.arange(len(x))],
    "masked": lambda x: x[torch.ones(len(x), dtype=torch.bool)],
    "itself, after other functions": lambda x: (
        torch.ones(1).to(x),
        x[x > 0],
        torch.sum(input=x),
        x,
    )[-1],
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_negatives_where_a_loss_compares_a_copy(copied):
    x, y = draw_batch(0)
    value = SynthesisLoss(Selecting(copied), Near("negative"))(x, y)
    expected = SynthesisLoss(losses.ContrastiveLoss(neg_margin=1.5), Near("negative"))(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x])


@pytest.mark.parametrize("changed", [lambda x: x + 1, lambda x: x[:, 1:], lambda x: x.flip(0)])
def test_negatives_where_a_loss_compares_other_vectors(changed):
    with pytest.raises(ValueError, match="`loss` to be one that compares the embeddings that it"):
        SynthesisLoss(Selecting(changed), Near("negative"))(*draw_batch(0))
