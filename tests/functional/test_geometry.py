import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import CLOSE, assert_same_gradients
from pml_synthesis.functional import (
    mix_units,
    random_frame,
    random_signs,
    reflect,
    row_order,
    simplex_vertices,
    spherical_expansion,
)
from pml_synthesis.functional.orthonormal import (
    add_reflections_,
    householder_coefficients,
    pad_first_axes,
)
from pml_synthesis.functional.precision import finest_dtype, working_dtype
from reference.simplex import simplex
from reference.spherical_embedding_expansion import complete, expand

seeds = st.integers(0, 10_000)


def generator_of(seed):
    return torch.Generator().manual_seed(seed)


def unit_rows(rows, dim, seed, dtype=torch.float64):
    x = torch.randn(rows, dim, dtype=dtype, generator=generator_of(seed))
    return torch.nn.functional.normalize(x)


def completed(w, u, frame, signs):
    """Return further directions, orthogonal to w and u."""
    vectors, directions = pad_first_axes(frame), torch.stack([w, u], dim=1)
    on_axes, on_directions = householder_coefficients(vectors, signs, directions)
    return add_reflections_(vectors * signs[:, None], on_axes, on_directions, directions)


@pytest.mark.parametrize("dim", [*range(1, 10), 31, 128])
def test_simplex_equals_the_recursion_of_its_paper(dim):
    torch.testing.assert_close(simplex_vertices(dim), simplex(dim), **CLOSE)


@pytest.mark.parametrize("dim", [*range(1, 10), 31, 128])
def test_simplex_is_regular_and_starts_with_the_first_axis(dim):
    vertices = simplex_vertices(dim)
    expected = torch.full((dim + 1, dim + 1), -1 / dim, dtype=torch.float64).fill_diagonal_(1)
    torch.testing.assert_close(vertices @ vertices.T, expected, **CLOSE)
    assert vertices[0].tolist() == [1] + [0] * (dim - 1)


@pytest.mark.parametrize("dim", [0, -1])
def test_a_simplex_has_a_dimension(dim):
    with pytest.raises(ValueError, match="`dim` to be at least 1, but got"):
        simplex_vertices(dim)


def test_a_frame_fits_into_its_space():
    with pytest.raises(ValueError, match="`size` to be at most the dimension, 4, but got 5"):
        random_frame(5, 4, generator_of(0))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 24), st.data(), seeds)
def test_random_frame_is_orthonormal(dim, data, seed):
    size = data.draw(st.integers(1, dim))
    frame = random_frame(size, dim, generator_of(seed))
    torch.testing.assert_close(frame @ frame.T, torch.eye(size).double(), **CLOSE)


def test_random_frame_has_no_preferred_direction():
    frames = torch.stack([random_frame(2, 3, generator_of(seed)) for seed in range(3000)])
    assert frames.mean(dim=0).abs().max() < 0.05


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 24), st.data(), seeds)
def test_completion_is_orthonormal_and_beside_both_directions(dim, data, seed):
    size = data.draw(st.integers(2, dim - 1))
    w = unit_rows(4, dim, seed)
    u = unit_rows(4, dim, seed + 1)
    u = torch.nn.functional.normalize(u - (u * w).sum(1, keepdim=True) * w)
    frame = random_frame(size - 1, dim - 2, generator_of(seed))
    signs = random_signs(4, dim, generator_of(seed)).double()
    basis = torch.cat([w[:, None], u[:, None], completed(w, u, frame, signs)], dim=1)
    identity = torch.eye(size + 1, dtype=torch.float64).expand(4, -1, -1)
    torch.testing.assert_close(basis @ basis.mT, identity, rtol=0, atol=1e-12)


def test_completion_equals_reflections_written_as_matrices():
    w, u = unit_rows(3, 7, 0), unit_rows(3, 7, 1)
    u = torch.nn.functional.normalize(u - (u * w).sum(1, keepdim=True) * w)
    frame = random_frame(3, 5, generator_of(2))
    signs = random_signs(3, 7, generator_of(3)).double()
    rows = zip(w, u, signs, strict=True)
    expected = torch.stack([torch.stack(complete(a, b, frame, sign)) for a, b, sign in rows])
    torch.testing.assert_close(completed(w, u, frame, signs), expected, **CLOSE)


