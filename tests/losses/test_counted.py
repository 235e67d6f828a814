"""Embeddings that a mean over embeddings does not count."""

import pytest
import torch
from pytorch_metric_learning import losses, reducers, regularizers

from cases import (
    CLOSE,
    NUM_CLASSES,
    PROXY_LOSSES,
    REDUCERS,
    Mirror,
    all_losses,
    assert_same_gradients,
    build_loss,
    draw_batch,
    triplets,
)
from pml_synthesis import (
    BaseAugmenter,
    Compose,
    SynthesisLoss,
    SynthesisRegularizer,
    SyntheticBatch,
)

NORM_SOFTMAX = next(case for case in PROXY_LOSSES if case.name == "NormalizedSoftmaxLoss")
OF_CLASSES = torch.linspace(0.5, 2, NUM_CLASSES, dtype=torch.float64)


class Uncounted(BaseAugmenter):
    """Turns every second embedding around; with weights or without."""

    requires_proxies = False

    def __init__(self, counted=False, weighted=False):
        super().__init__(seed=1)
        self.counted = counted
        self.weighted = weighted

    def synthesize(self, batch, generator):
        source = torch.arange(0, len(batch), 2)
        rows = batch.embeddings[source].roll(1, dims=1)
        weights = torch.linspace(0.1, 1, len(source)).to(rows) if self.weighted else None
        labels = batch.labels[source]
        return SyntheticBatch(rows, labels, rows[:0], source, weights=weights, counted=self.counted)


def elements(x, y, loss):
    """What norm-softmax gives for each embedding."""
    nothing = NORM_SOFTMAX.build_with(loss.W.T, reducer=reducers.DoNothingReducer())
    return nothing(x, y)["loss"]["losses"]


def joined(x, y, augmenter):
    batch = augmenter(x, y)
    return torch.cat([x, batch.embeddings]), torch.cat([y, batch.labels])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reducer", ["default", "mean", "class_weighted", "avg_non_zero"])
def test_the_sum_over_all_is_divided_by_the_number_of_the_counted(reducer, weighted):
    x, y = draw_batch(0)
    loss = build_loss(NORM_SOFTMAX, reducer=REDUCERS[reducer](NUM_CLASSES))
    value = SynthesisLoss(loss, Uncounted(weighted=weighted))(x, y)
    rows, labels = joined(x, y, Uncounted())
    weights = torch.ones(len(rows)).double()
    if weighted:
        weights[len(x) :] = Uncounted(weighted=True)(x, y).weights
    if reducer == "class_weighted":
        weights = weights * OF_CLASSES[labels]
    expected = (elements(rows, labels, loss) * weights).sum() / len(x)
    torch.testing.assert_close(value, expected, **CLOSE)
    assert_same_gradients(value, expected, [x, loss.W])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("regularized", [False, True])
def test_a_sum_stays_a_sum(regularized, weighted):
    """Also where PML makes a reducer for each of loss and regularizer."""
    x, y = draw_batch(0)
    options = {"reducer": reducers.SumReducer()}
    if regularized:
        options["embedding_regularizer"] = regularizers.LpRegularizer()
    loss = build_loss(NORM_SOFTMAX, **options)
    rows, labels = joined(x, y, Uncounted())
    weights = torch.ones(len(rows)).double()
    if weighted:
        weights[len(x) :] = Uncounted(weighted=True)(x, y).weights
    expected = (elements(rows, labels, loss) * weights).sum()
    if regularized:
        expected = expected + x.norm(dim=1).mean()
    for counted in (False, True):
        value = SynthesisLoss(loss, Uncounted(counted, weighted))(x, y)
        torch.testing.assert_close(value, expected, **CLOSE)


@all_losses
def test_regularizers_are_left_as_they_are(case):
    x, y = draw_batch(0)
    terms = {"embedding_regularizer": regularizers.LpRegularizer(), "embedding_reg_weight": 0.3}
    if case.loss_class is not losses.P2SGradLoss:
        terms |= {"weight_regularizer": regularizers.LpRegularizer(), "weight_reg_weight": 0.7}
    loss, plain = build_loss(case, **terms), build_loss(case)
    value = SynthesisLoss(loss, Uncounted())(x, y)
    counted = SynthesisLoss(plain, Uncounted(counted=True))(x, y)
    expected = 18 / 12 * counted + 0.3 * x.norm(dim=1).mean()
    if "weight_regularizer" in terms:
        expected = expected + 0.7 * case.proxies(loss).reshape(-1, x.shape[1]).norm(dim=1).mean()
    torch.testing.assert_close(value, expected, **CLOSE)


def test_parts_of_a_compose_count_for_themselves():
    x, y = draw_batch(0)
    loss = build_loss(NORM_SOFTMAX)
    mixed = Compose([Uncounted(), Mirror(), Uncounted(weighted=True)])
    all_counted = Compose([Uncounted(True), Mirror(), Uncounted(True, weighted=True)])
    weights = float(torch.linspace(0.1, 1, 6).double().sum())
    expected = SynthesisLoss(loss, all_counted)(x, y) * (12 + 6 + 12 + weights) / (12 + 12)
    torch.testing.assert_close(SynthesisLoss(loss, mixed)(x, y), expected, **CLOSE)


def test_mined_weights_change_no_number():
    x, y = draw_batch(0)
    loss, tuples = build_loss(NORM_SOFTMAX), triplets(y)
    counted = SynthesisLoss(loss, Uncounted(counted=True))(x, y, tuples)
    value = SynthesisLoss(loss, Uncounted())(x, y, tuples)
    torch.testing.assert_close(value, 18 / 12 * counted, **CLOSE)


def test_a_term_is_a_mean_of_its_own():
    x, y = draw_batch(0)
    values = [
        build_loss(
            NORM_SOFTMAX, embedding_regularizer=SynthesisRegularizer(Uncounted(counted=counted))
        )(x, y)
        for counted in (False, True)
    ]
    assert values[0] == values[1]


def test_no_real_embeddings_divide_by_no_zero():
    augmenter = Uncounted()
    batch = augmenter(*draw_batch(0))
    assert batch.divisor_ratio(0) == 6


def test_a_pair_loss_says_that_it_counts_no_embeddings():
    with pytest.raises(ValueError, match="`augmenter` to be one whose embeddings are all counted"):
        SynthesisLoss(losses.ContrastiveLoss(), Uncounted())(*draw_batch(0))
