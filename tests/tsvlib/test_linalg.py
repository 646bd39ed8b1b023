# SPDX-License-Identifier: MIT
"""The mathematics keeps the promises that the paper's propositions make."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import matrix, orthonormal
from torch import Tensor

from tsvlib import linalg, sti
from tsvlib.errors import InputError
from tsvlib.linalg import Factors

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 12)


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


@given(sizes, sizes, seeds)
def test_procrustes_error_is_the_distance_to_the_closest_orthonormal_matrix(one: int, other: int, seed: int) -> None:
    x = matrix(one, other, seed)
    expected = (linalg.orthogonalise(x) - x).norm()
    assert sti.procrustes_error(x) == pytest.approx(float(expected), abs=1e-9)
    assert sti.procrustes_error(orthonormal(max(one, other), min(one, other), seed)) == pytest.approx(0, abs=1e-9)


@given(st.integers(2, 12), st.integers(5, 9), st.integers(1, 12), seeds)
def test_low_rank_lowers_the_procrustes_error_as_theorem_6_1_says(n: int, n_tasks: int, k: int, seed: int) -> None:
    blocks = [orthonormal(n, n, seed + task) for task in range(n_tasks)]
    full = sti.procrustes_error(torch.cat(blocks, dim=1))
    assert full == pytest.approx(math.sqrt(n) * (math.sqrt(n_tasks) - 1))
    if k <= n * (n_tasks - 2 * math.sqrt(n_tasks)) / n_tasks:
        low = sti.procrustes_error(torch.cat([block[:, :k] for block in blocks], dim=1))
        assert low <= full + 1e-9


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
def test_leading_space_is_as_exact_as_that_of_a_float32_svd(slope: float, shape: tuple[int, int]) -> None:
    delta, k = decaying(*shape, slope, 0), 15
    best = linalg.truncate(linalg.svd(delta.double()), k).product()
    ours, lapack = linalg.leading(delta, k).product(), linalg.truncate(linalg.svd(delta), k).product()
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
    assert sti.singular_task_interference(factors).entrywise == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=20)
@given(st.integers(1, 4), sizes, sizes, seeds)
def test_both_norms_are_those_of_the_dense_product(n_tasks: int, rows: int, columns: int, seed: int) -> None:
    factors = tasks(n_tasks, seed, rows, columns)
    u, vh = torch.cat([f.u for f in factors], 1), torch.cat([f.vh for f in factors])
    identity = torch.eye(u.shape[1], dtype=u.dtype)
    dense = (u.T @ u - identity) @ torch.cat([f.s for f in factors]).diag() @ (vh @ vh.T - identity)
    found = sti.singular_task_interference(factors)
    assert found.entrywise == pytest.approx(float(dense.abs().sum()), rel=1e-9, abs=1e-9)
    assert found.induced == pytest.approx(float(torch.linalg.matrix_norm(dense, 1)), rel=1e-9, abs=1e-9)


@given(st.integers(1, 6), st.integers(1, 5), seeds)
def test_interference_of_identical_tasks_has_a_closed_form(n_tasks: int, k: int, seed: int) -> None:
    one = linalg.truncate(linalg.svd(matrix(8, 6, seed)), k)
    found = sti.singular_task_interference([one] * n_tasks)
    assert found.entrywise == pytest.approx(float(one.s.sum()) * n_tasks * (n_tasks - 1) ** 2, rel=1e-9, abs=1e-9)
    assert found.induced == pytest.approx(float(one.s[0]) * (n_tasks - 1) ** 2, rel=1e-9, abs=1e-9)


@given(st.integers(1, 4), st.integers(1, 3), seeds)
def test_no_interference_between_orthogonal_tasks(n_tasks: int, k: int, seed: int) -> None:
    u, v = orthonormal(12, 12, seed), orthonormal(14, 14, seed + 1)
    factors = [
        linalg.Factors(u[:, k * task : k * (task + 1)], torch.ones(k).double(), v[k * task : k * (task + 1)])
        for task in range(n_tasks)
    ]
    assert sti.singular_task_interference(factors).entrywise == pytest.approx(0, abs=1e-10)


@given(st.permutations(range(4)), seeds)
def test_interference_ignores_order_and_signs(order: list[int], seed: int) -> None:
    factors = tasks(4, seed)
    turned = [flipped(factors[task], seed + task) for task in order]
    expected = pytest.approx(tuple(sti.singular_task_interference(factors)), rel=1e-9)
    assert tuple(sti.singular_task_interference(turned)) == expected


@settings(max_examples=10)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), sizes, sizes, seeds)
def test_nested_suites_interfere_as_each_does_alone(suites: list[int], rows: int, columns: int, seed: int) -> None:
    factors = tasks(5, seed, rows, columns)
    alone = [sti.singular_task_interference(factors[:size]) for size in suites]
    found = sti.nested_interference(factors, suites)
    assert np.array(found) == pytest.approx(np.array(alone), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("size", [0, 4])
def test_a_suite_of_tasks_that_are_not_there_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"a suite of {size} cannot be taken from 3 task matrices"):
        sti.nested_interference(tasks(3, 0), [2, size])


def test_interference_of_two_collinear_rank_one_tasks() -> None:
    u, v = orthonormal(4, 1, 0), orthonormal(3, 1, 1).T
    weights = (torch.tensor([3.0]).double(), torch.tensor([0.5]).double())
    factors = [linalg.Factors(u, s, v) for s in weights]
    assert sti.singular_task_interference(factors).entrywise == pytest.approx(3.5)


@given(sizes, sizes, seeds)
def test_signed_factors_stand_for_the_same_matrix_whatever_the_signs_were(rows: int, columns: int, seed: int) -> None:
    factors = linalg.svd(matrix(rows, columns, seed))
    found, other = linalg.signed(factors), linalg.signed(flipped(factors, seed))
    torch.testing.assert_close(found.product(), factors.product())
    assert all(torch.equal(one, two) for one, two in zip(found, other, strict=True))
    assert (found.u.max(dim=0).values >= -found.u.min(dim=0).values).all()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("n", [64, 256])
def test_interference_of_few_components_keeps_its_digits(n: int, k: int) -> None:
    generator = torch.Generator().manual_seed(1)
    factors = [linalg.leading(torch.randn(n, n, generator=generator), k) for _ in range(2)]
    u, v = (torch.cat(parts, 1).double() for parts in ([f.u for f in factors], [f.vh.mT for f in factors]))
    s = torch.cat([f.s for f in factors]).double()
    # Singular vectors of one task are orthonormal but for rounding, which is no interference.
    own = torch.block_diag(*[torch.ones(k, k, dtype=torch.float64)] * 2)
    left, right = ((x.mT @ x) * (1 - own) for x in (u, v))
    expected = float(((left * s) @ right).abs().sum())
    assert sti.singular_task_interference(factors).entrywise == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-36, 1e30])
@pytest.mark.parametrize("k", [2, 16])
def test_interference_is_in_the_unit_of_the_singular_values(scale: float, k: int) -> None:
    generator = torch.Generator().manual_seed(2)
    factors = [linalg.leading(torch.randn(24, 16, generator=generator), k) for _ in range(3)]
    shifted = [Factors(f.u, f.s * scale, f.vh) for f in factors]
    expected = sti.singular_task_interference(factors)
    found = sti.singular_task_interference(shifted)
    assert found == pytest.approx([scale * norm for norm in expected], rel=1e-5)
