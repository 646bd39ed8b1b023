# SPDX-License-Identifier: MIT
"""Both sides of the paper's statements are what they claim to be, and wrong mathematics would be seen."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compendium.study import theory
from tsvlib import linalg, sti
from tsvlib.methods import tsv

seeds = st.integers(0, 2**31)


@given(st.integers(2, 10), st.integers(2, 9), st.integers(1, 10), seeds)
def test_distances_are_those_to_the_closest_orthonormal_matrix(n: int, n_tasks: int, k: int, seed: int) -> None:
    k = min(k, n)
    blocks = theory.random_blocks(n, [n] * n_tasks, seed)
    found = theory.distances(blocks, k)
    whole, part = torch.cat(blocks, dim=1), torch.cat([block[:, :k] for block in blocks], dim=1)
    assert found.full == pytest.approx(float((linalg.orthogonalise(whole) - whole).norm()))
    assert found.full == pytest.approx(found.full_formula)
    assert found.low == pytest.approx(float((linalg.orthogonalise(part) - part).norm()), abs=1e-9)
    assert found.low <= found.low_bound + 1e-9
    assert not found.applies or found.low <= found.full + 1e-9


def test_the_theorem_needs_more_than_four_tasks_and_few_components() -> None:
    applies = {
        (n_tasks, k): theory.distances(theory.random_blocks(100, [100] * n_tasks, 0), k).applies
        for n_tasks, k in [(10, 36), (10, 37), (4, 1), (5, 1)]
    }
    assert applies == {(10, 36): True, (10, 37): False, (4, 1): False, (5, 1): True}


def test_random_blocks_are_orthonormal_and_differ() -> None:
    one, two, few = theory.random_blocks(7, [7, 7, 3], 0)
    for block, columns in ((one, 7), (two, 7), (few, 3)):
        assert block.shape == (7, columns)
        torch.testing.assert_close(block.T @ block, torch.eye(columns).double())
    assert not torch.allclose(one, two)
    assert not torch.allclose(one, theory.random_blocks(7, [7, 7], 1)[0])


def test_square_blocks_are_the_vectors_of_the_short_side() -> None:
    tall, wide = (linalg.svd(torch.randn(shape).double()) for shape in ((9, 4), (4, 9)))
    assert [block.shape for block in theory.square_blocks([tall, wide])] == [(4, 4), (4, 4)]
    assert torch.equal(theory.square_blocks([tall])[0], tall.vh.T)
    assert torch.equal(theory.square_blocks([wide])[0], wide.u)


@given(st.integers(2, 6), seeds)
def test_whitening_is_the_procrustes_solution(columns: int, seed: int) -> None:
    x = torch.randn(columns + 5, columns, generator=torch.Generator().manual_seed(seed))
    assert theory.whitening_difference(x) < 1e-6


def test_nothing_is_said_where_whitening_has_no_meaning() -> None:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    x[:, 3] = x[:, 0] + 1e-6 * x[:, 3]
    assert math.isnan(theory.whitening_difference(x))


@given(st.integers(2, 4), seeds)
def test_orthogonalised_tasks_do_not_interfere_and_add_up_to_tsv_m(n_tasks: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    deltas = torch.randn(n_tasks, 12, 10, dtype=torch.float64, generator=generator)
    kept = [linalg.truncate(linalg.svd(delta), 10 // n_tasks) for delta in deltas]
    found = tsv.orthogonalised(kept)
    assert sti.singular_task_interference(kept).entrywise > 1
    assert sti.singular_task_interference(found).entrywise < 1e-9
    u, v = (linalg.orthogonalise(side) for side in theory.sides(kept))
    expected = u @ torch.cat([each.s for each in kept]).diag() @ v.T
    torch.testing.assert_close(sum(each.product() for each in found), expected)


@given(st.floats(0, 1), st.floats(0, 1))
def test_two_tasks_of_rank_one_interfere_by_twice_the_product_of_their_cosines(c: float, d: float) -> None:
    pair = theory.rank_one_pair(c, d)
    assert all(math.isclose(float(side.norm()), 1) for each in pair for side in (each.u, each.vh))
    assert sti.singular_task_interference(pair).entrywise == pytest.approx(2 * c * d, abs=1e-12)
