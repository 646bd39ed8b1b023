# SPDX-License-Identifier: MIT
"""Interference and the distance to orthonormal vectors are what the paper's equations and theorems say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import equation_6, flipped, matrix, orthonormal

from tsvlib import linalg, sti
from tsvlib.errors import InputError
from tsvlib.linalg import Factors
from tsvlib.methods import tsv

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 12)


def tasks(n_tasks: int, seed: int, rows: int = 7, columns: int = 5) -> list[linalg.Factors]:
    return [linalg.svd(matrix(rows, columns, seed + task)) for task in range(n_tasks)]


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
    found, expected = sti.singular_task_interference(factors), equation_6(factors)
    assert found.entrywise == pytest.approx(float(expected.abs().sum()), rel=1e-9, abs=1e-9)
    assert found.induced == pytest.approx(float(torch.linalg.matrix_norm(expected, 1)), rel=1e-9, abs=1e-9)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=4), sizes, sizes, seeds)
def test_what_is_left_is_equation_6_of_any_vectors(ranks: list[int], rows: int, columns: int, seed: int) -> None:
    factors = [
        Factors(matrix(rows, k, seed + i), matrix(1, k, seed + 9 + i)[0].abs(), matrix(k, columns, seed + 99 + i))
        for i, k in enumerate(ranks)
    ]
    found, expected = sti.remaining_interference(factors), equation_6(factors)
    assert found.entrywise == pytest.approx(float(expected.abs().sum()), rel=1e-9, abs=1e-9)
    assert found.induced == pytest.approx(float(torch.linalg.matrix_norm(expected, 1)), rel=1e-9, abs=1e-9)


@settings(max_examples=20)
@given(st.integers(1, 5), sizes, sizes, seeds)
def test_of_orthonormal_vectors_everything_is_left(n_tasks: int, rows: int, columns: int, seed: int) -> None:
    factors = tasks(n_tasks, seed, rows, columns)
    expected = tuple(sti.singular_task_interference(factors))
    assert tuple(sti.remaining_interference(factors)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.integers(1, 6), st.integers(1, 5), seeds)
def test_interference_of_identical_tasks_has_a_closed_form(n_tasks: int, k: int, seed: int) -> None:
    one = linalg.truncate(linalg.svd(matrix(8, 6, seed)), k)
    found = sti.singular_task_interference([one] * n_tasks)
    assert found.entrywise == pytest.approx(float(one.s.sum()) * n_tasks * (n_tasks - 1) ** 2, rel=1e-9, abs=1e-9)
    assert found.induced == pytest.approx(float(one.s[0]) * (n_tasks - 1) ** 2, rel=1e-9, abs=1e-9)


@given(st.integers(1, 6), sizes, seeds)
def test_what_is_left_of_identical_tasks_has_a_closed_form(n_tasks: int, n: int, seed: int) -> None:
    # All of their vectors side by side become the same ones over sqrt(T), which leaves I - 11ᵀ / T for each component.
    one = linalg.svd(matrix(n, n, seed))
    found = sti.remaining_interference(tsv.orthogonalised([one] * n_tasks))
    assert found.entrywise == pytest.approx(2 * (n_tasks - 1) * float(one.s.sum()), rel=1e-6, abs=1e-9)
    assert found.induced == pytest.approx(2 * (n_tasks - 1) / n_tasks * float(one.s[0]), rel=1e-6, abs=1e-9)


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


@pytest.mark.parametrize("size", [-1, 4])
def test_a_suite_of_tasks_that_are_not_there_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"a suite of {size} cannot be taken from 3 task matrices"):
        sti.nested_interference(tasks(3, 0), [2, size])


def test_no_task_disturbs_none() -> None:
    nothing = sti.Interference(0.0, 0.0)
    assert sti.singular_task_interference([]) == nothing
    assert sti.remaining_interference([]) == nothing
    assert sti.nested_interference(tasks(2, 0), [0, 2])[0] == nothing


def test_interference_of_two_collinear_rank_one_tasks() -> None:
    u, v = orthonormal(4, 1, 0), orthonormal(3, 1, 1).T
    weights = (torch.tensor([3.0]).double(), torch.tensor([0.5]).double())
    factors = [linalg.Factors(u, s, v) for s in weights]
    assert sti.singular_task_interference(factors).entrywise == pytest.approx(3.5)


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
