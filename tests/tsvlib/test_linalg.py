# SPDX-License-Identifier: MIT
"""The mathematics keeps the promises that the paper's propositions make."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import DEVICES, flipped, matrix, orthonormal
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.linalg import Factors

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 12)


@given(sizes, sizes, seeds)
def test_svd_is_thin_ordered_and_exact(rows: int, columns: int, seed: int) -> None:
    delta = matrix(rows, columns, seed)
    u, s, vh = factors = linalg.svd(delta)
    assert u.shape == (rows, min(rows, columns))
    assert torch.equal(s, s.sort(descending=True).values)
    torch.testing.assert_close(u.T @ u, torch.eye(len(s), dtype=s.dtype))
    torch.testing.assert_close(vh @ vh.T, torch.eye(len(s), dtype=s.dtype))
    torch.testing.assert_close(factors.product(), delta)


@given(sizes, sizes, st.integers(1, 15), seeds)
def test_low_rank_error_is_the_tail_of_the_spectrum(rows: int, columns: int, k: int, seed: int) -> None:
    delta = matrix(rows, columns, seed)
    error = delta - linalg.leading(delta, k).product()
    tail = torch.linalg.svdvals(delta)[k:]
    torch.testing.assert_close(error.norm(), tail.norm(), rtol=1e-9, atol=1e-12)
    assert torch.linalg.matrix_rank(linalg.leading(delta, k).product()) == min(k, rows, columns)


@given(sizes, sizes, st.integers(1, 12), seeds)
def test_no_other_matrix_of_that_rank_is_closer(rows: int, columns: int, k: int, seed: int) -> None:
    delta = matrix(rows, columns, seed)
    other = matrix(rows, k, seed + 1) @ matrix(k, columns, seed + 2)
    assert (delta - linalg.leading(delta, k).product()).norm() <= (delta - other).norm() + 1e-12


@given(st.integers(1, 4096), st.integers(1, 64))
def test_kept_rank_of_a_share_is_exact_integer_division(rank: int, n_tasks: int) -> None:
    assert linalg.kept_rank(rank, 1 / n_tasks) == max(1, rank // n_tasks)


@pytest.mark.parametrize(
    ("rank", "fraction", "k"),
    [(768, 1 / 8, 96), (768, 1 / 14, 54), (768, 1 / 20, 38), (100, 0.29, 29), (3, 0.01, 1), (256, 1.0, 256)],
)
def test_kept_rank_of_the_papers_models(rank: int, fraction: float, k: int) -> None:
    assert linalg.kept_rank(rank, fraction) == k


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_kept_rank_refuses_what_is_no_fraction(fraction: float) -> None:
    with pytest.raises(InputError, match="choose one above 0 and up to 1"):
        linalg.kept_rank(10, fraction)


@pytest.mark.parametrize("k", [0, -1])
def test_rank_below_one_is_refused(k: int) -> None:
    with pytest.raises(InputError, match="keep at least one component"):
        linalg.leading(torch.eye(3), k)


@given(sizes, sizes, st.integers(1, 6), seeds)
def test_numerical_rank_counts_independent_directions(rows: int, columns: int, k: int, seed: int) -> None:
    product = matrix(rows, k, seed) @ matrix(k, columns, seed + 1)
    assert linalg.numerical_rank(linalg.svd(product)) == min(rows, columns, k)
    assert linalg.numerical_rank(linalg.svd(0 * product)) == 0


@given(sizes, sizes, seeds)
def test_orthogonalised_matrix_is_orthonormal_and_closest(rows: int, columns: int, seed: int) -> None:
    x = matrix(rows, columns, seed)
    closest = linalg.orthogonalise(x)
    tall = closest if rows >= columns else closest.T
    torch.testing.assert_close(tall.T @ tall, torch.eye(tall.shape[1], dtype=x.dtype))
    torch.testing.assert_close(linalg.orthogonalise(closest), closest)
    other, tall_x = orthonormal(max(x.shape), min(x.shape), seed + 1), x if rows >= columns else x.T
    assert (tall - tall_x).norm() <= (other - tall_x).norm() + 1e-12


@given(sizes, sizes, seeds)
def test_orthogonalising_commutes_with_rotation_permutation_and_sign(rows: int, columns: int, seed: int) -> None:
    x, left, right = matrix(rows, columns, seed), orthonormal(rows, rows, 1), orthonormal(columns, columns, 2)
    expected = left @ linalg.orthogonalise(x) @ right
    torch.testing.assert_close(linalg.orthogonalise(left @ x @ right), expected, rtol=1e-6, atol=1e-8)


@given(sizes, sizes, seeds)
def test_procrustes_equals_whitening(one: int, another: int, seed: int) -> None:
    x = matrix(max(one, another) + 2, min(one, another), seed)
    torch.testing.assert_close(linalg.whiten(x), linalg.orthogonalise(x), rtol=1e-7, atol=1e-9)


def test_nearly_dependent_columns_do_not_blow_up() -> None:
    x = matrix(30, 4, 0).float()
    x[:, 3] = x[:, 2] + 1e-3 * x[:, 0].roll(1)
    torch.testing.assert_close(linalg.orthogonalise(x).T @ linalg.orthogonalise(x), torch.eye(4))
    torch.testing.assert_close(linalg.whiten(x), linalg.orthogonalise(x), rtol=1e-3, atol=1e-4)


@given(st.integers(1, 5), seeds)
def test_missing_directions_stay_zero(k: int, seed: int) -> None:
    x = orthonormal(12, k, seed)
    twice = linalg.orthogonalise(torch.cat([x, x], dim=1))
    torch.testing.assert_close(twice, torch.cat([x, x], dim=1) / math.sqrt(2))
    assert not linalg.orthogonalise(torch.zeros(4, 3)).any()


def test_whitening_leaves_dependent_directions_out() -> None:
    x = orthonormal(12, 3, 0)
    for dtype in (torch.float32, torch.float64):
        twice = torch.cat([x, x], dim=1).to(dtype)
        torch.testing.assert_close(linalg.whiten(twice), twice / math.sqrt(2))
        torch.testing.assert_close(linalg.orthogonalise(twice), twice / math.sqrt(2))
    assert not linalg.whiten(torch.zeros(3, 2)).any()


@given(st.sampled_from([1e-2, 1e-3, 1e-4, 1e-5]), st.integers(2, 6), seeds)
def test_near_dependent_columns_stay_orthonormal_in_float32(angle: float, columns: int, seed: int) -> None:
    x = orthonormal(20, columns, seed)
    x[:, 1] = x[:, 0] + angle * x[:, 1]
    for orthogonalise in (linalg.orthogonalise, linalg.whiten):
        found = orthogonalise(x.float()).double()
        assert (found.T @ found - torch.eye(columns)).abs().max() < 1e-5
        # Rounding x to float32 turns the nearly lost direction by about 1e-7 / angle.
        assert (found - linalg.orthogonalise(x)).norm() < 1e-6 + 1e-6 / angle


def decaying(rows: int, columns: int, slope: float, seed: int) -> Tensor:
    """Return a float32 matrix whose singular values fall as a power of their number."""
    size = min(rows, columns)
    s = torch.arange(1, size + 1, dtype=torch.float64) ** -slope
    return ((orthonormal(rows, size, seed) * s) @ orthonormal(columns, size, seed + 1).T).float()


@settings(max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 100), st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0]), seeds)
def test_leading_components_are_those_of_the_svd(rows: int, columns: int, k: int, slope: float, seed: int) -> None:
    delta = decaying(rows, columns, slope, seed)
    found, exact = linalg.leading(delta, k), torch.linalg.svdvals(delta.double())
    kept = min(k, rows, columns)
    assert found.u.shape == (rows, kept)
    assert found.vh.shape == (kept, columns)
    assert {part.dtype for part in found} == {torch.float32}
    assert all(part.is_contiguous() for part in found)
    assert (found.s.double() - exact[:kept]).abs().max() <= 1e-6 * exact[0]
    for vectors in (found.u.double().T, found.vh.double()):
        assert (vectors @ vectors.T - torch.eye(kept)).abs().max() < 1e-5
    error = (delta.double() - Factors(*(part.double() for part in found)).product()).norm()
    assert abs(error - exact[kept:].norm()) <= 2e-6 * exact.norm()


@pytest.mark.parametrize("slope", [0.3, 0.7, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("shape", [(300, 120), (120, 300), (150, 150)])
@pytest.mark.parametrize("device", DEVICES)
def test_leading_space_is_as_exact_as_that_of_a_float32_svd(slope: float, shape: tuple[int, int], device: str) -> None:
    delta, k = decaying(*shape, slope, 0), 15
    best = linalg.truncate(linalg.svd(delta.double()), k).product()
    ours = linalg.leading(delta.to(device), k).product().cpu()
    lapack = linalg.truncate(linalg.svd(delta), k).product()
    assert (ours - best).norm() <= max(1.5 * (lapack - best).norm(), 1e-6 * best.norm())


@pytest.mark.parametrize("slopes", [(0.1, 0.2, 0.3), (0.5, 0.7, 0.9), (0.5, 2.0, 4.0), (0.3, 0.5, 30.0)])
@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_a_stack_is_decomposed_as_its_matrices_are(shape: tuple[int, int], slopes: tuple[float, ...]) -> None:
    deltas = [decaying(*shape, slope, task) for task, slope in enumerate(slopes)]
    found = linalg.leading(torch.stack(deltas), 5)
    for number, delta in enumerate(deltas):
        one = Factors(*(part[number] for part in found))
        alone = linalg.leading(delta, 5).product()
        assert (one.product() - alone).norm() <= 1e-5 * alone.norm()
        torch.testing.assert_close(one.u.T @ one.u, torch.eye(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.product()[0], Factors(*(part[0] for part in found)).product())


@pytest.mark.parametrize("delta", [torch.zeros(5, 3), torch.ones(4, 6), torch.eye(3), torch.zeros(1, 1)])
def test_leading_components_of_matrices_that_lack_rank(delta: Tensor) -> None:
    found = linalg.leading(delta, 3)
    torch.testing.assert_close(found.product(), delta)
    torch.testing.assert_close(found.u.T @ found.u, torch.eye(len(found.s)))


@given(sizes, sizes, seeds)
def test_signed_factors_stand_for_the_same_matrix_whatever_the_signs_were(rows: int, columns: int, seed: int) -> None:
    factors = linalg.svd(matrix(rows, columns, seed))
    found, other = linalg.signed(factors), linalg.signed(flipped(factors, seed))
    torch.testing.assert_close(found.product(), factors.product())
    assert all(torch.equal(one, two) for one, two in zip(found, other, strict=True))
    assert (found.u.max(dim=0).values >= -found.u.min(dim=0).values).all()
