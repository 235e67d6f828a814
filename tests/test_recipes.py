"""The recipes of the documentation prove the seam: each is compared with its formula."""

import copy
import pickle

import pytest
import torch
from pytorch_metric_learning import losses, reducers
from torch.nn.functional import cross_entropy, normalize

from cases import (
    CLOSE,
    DIM,
    NUM_CLASSES,
    PROXY_LOSSES,
    assert_same_gradients,
    build_loss,
    draw_batch,
    triplets,
)
from pml_synthesis import Compose, ProxySynthesis, SynthesisLoss, SynthesisRegularizer
from recipes import PAGE, recipe

LastStep, TwoHotMixer, Generator, ClassMeans = map(
    recipe, ("LastStep", "TwoHotMixer", "Generator", "ClassMeans")
)
WEIGHING = [case for case in PROXY_LOSSES if case.loss_class is not losses.P2SGradLoss]
weighing_losses = pytest.mark.parametrize("case", WEIGHING, ids=lambda case: case.name)


def last_step(capacity=12):
    return LastStep(NUM_CLASSES, DIM, capacity, seed=1).double()


@pytest.mark.parametrize("augmenter", [LastStep, TwoHotMixer, Generator, ClassMeans])
def test_a_recipe_has_thirty_lines_at_most(augmenter):
    text = PAGE.read_text()
    start = text.index(f"class {augmenter.__name__}(")
    block = text[start : text.index("```", start)]
    lines = block.split("\n\n\n")[0].splitlines()
    assert len(lines) <= 30


# What PML's losses give for each embedding, before they are reduced.
def elements(case, proxies, rows, labels):
    loss = case.build_with(proxies, reducer=reducers.DoNothingReducer())
    return loss(rows, labels)["loss"]["losses"]


def proxy_anchor(proxies, rows, targets, loss):
    """Proxy-Anchor with soft labels [N, C], written out."""
    cosines = normalize(rows, dim=1) @ normalize(proxies, dim=1).T
    positive = (targets * torch.exp(-loss.alpha * (cosines - loss.margin))).sum(dim=0)
    negative = ((1 - targets) * torch.exp(loss.alpha * (cosines + loss.margin))).sum(dim=0)
    with_positives = (targets > 0).any(dim=0).sum()
    return positive.log1p().sum() / with_positives + negative.log1p().sum() / len(proxies)


# ---------------------------------------------------------------------------- a memory


@pytest.mark.parametrize(
    "case", [case for case in PROXY_LOSSES if case.centers == 1], ids=lambda case: case.name
)
def test_a_memory_equals_the_loss_over_the_concatenation(case):
    (past, past_labels), (x, y) = draw_batch(0, batch_size=9), draw_batch(1)
    loss, first, augmenter = build_loss(case), build_loss(case, seed=1), last_step()
    SynthesisLoss(first, augmenter)(past, past_labels)
    value = SynthesisLoss(loss, augmenter)(x, y)

    remembered = case.proxies(first).detach()
    if case.uses_norms:
        norm = torch.linalg.vector_norm(case.proxies(loss), dim=1).mean()
        remembered = normalize(remembered, dim=1) * norm
    rows = torch.cat([x, past.detach()])
    labels = torch.cat([y, NUM_CLASSES + past_labels])
    expected = case.build_with(torch.cat([case.proxies(loss), remembered]))(rows, labels)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x, getattr(loss, case.weight)])


def test_what_is_remembered_has_a_mined_weight_of_one_and_the_class_weight_of_its_parent():
    case = next(case for case in PROXY_LOSSES if case.name == "NormalizedSoftmaxLoss")
    of_classes = torch.linspace(0.5, 2, NUM_CLASSES, dtype=torch.float64)
    (past, past_labels), (x, y) = draw_batch(0, batch_size=9), draw_batch(1)
    loss = build_loss(case, reducer=reducers.ClassWeightedReducer(of_classes))
    wrapped = SynthesisLoss(loss, last_step())
    wrapped(past, past_labels)
    a, p, n = triplets(y)
    value = wrapped(x, y, (a, p, n))

    counts = torch.stack([(torch.cat([a, p, n]) == i).sum() for i in range(len(y))]).double()
    mined = torch.cat([counts / counts.max(), torch.ones(len(past_labels)).double()])
    proxies = case.proxies(loss)
    rows = torch.cat([x, past.detach()])
    labels = torch.cat([y, NUM_CLASSES + past_labels])
    each = elements(case, torch.cat([proxies, proxies.detach()]), rows, labels)
    expected = (each * mined * of_classes[torch.cat([y, past_labels])]).mean()
    torch.testing.assert_close(value, expected, **CLOSE)


