import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import assert_same_batch, assert_same_gradients_of_batches, draw_batch, draw_proxies
from pml_synthesis import ProxySynthesis
from reference import synthesize


@pytest.mark.parametrize("order", ["random", "sorted", "balanced", "dominated"])
@pytest.mark.parametrize("mu", [0.3, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_reference(order, mu, shape, seed):
    x, y = draw_batch(seed, order=order)
    p = draw_proxies(seed, *shape)
    augmenter = ProxySynthesis(alpha=0.7, mu=mu, seed=seed)
    expected, batch = synthesize(augmenter, x, y, p), augmenter(x, y, p)
    assert_same_batch(batch, expected)
    assert_same_gradients_of_batches(batch, expected, [x, p])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 6), max_size=40),
    st.floats(0, 3),
    st.floats(0.05, 5),
    st.integers(0, 2**63),
)
def test_properties_hold_for_all_batches(labels, mu, alpha, seed):
    x, y = torch.randn(len(labels), 5), torch.tensor(labels, dtype=torch.int64)
    p = torch.randn(7, 5)
    batch = ProxySynthesis(alpha, mu, seed=seed)(x, y, p)
    wanted = int(mu * len(labels) + 1e-9)
    assert len(batch) <= wanted
    if labels and 2 * max(labels.count(c) for c in labels) <= len(labels):
        assert len(batch) == wanted
    ones = torch.ones(len(batch))
    torch.testing.assert_close(batch.embeddings.norm(dim=1), ones, rtol=0, atol=2e-5)
    ones = torch.ones(batch.num_new_classes)
    torch.testing.assert_close(batch.proxies.norm(dim=1), ones, rtol=0, atol=2e-5)
    # All new classes have rows, and there are no others.
    assert sorted(set(batch.labels.tolist())) == list(range(7, 7 + batch.num_new_classes))
    # Rows of a new class come from rows of one class.
    for label in batch.labels.unique():
        assert len(y[batch.source[batch.labels == label]].unique()) == 1


def test_one_synthetic_class_for_each_ordered_pair_of_classes():
    # Two classes of two rows: the pairs are (0, 1) and (1, 0), each twice.
    y = torch.tensor([0, 1, 1, 0])
    batch = ProxySynthesis(seed=0)(torch.randn(4, 6), y, torch.randn(2, 6))
    assert (len(batch), batch.num_new_classes) == (4, 2)
    assert not torch.equal(batch.proxies[0], batch.proxies[1])
    assert torch.equal(y[batch.source], batch.labels - 2)


def test_one_lambda_for_a_batch_and_another_for_the_next():
    x, y, p = torch.eye(6), torch.arange(6), torch.eye(6)
    augmenter = ProxySynthesis(alpha=1.0, seed=0, collect_stats=True)
    seen = set()
    for _ in range(5):
        batch = augmenter(x, y, p)
        values = batch.embeddings.gather(1, batch.source[:, None]).squeeze(1)
        torch.testing.assert_close(values, values[:1].expand(6))
        weight = augmenter.mixing_weight
        norm = (weight**2 + (1 - weight) ** 2) ** 0.5
        assert values[0].item() == pytest.approx(weight / norm, abs=1e-5)
        seen.add(weight)
    assert len(seen) == 5


def test_lambda_follows_the_beta_distribution():
    augmenter = ProxySynthesis(alpha=0.4, seed=0, collect_stats=True)
    x, y, p = torch.randn(2, 3), torch.arange(2), torch.randn(2, 3)
    weights = []
    for _ in range(1500):
        augmenter(x, y, p)
        weights.append(augmenter.mixing_weight)
    weights = torch.tensor(weights)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert weights.mean().item() == pytest.approx(0.5, abs=0.03)
    assert weights.var().item() == pytest.approx(1 / (4 * 1.8), abs=0.01)


@pytest.mark.parametrize("dim", [4, 16])
def test_partners_deviate_from_their_classes_independently(dim):
    # The cosine of two deviations is on the average that of all pairs of members of two classes.
    generator = torch.Generator().manual_seed(0)
    y, p = torch.arange(4).repeat_interleave(16), torch.eye(4, dim)
    deviations = torch.randn(64, dim, generator=generator)
    x = 10 * p[y] + deviations
    cosines = torch.nn.functional.normalize(deviations)
    cosines = cosines @ cosines.T
    of_partners = []
    for seed in range(200):
        batch = ProxySynthesis(seed=seed)(x, y, p)
        rows, partners = batch.row_mixture.members[batch.row_mixture.pairs]
        of_partners.append(cosines[rows, partners])
    of_all = cosines[y.unsqueeze(1) != y].mean().item()
    # The mean has a standard deviation of 0.005 in 4 dimensions and 0.0025 in 16.
    assert torch.cat(of_partners).mean().item() == pytest.approx(of_all, abs=0.02)


