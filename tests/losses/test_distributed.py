import pytest
import torch

from cases import CLOSE
from ranks import LOSSES, train, train_as_rank


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(train_as_rank, (request.param, str(folder)), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(request.param)]


@pytest.mark.parametrize("name", LOSSES)
def test_ranks_together_give_the_gradients_of_one_process(ranks, name):
    """As PML's bare losses do (the control): those of the loss's own weights times world_size."""
    for results in ranks:
        for got, expected in zip(results[name], train(name), strict=True):
            value, trunk, *proxies = expected
            torch.testing.assert_close(got[0], len(ranks) * value, **CLOSE)
            torch.testing.assert_close(got[1], trunk, **CLOSE)
            torch.testing.assert_close(got[2:], [len(ranks) * grad for grad in proxies], **CLOSE)