def test_a_memory_goes_on_bit_for_bit_and_keeps_copies_of_what_it_gave():
    case = PROXY_LOSSES[1]
    wrapped = SynthesisLoss(build_loss(case), last_step())
    x, y = draw_batch(0)
    wrapped(x, y)
    resumed = SynthesisLoss(build_loss(case, seed=3), last_step())
    resumed.load_state_dict({k: v.clone() for k, v in wrapped.state_dict().items()})
    copies = [resumed, copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))]
    for seed in (1, 2):
        batch = draw_batch(seed, batch_size=10 + seed)
        value = wrapped(*batch)
        for twin in copies:
            assert torch.equal(twin(*batch), value)
    # The update after the forward overwrote the buffers that the graph was made from.
    value.backward()


def test_a_memory_is_left_alone_in_eval_mode():
    augmenter = last_step()
    wrapped = SynthesisLoss(build_loss(PROXY_LOSSES[1]), augmenter)
    wrapped(*draw_batch(0))
    before = {name: value.clone() for name, value in augmenter.state_dict().items()}
    augmenter.eval()
    augmenter(*draw_batch(1), case_proxies())
    wrapped.eval()(*draw_batch(1))
    after = augmenter.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def case_proxies():
    return PROXY_LOSSES[1].proxies(build_loss(PROXY_LOSSES[1])).detach()


def test_a_memory_inside_of_a_compose_and_a_regularizer():
    case = PROXY_LOSSES[1]
    parts = Compose([last_step(), ProxySynthesis(seed=1)])
    loss = build_loss(case, embedding_regularizer=SynthesisRegularizer(parts))
    for seed in range(3):
        loss(*draw_batch(seed)).backward()
    assert [part.num_kept for part in parts.augmenters if hasattr(part, "num_kept")] == [12]
    assert "embedding_regularizer.augmenter.augmenters.0.embeddings" in loss.state_dict()


# ---------------------------------------------------------------------------- soft labels


def mixed(x, y):
    """The mixed embeddings in float64, their two labels and the weight, as the recipe draws."""
    batch = TwoHotMixer(seed=1)(x, y)
    half = len(y)
    labels = batch.labels[:half], batch.labels[half:]
    return batch.embeddings[:half], labels, batch.weights[0], batch.source


@weighing_losses
def test_two_hot_embeddings_equal_soft_labels_in_the_joined_loss(case):
    x, y = draw_batch(0)
    loss = build_loss(case)
    value = SynthesisLoss(loss, TwoHotMixer(seed=1))(x, y)
    rows, (first, second), weight, source = mixed(x, y)
    proxies = case.proxies(loss)
    if case.uses_norms:
        rows = torch.cat([rows, rows]) * x.norm(dim=1)[source].unsqueeze(1)
    else:
        rows = torch.cat([rows, rows])
    if case.name == "ProxyAnchorLoss":
        one_hot = torch.eye(NUM_CLASSES).double()
        soft = weight * one_hot[first] + (1 - weight) * one_hot[second]
        targets = torch.cat([one_hot[y], soft])
        expected = proxy_anchor(proxies, torch.cat([x, rows[: len(y)]]), targets, loss)
    else:
        each = elements(case, proxies, torch.cat([x, rows]), torch.cat([y, first, second]))
        real, as_first, as_second = each.chunk(3)
        expected = (real + weight * as_first + (1 - weight) * as_second).sum() / (2 * len(y))
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x, getattr(loss, case.weight)])


def test_two_hot_embeddings_equal_the_cross_entropy_of_soft_labels_as_a_term():
    case = next(case for case in PROXY_LOSSES if case.name == "NormalizedSoftmaxLoss")
    x, y = draw_batch(0)
    regularizer = SynthesisRegularizer(TwoHotMixer(seed=1))
    loss = build_loss(case, embedding_regularizer=regularizer, embedding_reg_weight=0.4)
    value = loss(x, y)
    rows, (first, second), weight, _ = mixed(x, y)
    proxies = normalize(case.proxies(loss), dim=1)
    one_hot = torch.eye(NUM_CLASSES).double()
    soft = weight * one_hot[first] + (1 - weight) * one_hot[second]
    clean = cross_entropy(normalize(x, dim=1) @ proxies.T / loss.temperature, y)
    term = cross_entropy(rows @ proxies.T / loss.temperature, soft)
    torch.testing.assert_close(value, clean + 0.4 * term, **CLOSE)
    assert_same_gradients(value, clean + 0.4 * term, [x, loss.W])


