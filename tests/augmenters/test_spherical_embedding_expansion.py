import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import assert_same_batch, assert_same_gradients_of_batches, draw_batch, draw_proxies
from pml_synthesis import SphericalEmbeddingExpansion
from pml_synthesis.schedules import CosineSchedule
from reference import synthesize


@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize("fraction", [0.3, 1.0])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("num_expansions", [1, 4, 7])
@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
def test_equals_the_reference(order, fraction, detach, num_expansions, shape):
    x, y = draw_batch(num_expansions, order=order)
    p = draw_proxies(num_expansions, *shape)
    augmenter = SphericalEmbeddingExpansion(num_expansions, fraction, detach, seed=1)
    expected, batch = synthesize(augmenter, x, y, p), augmenter(x, y, p)
    assert_same_batch(batch, expected)
    assert batch.embeddings.requires_grad is not detach
    if not detach:
        assert_same_gradients_of_batches(batch, expected, [x, p])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**63))
def test_properties_hold_for_all_batches(batch_size, size, fraction, seed):
    x, y, p = torch.randn(batch_size, 7), torch.arange(batch_size) % 3, torch.randn(3, 7)
    batch = SphericalEmbeddingExpansion(size, fraction, seed=seed)(x, y, p)
    assert len(batch) == round(fraction * batch_size) * size
    assert torch.equal(batch.labels, y[batch.source])
    unit = torch.nn.functional.normalize
    norms = batch.embeddings.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(len(batch)), rtol=0, atol=2e-5)
    cosine = (batch.embeddings * unit(p)[batch.labels]).sum(1)
    expected = (unit(x) * unit(p)[y]).sum(1)[batch.source]
    torch.testing.assert_close(cosine, expected, rtol=0, atol=2e-5)


def test_the_best_aligned_rows_are_expanded():
    p = torch.eye(4)
    y = torch.arange(4)
    x = p + torch.tensor([0.9, 0.1, 0.5, 0.3])[:, None] * p.roll(1, 0)
    batch = SphericalEmbeddingExpansion(2, fraction=0.5)(x, y, p)
    assert set(batch.source.tolist()) == {1, 3}


@pytest.mark.parametrize("nothing", ["row", "proxy"])
def test_what_has_no_direction_is_aligned_with_nothing(nothing):
    x, y, p = torch.eye(4), torch.arange(4), torch.eye(4)
    (x if nothing == "row" else p)[2] = 0
    augmenter = SphericalEmbeddingExpansion(2, fraction=0.75, collect_stats=True)
    assert set(augmenter(x, y, p).source.tolist()) == {0, 1, 3}
    assert augmenter.mean_cosine == pytest.approx(1)


def test_the_nearest_of_several_centers_is_the_proxy():
    p = torch.eye(4).reshape(2, 2, 4)
    x = torch.tensor([[0.1, 1.0, 0.3, 0.0]])
    batch = SphericalEmbeddingExpansion(2, fraction=1.0)(x, torch.tensor([0]), p)
    cosine = x[0, 1] / x.norm()
    torch.testing.assert_close(batch.embeddings @ p[0, 1], cosine.expand(2))


def test_largest_number_of_expansions():
    x, y, p = torch.randn(3, 6), torch.arange(3), torch.randn(3, 6)
    assert len(SphericalEmbeddingExpansion(5, 1.0)(x, y, p)) == 15
    message = r"`num_expansions` to be less than the embedding size, 6, but got 6"
    with pytest.raises(ValueError, match=message):
        SphericalEmbeddingExpansion(6, 1.0)(x, y, p)


def test_fraction_follows_the_schedule_by_training_step():
    see = SphericalEmbeddingExpansion(2, CosineSchedule(0.0, 1.0, num_steps=4), collect_stats=True)
    x, y, p = torch.randn(8, 6), torch.arange(8), torch.randn(8, 6)
    rows = [len(see(x, y, p)) for _ in range(6)]
    assert rows == [0, 2, 8, 14, 16, 16]
    assert see.current_fraction == 1.0


def test_statistics_and_repr():
    see = SphericalEmbeddingExpansion(2, 0.5, seed=3, collect_stats=True)
    expected = "num_expansions=2, fraction=0.5, detach=True, seed=3"
    assert repr(see) == f"SphericalEmbeddingExpansion({expected})"
    assert (see.current_fraction, see.num_rows, see.mean_cosine) == (0, 0, 0)
    p = torch.eye(6)[:4]
    see(p, torch.arange(4), p)
    assert (see.current_fraction, see.num_rows) == (0.5, 4)
    assert see.mean_cosine == pytest.approx(1.0)
    schedule = CosineSchedule(0.0, 0.4, 10)
    assert f"fraction={schedule!r}" in repr(SphericalEmbeddingExpansion(fraction=schedule))


def test_mean_cosine_is_that_of_the_synthetic_rows():
    see = SphericalEmbeddingExpansion(2, 0.3, seed=3, collect_stats=True)
    x, y, p = torch.randn(20, 6), torch.arange(20) % 4, torch.randn(4, 6)
    batch = see(x, y, p)
    cosines = (batch.embeddings * torch.nn.functional.normalize(p)[batch.labels]).sum(1)
    assert see.mean_cosine == pytest.approx(cosines.mean().item(), abs=1e-6)


@pytest.mark.parametrize("noise", [1e-3, 5e-3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rows_taken_do_not_depend_on_the_last_bits(noise, dtype):
    # Tight classes: next to their proxies, cosines in float32 differ in nothing but rounding.
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        p = torch.randn(10, 64, dtype=dtype, generator=generator)
        y = torch.randint(10, (60,), generator=generator)
        unit = torch.nn.functional.normalize(p)[y]
        x = unit + noise * torch.randn(60, 64, dtype=dtype, generator=generator) / 8
        shuffle = torch.randperm(60, generator=generator)
        bits = 1 + 1.2e-7 * (torch.rand(60, 64, generator=generator) - 0.5)
        one = SphericalEmbeddingExpansion(2, 0.4, seed=seed)(x, y, p)
        other = SphericalEmbeddingExpansion(2, 0.4, seed=seed)((x * bits)[shuffle], y[shuffle], p)
        assert torch.equal(one.source, shuffle[other.source])


def test_statistics_of_an_empty_batch_are_zero():
    see = SphericalEmbeddingExpansion(2, 0.0, collect_stats=True)
    see(torch.randn(3, 6), torch.arange(3), torch.randn(3, 6))
    assert (see.current_fraction, see.num_rows, see.mean_cosine) == (0, 0, 0)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_wrong_num_expansions(value):
    message = r"`num_expansions` to be an integer of at least 1, but got"
    with pytest.raises(ValueError, match=message):
        SphericalEmbeddingExpansion(num_expansions=value)


@pytest.mark.parametrize(
    "value", [-0.1, 1.1, float("nan"), "0.4", CosineSchedule(0, 2, 5), CosineSchedule(-1, 0, 5)]
)
def test_wrong_fraction(value):
    with pytest.raises(ValueError, match=r"`fraction` to be a number in \[0, 1\].*but got"):
        SphericalEmbeddingExpansion(fraction=value)


def test_a_users_schedule_is_checked_when_it_is_asked():
    see = SphericalEmbeddingExpansion(2, fraction=lambda step: step * 0.8)
    x, y, p = torch.randn(4, 6), torch.arange(4), torch.randn(4, 6)
    see(x, y, p)
    see(x, y, p)
    with pytest.raises(ValueError, match=r"`fraction`.*but got 1\.6"):
        see(x, y, p)
