import pytest
import torch

from ranks import LOSSES, train, train_as_rank

WORLD_SIZE = 2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(train_as_rank, (WORLD_SIZE, str(folder)), nprocs=WORLD_SIZE)
    return [torch.load(folder / f"{rank}.pth") for rank in range(WORLD_SIZE)]


@pytest.mark.parametrize("name", LOSSES)
def test_ranks_together_give_the_gradients_of_one_process(ranks, name):
    """As PML's bare losses do (the control): those of the loss's own weights times world_size."""
    close = {"rtol": 1e-9, "atol": 1e-9}
    for rank in range(WORLD_SIZE):
        for got, expected in zip(ranks[rank][name], train(name), strict=True):
            value, trunk, proxies = expected
            torch.testing.assert_close(got[0], WORLD_SIZE * value, **close)
            torch.testing.assert_close(got[1], trunk, **close)
            torch.testing.assert_close(got[2], WORLD_SIZE * proxies, **close)