@pytest.mark.parametrize("num_expansions", [1, 2, 8, 63])
def test_expansion_is_exact_in_float32(num_expansions):
    dim, rows, k = 64, 20, num_expansions
    z, w = unit_rows(rows, dim, 0, torch.float32), unit_rows(rows, dim, 1, torch.float32)
    frame = random_frame(k - 1, dim - 2, generator_of(2))
    points = spherical_expansion(z, w, frame, random_signs(rows, dim, generator_of(3)))

    close = {"rtol": 0, "atol": 2e-5}
    cosine = (z * w).sum(1)
    sine2 = 1 - cosine**2
    torch.testing.assert_close(points.norm(dim=2), torch.ones(rows, k), **close)
    cosines = torch.einsum("bkd,bd->bk", points, w)
    torch.testing.assert_close(cosines, cosine[:, None].expand(-1, k), **close)
    to_seed = torch.einsum("bkd,bd->bk", points, z)
    expected = (cosine**2 - sine2 / k)[:, None].expand(-1, k)
    torch.testing.assert_close(to_seed, expected, **close)
    mean = (points.sum(dim=1) + z) / (k + 1)
    torch.testing.assert_close(mean, cosine[:, None] * w, **close)
    # Any two of the K + 1 points stand at the angle of a regular simplex.
    beside = points - cosine[:, None, None] * w[:, None]
    inner = beside @ beside.mT / sine2[:, None, None]
    off_diagonal = ~torch.eye(k, dtype=torch.bool)
    if k > 1:
        assert (inner[:, off_diagonal] + 1 / k).abs().max() < 2e-5


@pytest.mark.parametrize("num_expansions", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", range(3))
def test_expansion_equals_the_reference_with_gradients(num_expansions, seed):
    dim, rows = 7, 4
    z = (3 * unit_rows(rows, dim, seed)).requires_grad_()
    w = (2 * unit_rows(rows, dim, seed + 50)).requires_grad_()
    frame = random_frame(num_expansions - 1, dim - 2, generator_of(seed))
    signs = random_signs(rows, dim, generator_of(seed))
    ours = spherical_expansion(z, w, frame, signs)
    reference = torch.stack(
        [torch.stack(expand(z[i], w[i], list(frame), signs[i])) for i in range(rows)]
    )
    torch.testing.assert_close(ours, reference, **CLOSE)
    weights = torch.randn(ours.shape, dtype=torch.float64)
    assert_same_gradients((ours * weights).sum(), (reference * weights).sum(), [z, w])


def test_completion_has_no_preferred_direction():
    # The further direction is uniform on the circle of what is orthogonal to the two.
    dim, draws = 4, 6000
    w, u = unit_rows(1, dim, 0), unit_rows(1, dim, 1)
    u = torch.nn.functional.normalize(u - (u * w).sum(1, keepdim=True) * w)
    directions = torch.cat(
        [
            completed(
                w,
                u,
                random_frame(1, dim - 2, generator_of(seed)),
                random_signs(1, dim, generator_of(seed + 1)).double(),
            )[:, 0]
            for seed in range(draws)
        ]
    )
    beside = torch.eye(dim).double() - w.T @ w - u.T @ u
    assert directions.mean(dim=0).abs().max() < 0.05
    torch.testing.assert_close(directions.T @ directions / draws, beside / 2, rtol=0, atol=0.03)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 7), (4, 8), (400, 512)])
def test_signs_are_as_often_positive_as_negative(shape):
    signs = random_signs(*shape, generator_of(0))
    assert signs.shape == shape
    assert set(signs.unique().tolist()) <= {-1.0, 1.0}
    if signs.numel() > 1000:
        assert signs.mean().abs() < 0.01
        # Neither do neighbours in a row or column agree more often than not.
        assert (signs[1:] * signs[:-1]).mean().abs() < 0.01
        assert (signs[:, 1:] * signs[:, :-1]).mean().abs() < 0.01


def test_rows_are_expanded_in_different_directions():
    # The directions of two rows with the same embedding and proxy are close to independent.
    dim, rows = 256, 50
    z, w = unit_rows(1, dim, 0).expand(rows, -1), unit_rows(1, dim, 1).expand(rows, -1)
    frame = random_frame(1, dim - 2, generator_of(2))
    signs = random_signs(rows, dim, generator_of(3))
    u = torch.nn.functional.normalize(z - (z * w).sum(1, keepdim=True) * w)
    directions = completed(w, u, frame, signs.double())[:, 0]
    cosines = (directions @ directions.T).abs()[~torch.eye(rows, dtype=torch.bool)]
    assert cosines.mean() < 2 / dim**0.5


