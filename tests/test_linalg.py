# SPDX-License-Identifier: MIT
"""The mathematics keeps the promises that the paper's propositions make."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 12)


def matrix(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    q: Tensor = torch.linalg.qr(matrix(rows, columns, seed)).Q
    return q


def flipped(factors: linalg.Factors, seed: int) -> linalg.Factors:
    """Return the same matrix with other signs of singular vectors."""
    signs = matrix(1, len(factors.s), seed).sign()
    return linalg.Factors(factors.u * signs, factors.s, factors.vh * signs.T)


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
    error = delta - linalg.low_rank(delta, k)
    tail = torch.linalg.svdvals(delta)[k:]
    torch.testing.assert_close(error.norm(), tail.norm(), rtol=1e-9, atol=1e-12)
    assert torch.linalg.matrix_rank(linalg.low_rank(delta, k)) == min(k, rows, columns)


@given(sizes, sizes, st.integers(1, 12), seeds)
def test_no_other_matrix_of_that_rank_is_closer(rows: int, columns: int, k: int, seed: int) -> None:
    delta = matrix(rows, columns, seed)
    other = matrix(rows, k, seed + 1) @ matrix(k, columns, seed + 2)
    assert (delta - linalg.low_rank(delta, k)).norm() <= (delta - other).norm() + 1e-12


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
        linalg.low_rank(torch.eye(3), k)


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


@pytest.mark.parametrize("x", [torch.ones(5, 2), torch.ones(2, 5), torch.zeros(3, 2)])
def test_whitening_refuses_dependent_columns(x: Tensor) -> None:
    with pytest.raises(InputError, match="linearly independent columns; use `orthogonalise`"):
        linalg.whiten(x)


def tasks(n_tasks: int, seed: int, rows: int = 7, columns: int = 5) -> list[linalg.Factors]:
    return [linalg.svd(matrix(rows, columns, seed + task)) for task in range(n_tasks)]


@settings(max_examples=10)
@given(st.integers(1, 4), seeds)
def test_interference_is_equation_6_written_out(n_tasks: int, seed: int) -> None:
    factors = tasks(n_tasks, seed)
    components = [(f.u[:, i], f.s[i], f.vh[i]) for f in factors for i in range(len(f.s))]
    expected = 0.0
    for i, (u_i, _, _) in enumerate(components):
        for j, (_, _, v_j) in enumerate(components):
            terms = [
                (u_i @ u_m - float(i == m)) * s_m * (v_m @ v_j - float(m == j))
                for m, (u_m, s_m, v_m) in enumerate(components)
            ]
            expected += abs(float(sum(terms)))
    assert linalg.singular_task_interference(factors) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.integers(1, 4), st.integers(1, 3), seeds)
def test_no_interference_between_orthogonal_tasks(n_tasks: int, k: int, seed: int) -> None:
    u, v = orthonormal(12, 12, seed), orthonormal(14, 14, seed + 1)
    factors = [
        linalg.Factors(u[:, k * task : k * (task + 1)], torch.ones(k).double(), v[k * task : k * (task + 1)])
        for task in range(n_tasks)
    ]
    assert linalg.singular_task_interference(factors) == pytest.approx(0, abs=1e-10)


@given(st.permutations(range(4)), seeds)
def test_interference_ignores_order_and_signs(order: list[int], seed: int) -> None:
    factors = tasks(4, seed)
    turned = [flipped(factors[task], seed + task) for task in order]
    expected = pytest.approx(linalg.singular_task_interference(factors), rel=1e-9)
    assert linalg.singular_task_interference(turned) == expected


def test_interference_of_two_collinear_rank_one_tasks() -> None:
    u, v = orthonormal(4, 1, 0), orthonormal(3, 1, 1).T
    weights = (torch.tensor([3.0]).double(), torch.tensor([0.5]).double())
    factors = [linalg.Factors(u, s, v) for s in weights]
    assert linalg.singular_task_interference(factors) == pytest.approx(3.5)
