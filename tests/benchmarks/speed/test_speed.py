"""What speed is measured against does what it says; how fast is not asserted."""

import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.speed import per_row
from benchmarks.speed.contenders import (
    LOSSES,
    METHODS,
    Size,
    copying_steps,
    expansion_steps,
    first_steps,
    full_mem_vir,
    hardened_steps,
    mem_vir_steps,
    proxy_synthesis_steps,
    with_method,
)
from benchmarks.speed.measure import medians
from pml_synthesis import BaseAugmenter


def test_research_code_makes_rows_of_two_classes():
    x, y, p = torch.randn(12, 6), torch.arange(12) % 4, torch.randn(4, 6)
    rows, labels, classes = per_row.proxy_synthesis(x, y, p)
    assert rows.shape == (12, 6) and classes.shape == (12, 6)
    assert labels.tolist() == list(range(4, 16))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(12))
    # No synthetic proxy equals a real one: neighbours were swapped until their labels differed.
    assert (classes @ normalize(p).T).max() < 1 - 1e-6


def test_research_code_keeps_the_cosine_to_the_proxy():
    x, y, p = torch.randn(5, 8), torch.arange(5) % 2, torch.randn(2, 8)
    points = per_row.spherical_embedding_expansion(x, y, p, 3).view(5, 3, 8)
    cosines = torch.einsum("bkd,bd->bk", points, normalize(p)[y])
    expected = (normalize(x) * normalize(p)[y]).sum(dim=1, keepdim=True).expand(-1, 3)
    torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-5)


def test_research_code_recalls_what_mem_vir_recalls():
    size = Size(6, 8, 5)
    ours, listed = full_mem_vir(size, 2, 1), per_row.MemVir(2, 1)
    for _ in range(8):
        given = torch.randn(6, 8), torch.arange(6) % 5, torch.randn(5, 8)
        rows, labels, proxies = listed(*given)
        batch = ours(*given)
    assert torch.equal(batch.proxies, proxies)
    expected = sorted(zip(labels.tolist(), rows.tolist(), strict=True))
    assert sorted(zip(batch.labels.tolist(), batch.embeddings.tolist(), strict=True)) == expected


def test_research_code_mixes_rows_of_two_classes():
    x, y = torch.randn(6, 8), torch.arange(6) % 2
    rows, labels, weights = per_row.embedding_mixup(x, y)
    assert torch.equal(rows[:6], rows[6:]) and torch.equal(labels[:6], y)
    assert (labels[:6] != labels[6:]).all()
    torch.testing.assert_close(weights[:6] + weights[6:], torch.ones(6))


def test_research_code_makes_points_of_one_class():
    x, y = torch.randn(12, 6), torch.arange(12) % 3
    points, sources = per_row.embedding_expansion(x, y, 2)
    assert points.shape == (24, 6) and sources.bincount().tolist() == [2] * 12
    reflections, sources = per_row.symmetrical_synthesis(x, y)
    assert sorted(sources.tolist()) == list(range(12))
    for made in (points, reflections):
        torch.testing.assert_close(made.norm(dim=1), torch.ones(len(made)))


def test_research_code_moves_rows_as_far_as_their_class_varies():
    x, y = (
        10 + torch.randn(4000, 6) * torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        torch.arange(4000) % 2,
    )
    variances = per_row.class_variances(x, y, 2)
    torch.testing.assert_close(variances[0], x[y == 0].var(dim=0, unbiased=False))
    rows, labels = per_row.intraclass_adaptive_augmentation(x[:7], y[:7], variances * 0, 2)
    assert labels.tolist() == y[:7].tolist() * 2
    torch.testing.assert_close(rows, normalize(x[:7]).repeat(2, 1))


def test_research_code_shifts_copies_within_their_classes():
    x, y = normalize(torch.randn(6, 8), dim=1), torch.arange(6) % 3
    listed = per_row.DenselyAnchoredSampling(num_copies=2, bank_size=3)
    for step in (1, 2):
        copies, labels = listed(x, y)
        assert torch.equal(labels, y.repeat(2))
        assert {len(bank) for bank in listed.banks.values()} == {min(2 * step, 3)}
        assert {sum(counts) for counts in listed.counts.values()} == {step * 2 * 4}
    assert ((copies * x.repeat(2, 1)).sum(dim=1) > 0.999).all()


def test_steps_are_taken_in_turn_and_their_medians_returned():
    calls = []
    times = medians({name: lambda name=name: calls.append(name) for name in "ab"}, 1, most=7)
    assert calls == ["a", "b"] * 10
    assert set(times) == {"a", "b"} and all(time > 0 for time in times.values())


def test_contenders_are_of_the_sizes_that_they_say():
    size = Size(6, 8, 5)
    for loss in LOSSES:
        steps = proxy_synthesis_steps(loss, size)
        assert set(steps) == {"bare", "plain-big", "ours"}
        for step in steps.values():
            step()
    for steps in (
        expansion_steps("Proxy-Anchor", size, 2),
        mem_vir_steps("Proxy-NCA", size, 2, 1),
        copying_steps("MultiSimilarity", size),
        hardened_steps(size),
    ):
        for step in steps.values():
            step()


@pytest.mark.parametrize("method", METHODS)
def test_memory_is_measured_of_a_loss_with_its_method(method):
    size = Size(8, 16, 5)
    loss, _ = METHODS[method]
    augmenters = {
        name: [part for part in with_method(loss, name, size).modules() if is_augmenter(part)]
        for name in (method, None)
    }
    assert [len(found) for found in augmenters.values()] == [1, 0]
    first_steps(loss, method, size)()


def is_augmenter(part):
    return isinstance(part, BaseAugmenter)
