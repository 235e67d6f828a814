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