def test_mu_below_one_keeps_a_random_part():
    x, y, p = torch.randn(10, 4), torch.arange(10), torch.randn(10, 4)
    augmenter = ProxySynthesis(mu=0.3, seed=0)
    sources = [frozenset(augmenter(x, y, p).source.tolist()) for _ in range(40)]
    assert all(len(rows) == 3 for rows in sources)
    assert frozenset.union(*sources) == set(range(10))


def test_rows_of_a_class_meet_different_classes():
    y = torch.arange(5).repeat_interleave(4)
    batch = ProxySynthesis(seed=0)(torch.randn(20, 4), y, torch.randn(5, 4))
    assert batch.num_new_classes == 20


@pytest.mark.parametrize("labels", [[1, 1, 1], []])
def test_nothing_comes_of_one_class_or_none(labels):
    y = torch.tensor(labels, dtype=torch.int64)
    batch = ProxySynthesis()(torch.randn(len(labels), 4), y, torch.randn(2, 4))
    assert (len(batch), batch.num_new_classes) == (0, 0)


def test_mu_zero_makes_nothing():
    batch = ProxySynthesis(mu=0)(torch.randn(4, 3), torch.arange(4), torch.randn(4, 3))
    assert (len(batch), batch.num_new_classes) == (0, 0)


def test_statistics_and_repr():
    augmenter = ProxySynthesis(alpha=0.5, mu=2, seed=3, collect_stats=True)
    assert repr(augmenter) == "ProxySynthesis(alpha=0.5, mu=2, seed=3)"
    assert (augmenter.mixing_weight, augmenter.num_rows, augmenter.num_classes) == (0, 0, 0)
    y = torch.tensor([0, 0, 1, 1])
    augmenter(torch.randn(4, 3), y, torch.randn(2, 3))
    assert 0 < augmenter.mixing_weight < 1
    assert (augmenter.num_rows, augmenter.num_classes) == (8, 2)


def draw_weights(alpha, count):
    augmenter = ProxySynthesis(alpha=alpha, seed=0, collect_stats=True)
    x, y, p = torch.randn(2, 3), torch.arange(2), torch.randn(2, 3)
    for _ in range(count):
        augmenter(x, y, p)
        yield augmenter.mixing_weight


@pytest.mark.parametrize("alpha", [1e-3, 1e-300])
def test_a_very_small_alpha_takes_one_or_the_other(alpha):
    weights = torch.tensor(list(draw_weights(alpha, 400)))
    assert ((weights < 0.01) | (weights > 0.99)).float().mean() > 0.97
    assert weights.mean().item() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("alpha", [1e15, 1e308])
def test_a_very_large_alpha_mixes_evenly(alpha):
    assert all(weight == pytest.approx(0.5, abs=1e-5) for weight in draw_weights(alpha, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1, 1.7, 3, 0.01])
def test_opposite_vectors_never_cancel(dtype, scale):
    # As large an alpha gives a lambda of 1/2, and rounding differs between a and -scale a.
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, 64, dtype=torch.float64, generator=generator)
    x, p = (torch.cat([part, -scale * part]).to(dtype).requires_grad_() for part in (a, b))
    batch = ProxySynthesis(alpha=1e15, mu=3, seed=0)(x, torch.arange(4), p)
    for mixed in (batch.embeddings, batch.proxies):
        norms = torch.linalg.vector_norm(mixed.double(), dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=1e-2)
    shortest = batch.row_mixture.norms.min().item()
    assert 2 * torch.finfo(dtype).eps < shortest < 0.1
    (batch.embeddings.sum() + batch.proxies.sum()).backward()
    assert x.grad.isfinite().all() and p.grad.isfinite().all()


@pytest.mark.parametrize("mu, rows", [(0.29, 29), (0.58, 58), (1.15, 115), (0.999, 99)])
def test_mu_counts_rows_in_decimals(mu, rows):
    batch = ProxySynthesis(mu=mu)(torch.randn(100, 4), torch.arange(100), torch.randn(100, 4))
    assert len(batch) == rows


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), "0.4", True])
def test_wrong_alpha(alpha):
    with pytest.raises(ValueError, match=r"`alpha` to be a positive number, but got"):
        ProxySynthesis(alpha=alpha)


@pytest.mark.parametrize("mu", [-0.1, 1000.5, 1e300, float("nan"), None])
def test_wrong_mu(mu):
    with pytest.raises(ValueError, match=r"`mu` to be a number between 0 and 1,000, but got"):
        ProxySynthesis(mu=mu)
