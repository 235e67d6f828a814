from functools import cache

import pytest
import torch

from cases import CLOSE
from ranks import LOSSES, start_ranks, train, train_each

alone = cache(train)


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    return start_ranks(train_each, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", LOSSES)
def test_ranks_together_give_the_gradients_of_one_process(ranks, name):
    """As PML's bare losses do (the control): those of the loss's own weights times world_size."""
    for results in ranks:
        for got, expected in zip(results[name], alone(name), strict=True):
            value, trunk, *proxies = expected
            torch.testing.assert_close(got[0], len(ranks) * value, **CLOSE)
            torch.testing.assert_close(got[1], trunk, **CLOSE)
            torch.testing.assert_close(got[2:], [len(ranks) * grad for grad in proxies], **CLOSE)
