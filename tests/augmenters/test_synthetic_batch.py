import pytest
import torch

from pml_synthesis import SyntheticBatch

INDICES = torch.arange(3)


@pytest.mark.parametrize(
    "fields, message",
    [
        ((torch.zeros(3), INDICES, torch.zeros(0, 3), INDICES), "`embeddings` to be of shape"),
        ((torch.zeros(3, 2), INDICES[:2], torch.zeros(0, 2), INDICES), "`labels` to be of shape"),
        ((torch.zeros(3, 2), INDICES / 1, torch.zeros(0, 2), INDICES), "`labels` to be integers"),
        ((torch.zeros(3, 2), INDICES, torch.zeros(0, 2), INDICES[:1]), "`source` to be of shape"),
        ((torch.zeros(3, 2), INDICES, torch.zeros(1, 4), INDICES), "`proxies` to be of shape"),
    ],
)
def test_a_synthetic_batch_must_fit_together(fields, message):
    with pytest.raises(ValueError, match=message):
        SyntheticBatch(*fields)


@pytest.mark.parametrize(
    "partner, message",
    [
        (INDICES / 1, "`partner` to be integers"),
        (INDICES[:1], r"`partner` to be of shape \[3\], one for each embedding"),
    ],
)
def test_wrong_partners(partner, message):
    fields = torch.zeros(3, 2), INDICES, torch.zeros(0, 2), INDICES
    with pytest.raises(ValueError, match=message):
        SyntheticBatch(*fields, partner=partner)


def test_partners_must_be_real_embeddings():
    fields = torch.zeros(3, 2), INDICES, torch.zeros(0, 2), INDICES
    batch = SyntheticBatch(*fields, partner=INDICES + 1)
    with pytest.raises(ValueError, match="`partner` to be from -1 to 2, but got .*1 to 3"):
        batch.check_indices(batch_size=3, num_classes=None)