def test_a_sum_of_weighted_embeddings_is_not_divided():
    case = next(case for case in PROXY_LOSSES if case.name == "NormalizedSoftmaxLoss")
    x, y = draw_batch(0)
    loss = build_loss(case, reducer=reducers.SumReducer())
    rows, (first, second), weight, _ = mixed(x, y)
    rows = torch.cat([x, rows, rows])
    each = elements(case, case.proxies(loss), rows, torch.cat([y, first, second]))
    real, as_first, as_second = each.chunk(3)
    expected = (real + weight * as_first + (1 - weight) * as_second).sum()
    value = SynthesisLoss(loss, TwoHotMixer(seed=1))(x, y)
    torch.testing.assert_close(value, expected, **CLOSE)


@pytest.mark.parametrize("hook", ["joined", "term"])
@pytest.mark.parametrize("build", [losses.P2SGradLoss, losses.NTXentLoss])
def test_a_loss_that_takes_no_weights_says_so(hook, build):
    sizes = {"num_classes": NUM_CLASSES, "descriptors_dim": DIM}
    options = sizes if build is losses.P2SGradLoss else {}
    x, y = draw_batch(0, dtype=torch.float32)
    if hook == "joined":
        loss = SynthesisLoss(build(**options), TwoHotMixer())
    else:
        loss = build(**options, embedding_regularizer=SynthesisRegularizer(TwoHotMixer()))
    with pytest.raises(ValueError, match=f"weights.*{build.__name__}"):
        loss(x, y)


# ---------------------------------------------------------------------------- a generator


@pytest.mark.parametrize("hook", ["joined", "term"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_generator_learns_through_its_term_and_through_the_loss(hook, dtype):
    x, y = draw_batch(0, dtype=dtype)
    generator = Generator(DIM, seed=1)
    if hook == "joined":
        loss = SynthesisLoss(losses.ProxyAnchorLoss(NUM_CLASSES, DIM), generator)
    else:
        regularizer = SynthesisRegularizer(generator)
        loss = losses.ProxyAnchorLoss(NUM_CLASSES, DIM, embedding_regularizer=regularizer)
    value = loss(x, y)
    value.backward()
    both = generator.network.weight.grad.clone()
    assert both.isfinite().all() and both.abs().sum() > 0
    generator.zero_grad()
    twin = Generator(DIM, seed=1)
    twin.load_state_dict(generator.state_dict())
    twin.step = 0
    twin(x, y).term.backward()
    assert not torch.allclose(twin.network.weight.grad, both)


def test_a_term_is_added_to_the_loss():
    x, y = draw_batch(0)
    generator = Generator(DIM, seed=1).double()
    plain = build_loss(PROXY_LOSSES[1])
    batch = copy.deepcopy(generator)(x, y)
    rows, labels = torch.cat([x, batch.embeddings]), torch.cat([y, batch.labels])
    value = SynthesisLoss(plain, generator)(x, y)
    torch.testing.assert_close(value, plain(rows, labels) + batch.term, **CLOSE)
    both = Compose([copy.deepcopy(generator), copy.deepcopy(generator)])
    assert both(x, y).term > batch.term
    no_scalar = build_loss(PROXY_LOSSES[2], reducer=reducers.DoNothingReducer())
    with pytest.raises(ValueError, match="`augmenter` to be one that makes no term"):
        SynthesisLoss(no_scalar, generator)(x, y)


# ---------------------------------------------------------------------------- statistics


def test_statistics_of_classes_meet_real_anchors_as_candidates():
    x, y = draw_batch(0, batch_size=8)
    means = ClassMeans(NUM_CLASSES, DIM, seed=1).double()
    means(x, y)
    expected = {c: normalize(x[y == c], dim=1).mean(dim=0) for c in y.tolist()}
    z, w = draw_batch(1)
    loss = losses.ContrastiveLoss(neg_margin=1.5, reducer=reducers.SumReducer())
    value = SynthesisLoss(loss, means)(z, w)

    units, total = normalize(z, dim=1), 0.0
    for i in range(len(w)):
        for j in range(len(w)):
            d = torch.linalg.vector_norm(units[i] - units[j])
            if i != j:
                total = total + (d if w[i] == w[j] else (1.5 - d).clamp_min(0))
        for c in set(w.tolist()) & set(expected):
            d = torch.linalg.vector_norm(units[i] - normalize(expected[c], dim=0))
            total = total + (d if w[i] == c else (1.5 - d).clamp_min(0))
    torch.testing.assert_close(value, total, **CLOSE)
    assert_same_gradients(value, total, [z])