@pytest.mark.parametrize("case", ["equal", "opposite", "zero embedding", "zero proxy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_rows_stay_finite_with_gradients(case, dtype):
    w = unit_rows(2, 6, 0, dtype).requires_grad_()
    z = w.detach().clone()
    if case == "opposite":
        z = -z
    if case == "zero embedding":
        z = 0 * z
    if case == "zero proxy":
        w = torch.zeros_like(w, requires_grad=True)
    z = z.requires_grad_()
    frame = random_frame(2, 4, generator_of(1))
    points = spherical_expansion(z, w, frame, random_signs(2, 6, generator_of(1)))
    points.square().sum().backward()
    assert points.isfinite().all()
    assert z.grad.isfinite().all() and w.grad.isfinite().all()
    if case in ("equal", "opposite"):
        torch.testing.assert_close(points, z.detach()[:, None].expand_as(points), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    z, w = (
        unit_rows(5, 32, 0, torch.float32).to(dtype),
        unit_rows(5, 32, 1, torch.float32).to(dtype),
    )
    frame, signs = random_frame(7, 30, generator_of(0)), random_signs(5, 32, generator_of(0))
    expected = spherical_expansion(z.float(), w.float(), frame, signs).to(dtype)
    assert torch.equal(spherical_expansion(z, w, frame, signs), expected)
    assert torch.equal(reflect(z, w), reflect(z.float(), w.float()).to(dtype))


def test_working_and_finest_dtypes():
    half, single, double = (
        torch.zeros(1, dtype=t) for t in (torch.half, torch.float, torch.double)
    )
    assert working_dtype(half, half) == torch.float32
    assert working_dtype(half, double) == working_dtype(double, single) == torch.float64
    assert finest_dtype(torch.device("cpu")) == torch.float64
    assert finest_dtype(torch.device("mps")) == torch.float32


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), seeds)
def test_mixes_are_of_unit_norm_and_alike_from_both_ends(weight, seed):
    a, b = unit_rows(5, 4, seed), unit_rows(5, 4, seed + 1)
    mixed, norms = mix_units(a, b, weight)
    torch.testing.assert_close(mixed.norm(dim=1), torch.ones(5).double(), **CLOSE)
    torch.testing.assert_close(norms[:, None] * mixed, weight * a + (1 - weight) * b, **CLOSE)
    torch.testing.assert_close(mix_units(b, a, 1 - weight)[0], mixed, **CLOSE)


def test_a_mix_without_a_direction_stays_zero():
    a = unit_rows(1, 4, 0).requires_grad_()
    mixed, norms = mix_units(a, -a, 0.5)
    assert (mixed == 0).all() and norms.tolist() == [1]
    assert torch.autograd.grad(mixed.sum(), a)[0].isfinite().all()


@pytest.mark.parametrize("distance", [1e-3, 1e-7, 1e-12, 1e-20, 1e-30, 1e-40])
def test_next_to_the_proxy_gradients_stay_finite(distance):
    w = torch.tensor([[1.0, 0, 0, 0]], requires_grad=True)
    z = torch.tensor([[1.0, distance, 0, 0]], requires_grad=True)
    frame, signs = random_frame(2, 2, generator_of(0)), random_signs(1, 4, generator_of(0))
    points = spherical_expansion(z, w, frame, signs)
    (points * torch.randn(points.shape)).sum().backward()
    torch.testing.assert_close(points @ w[0], torch.ones(1, 3))
    assert z.grad.isfinite().all() and w.grad.isfinite().all()
    assert max(z.grad.norm(), w.grad.norm()) < 100


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_row_order_sees_small_differences(dtype):
    x = unit_rows(2000, 64, 0).to(dtype)
    labels = torch.zeros(2000, dtype=torch.int64)
    shuffle = torch.randperm(2000, generator=generator_of(1))
    direction = torch.randn(64, dtype=torch.float64, generator=generator_of(2))
    order = row_order(x, labels, direction)
    assert torch.equal(shuffle[row_order(x[shuffle], labels, direction)], order)


def test_row_order_within_many_classes():
    x, labels = unit_rows(5000, 8, 0), torch.arange(5000) % 3
    direction = torch.randn(8, dtype=torch.float64, generator=generator_of(2))
    order = row_order(x, labels, direction)
    along = (x @ direction)[order]
    for label in range(3):
        assert (along[labels[order] == label].diff() > 0).all()


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_row_order_does_not_depend_on_the_order_of_rows(seed):
    x, direction = unit_rows(20, 5, seed), unit_rows(1, 5, seed + 1)[0]
    labels = torch.randint(4, (20,), generator=generator_of(seed))
    shuffle = torch.randperm(20, generator=generator_of(seed))
    order = row_order(x, labels, direction)
    assert torch.equal(shuffle[row_order(x[shuffle], labels[shuffle], direction)], order)
    assert torch.equal(labels[order], labels.sort().values)
