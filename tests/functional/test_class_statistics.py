"""Means and variances of classes against torch's own, and the correction against its equations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import CLOSE
from pml_synthesis.functional import class_statistics
from pml_synthesis.functional.class_statistics import (
    class_moments,
    merged_moments,
    neighbor_correction,
)
from reference.intraclass_adaptive_augmentation import corrected


def draw_classes(seed, sizes, dim=6, dtype=torch.float64):
    """Draw embeddings of classes of the given sizes, in no order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centers = torch.randn(len(sizes), dim, dtype=torch.float64, generator=generator)
    spread = torch.rand(len(sizes), dim, dtype=torch.float64, generator=generator)
    noise = torch.randn(len(labels), dim, dtype=torch.float64, generator=generator)
    return (centers[labels] + spread[labels] * noise).to(dtype), labels


def moments_of(x, y, sizes):
    return class_moments(x, y, torch.tensor(sizes), torch.arange(len(y)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("part", [1, 7, 2**22])
def test_moments_are_those_of_torch(dtype, part, monkeypatch):
    monkeypatch.setattr(class_statistics, "_PART", part * 6)
    sizes = [1, 2, 41, 5]
    x, y = draw_classes(0, sizes, dtype=dtype)
    mean, variance = moments_of(x, y, sizes)
    assert mean.dtype == variance.dtype == torch.float64
    for label in range(len(sizes)):
        members = x[y == label].double()
        torch.testing.assert_close(mean[label], members.mean(dim=0), **CLOSE)
        torch.testing.assert_close(variance[label], members.var(dim=0, unbiased=False), **CLOSE)


def test_variances_far_from_zero_keep_their_digits():
    x, y = draw_classes(0, [50], dtype=torch.float64)
    _, near = moments_of(x, y, [50])
    _, far = moments_of(x + 1e6, y, [50])
    torch.testing.assert_close(near, far, rtol=1e-6, atol=0)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_two_sets_merge_to_the_moments_of_all(first, second, seed):
    x, y = draw_classes(seed, [first + second])
    parts = [moments_of(x[:first], y[:first], [first]), moments_of(x[first:], y[first:], [second])]
    weight = torch.tensor([[second / (first + second)]], dtype=torch.float64)
    expected = moments_of(x, y, [first + second])
    for one, other in zip(merged_moments(*parts, weight), expected, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def expected_correction(mean, variance, sizes, num_neighbors):
    statistics = {c: (mean[c], variance[c]) for c in range(len(sizes))}
    return torch.stack(list(corrected(statistics, dict(enumerate(sizes)), num_neighbors).values()))


SIZES = {
    "few and many": [1, 2, 41, 3, 40, 1, 7, 55, 12, 2],
    "one alone": [1, 41],
    "two alone": [1, 1, 2],
    "no neighbour but everywhere": [2, 1],
    "no pair": [1, 1, 1],
    "one class": [5],
    "all large": [41, 50],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("num_neighbors", [1, 3, 25])
@pytest.mark.parametrize("part", [1, 2**22])
def test_correction_equals_its_equations(sizes, num_neighbors, part, monkeypatch):
    monkeypatch.setattr(class_statistics, "_PART", part)
    x, y = draw_classes(1, sizes)
    mean, variance = moments_of(x, y, sizes)
    got = neighbor_correction(mean, variance, torch.tensor(sizes), num_neighbors)
    expected = expected_correction(mean, variance, sizes, num_neighbors)
    torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize("seed", range(5))
def test_correction_of_many_classes_equals_its_equations(seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 60, (40,), generator=generator).tolist()
    x, y = draw_classes(seed, sizes, dim=30)
    mean, variance = moments_of(x, y, sizes)
    got = neighbor_correction(mean, variance, torch.tensor(sizes), 25)
    torch.testing.assert_close(got, expected_correction(mean, variance, sizes, 25), **CLOSE)


def test_classes_of_many_embeddings_are_not_corrected_and_single_ones_entirely():
    sizes = [41, 1, 40, 60]
    x, y = draw_classes(2, sizes)
    mean, variance = moments_of(x, y, sizes)
    got = neighbor_correction(mean, variance, torch.tensor(sizes), 25)
    assert torch.equal(got[0], variance[0]) and torch.equal(got[3], variance[3])
    assert not torch.isclose(got[2], variance[2]).any()
    assert (variance[1] == 0).all() and (got[1] > 0).all()


def test_neighbours_a_thousand_apart_still_have_weights():
    """exp(-d^2 / 2) is 0 for all of them, and 0 / 0 is nothing."""
    mean = torch.tensor([[0.0], [1e3], [-2e3]], dtype=torch.float64)
    variance = torch.tensor([[1.0], [2.0], [5.0]], dtype=torch.float64)
    got = neighbor_correction(mean, variance, torch.tensor([1, 50, 50]), 25)
    # The nearest one has all the weight.
    torch.testing.assert_close(got[0, 0].item(), 0.9 * 2 + 0.1 * 3.5)
