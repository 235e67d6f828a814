"""What a process knows of the others, as each of several would see it."""

import pytest
import torch
from torch import nn
from torch.utils.data import RandomSampler

from benchmarks import distributed
from benchmarks.datasets import RandomAffine
from benchmarks.datasets.batches import SeededSampler, batches_of
from benchmarks.errors import SettingsError
from benchmarks.training import data_parallel
from few_glyphs import patterns


def as_rank(rank: int, world_size: int, monkeypatch) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    for module in (distributed, data_parallel):
        monkeypatch.setattr(module, "world_size", lambda: world_size)


@pytest.mark.parametrize(("count", "world_size"), [(1, 1), (7, 1), (7, 2), (2, 4), (12, 3)])
def test_the_rows_of_all_processes_are_all_rows_in_order(count, world_size, monkeypatch):
    rows = []
    for rank in range(world_size):
        as_rank(rank, world_size, monkeypatch)
        rows.append(distributed.own_rows(count))
    assert len({len(own) for own in rows}) == 1
    assert sum(rows, [])[:count] == list(range(count))


def test_the_parts_of_a_batch_are_equal_and_together_all_of_it(monkeypatch):
    batch = list(range(12))
    parts = []
    for rank in range(3):
        as_rank(rank, 3, monkeypatch)
        parts.append(batch[distributed.own_part(len(batch))])
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    with pytest.raises(SettingsError, match="batch_size: 13 images .* by 3 processes"):
        distributed.own_part(13)


def test_each_process_has_a_cuda_device_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert distributed.own_device(torch.device("cuda:3")).index == 3, "alone, it is free to choose"
    as_rank(5, 8, monkeypatch)
    assert distributed.own_device(cpu) == cpu
    assert chosen == []
    assert distributed.own_device(cuda) == torch.device("cuda:1")
    assert chosen == [torch.device("cuda:1")]
    with pytest.raises(ValueError, match="it is one device for 8 processes; with 'cuda' each"):
        distributed.own_device(torch.device("cuda:3"))


def test_what_rank_0_makes_or_raises_comes_from_it_in_all_processes(monkeypatch):
    sent: list[list] = []
    monkeypatch.setattr(
        distributed.dist, "broadcast_object_list", lambda made, src: sent.append(list(made))
    )

    def fail():
        raise SettingsError("wrong")

    as_rank(0, 2, monkeypatch)
    assert distributed.from_rank_0(lambda: "made") == "made"
    with pytest.raises(SettingsError, match="wrong"):
        distributed.from_rank_0(fail)

    def receive(made, src):
        assert src == 0
        made[:] = sent.pop(0)

    monkeypatch.setattr(distributed.dist, "broadcast_object_list", receive)
    as_rank(1, 2, monkeypatch)
    assert distributed.from_rank_0(pytest.fail) == "made"
    with pytest.raises(SettingsError, match="wrong"):
        distributed.from_rank_0(pytest.fail)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_processes_together_read_and_augment_what_one_does(workers, monkeypatch):
    def batches(rank: int, world_size: int) -> list[torch.Tensor]:
        as_rank(rank, world_size, monkeypatch)
        images = patterns("train")
        images.transform = RandomAffine(seed=3)
        sampler = SeededSampler(lambda: RandomSampler(images), seed=4)
        rows = distributed.own_part(16)
        loader = batches_of(images, sampler, 16, rows, workers, pin_memory=False)
        return [batch for batch, _ in loader]

    parts = zip(batches(0, 2), batches(1, 2), strict=True)
    assert all(map(torch.equal, batches(0, 1), map(torch.cat, parts)))


class ActivatedNorm(nn.BatchNorm2d):
    """A batch norm that does more than that."""


def test_batch_norms_count_all_rows_where_torch_can_and_keep_their_weights(monkeypatch):
    def make():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), ActivatedNorm(4))

    cuda = torch.device("cuda")
    as_rank(0, 2, monkeypatch)
    on_cpu = data_parallel.share_batch_statistics(make(), torch.device("cpu"))
    assert type(on_cpu[1]) is nn.BatchNorm2d
    model = make()
    parameters = list(model.parameters())
    shared = data_parallel.share_batch_statistics(model, cuda)
    assert [type(module) for module in shared] == [nn.Conv2d, nn.SyncBatchNorm, ActivatedNorm]
    assert all(a is b for a, b in zip(shared.parameters(), parameters, strict=True))
    assert shared.state_dict().keys() == make().state_dict().keys()
    alone = data_parallel.share_batch_statistics(nn.BatchNorm1d(4), cuda)
    assert isinstance(alone, nn.SyncBatchNorm)
    as_rank(0, 1, monkeypatch)
    assert type(data_parallel.share_batch_statistics(make(), cuda)[1]) is nn.BatchNorm2d
