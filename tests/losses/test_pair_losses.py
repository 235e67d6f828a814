"""Losses without proxies: synthetic rows join the batch, and the tuples that were mined from it."""

from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning import distances, losses

from cases import CLOSE, Mirror, draw_batch, pairs, triplets
from pml_synthesis import Compose, SynthesisLoss

PAIR_LOSSES = {
    "contrastive": losses.ContrastiveLoss,
    "triplet": losses.TripletMarginLoss,
    "multi-similarity": losses.MultiSimilarityLoss,
    "ntxent": losses.NTXentLoss,
}


@pytest.mark.parametrize("loss_class", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
def test_pair_losses_join_rows(loss_class):
    x, y = draw_batch(0)
    value = SynthesisLoss(loss_class(), Mirror())(x, y)
    expected = loss_class()(torch.cat([x, -x]), torch.cat([y, y]))
    torch.testing.assert_close(value, expected, **CLOSE)


@pytest.mark.parametrize("loss_class", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
@pytest.mark.parametrize("mine", [triplets, pairs])
def test_pair_losses_repeat_tuples_with_the_synthetic_row_as_anchor(loss_class, mine):
    x, y = draw_batch(0)
    tuples = mine(y)
    value = SynthesisLoss(loss_class(), Compose([Mirror(), Mirror()]))(x, y, tuples)

    def repeated(anchors, other):
        copies = [anchors + times * len(y) for times in range(3)]
        return torch.cat(copies), other.repeat(3)

    if len(tuples) == 3:
        anchors, positives = repeated(*tuples[:2])
        expected_tuples = anchors, positives, tuples[2].repeat(3)
    else:
        expected_tuples = repeated(*tuples[:2]) + repeated(*tuples[2:])
    joined = torch.cat([x, -x, -x]), y.repeat(3)
    torch.testing.assert_close(value, loss_class()(*joined, expected_tuples), **CLOSE)


def test_pair_losses_take_ref_emb():
    x, y = draw_batch(0)
    ref, ref_labels = draw_batch(1)
    value = SynthesisLoss(losses.TripletMarginLoss(), Mirror())(x, y, None, ref, ref_labels)
    joined = torch.cat([x, -x]), torch.cat([y, y])
    expected = losses.TripletMarginLoss()(*joined, None, ref, ref_labels)
    torch.testing.assert_close(value, expected, **CLOSE)


class Doubled(Mirror):
    """Makes rows of twice the norm of their sources, which counts or not."""

    def __init__(self, keeps_norms):
        super().__init__()
        self.keeps_norms = keeps_norms

    def synthesize(self, batch, generator):
        mirrored = super().synthesize(batch, generator)
        return replace(mirrored, embeddings=2 * mirrored.embeddings, keeps_norms=self.keeps_norms)


def test_rows_may_keep_their_norms():
    x, y = draw_batch(0)
    distance = distances.LpDistance(normalize_embeddings=False)
    loss = losses.ContrastiveLoss(pos_margin=0, neg_margin=9, distance=distance)
    value = SynthesisLoss(loss, Compose([Doubled(True), Doubled(False)]))(x, y)
    expected = loss(torch.cat([x, -2 * x, -x]), y.repeat(3))
    torch.testing.assert_close(value, expected, **CLOSE)
