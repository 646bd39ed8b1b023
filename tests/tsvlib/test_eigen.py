# SPDX-License-Identifier: MIT
"""The largest eigenpairs by LAPACK's own routine, against the whole decomposition, and side by side in threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsvlib import eigen

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([torch.float32, torch.float64])


@given(st.integers(1, 40), st.integers(1, 40), dtypes, seeds)
def test_the_largest_pairs_are_those_of_the_whole(n: int, k: int, dtype: torch.dtype, seed: int) -> None:
    k = min(k, n)
    half = torch.randn(n, n, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    symmetric = half + half.T
    # Only the lower triangle may count.
    before = torch.tril(symmetric) + 7 * torch.triu(torch.ones_like(symmetric), 1)
    given_matrix = before.clone()
    values, vectors = eigen.largest_eigenpairs(given_matrix, k)
    eps = 100 * n * torch.finfo(dtype).eps
    torch.testing.assert_close(values, torch.linalg.eigvalsh(symmetric)[n - k :], rtol=0, atol=eps * 10)
    torch.testing.assert_close(symmetric @ vectors, vectors * values, rtol=0, atol=eps * 10)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(k, dtype=dtype), rtol=0, atol=eps)
    assert torch.equal(given_matrix, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 3, 30, 150])
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-4])
def test_of_a_cluster_no_pair_is_missing(dtype: torch.dtype, k: int, spread: float) -> None:
    # Where syevr is asked for a few of them, it finds fewer or fails.
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(200, 200, dtype=torch.float64, generator=generator))
    exact = 1 + spread * torch.linspace(0, 1, 200, dtype=torch.float64)
    symmetric = ((q * exact) @ q.T).to(dtype)
    values, vectors = eigen.largest_eigenpairs(symmetric, k)
    eps = 100 * 200 * torch.finfo(dtype).eps
    torch.testing.assert_close(values.double(), exact[200 - k :], rtol=0, atol=eps)
    torch.testing.assert_close(symmetric @ vectors, vectors * values, rtol=0, atol=eps)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(k, dtype=dtype), rtol=0, atol=eps)


def test_a_stack_is_what_its_matrices_are() -> None:
    half = torch.randn(3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stack = half + half.mT
    values, vectors = eigen.largest_eigenpairs(stack, 4)
    for number, symmetric in enumerate(stack):
        alone = eigen.largest_eigenpairs(symmetric, 4)
        torch.testing.assert_close(values[number], alone[0])
        torch.testing.assert_close((vectors[number].mT @ alone[1]).abs(), torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("k", [0, 4, -1])
def test_more_or_fewer_than_there_are(k: int) -> None:
    with pytest.raises(ValueError, match=f"there are no {k} eigenpairs of a matrix with 3 rows"):
        eigen.largest_eigenpairs(torch.eye(3), k)


def test_what_has_no_answer_is_an_error() -> None:
    nothing = torch.full((3, 3), float("nan"))
    with pytest.raises(RuntimeError):
        eigen.largest_eigenpairs(nothing, 2)


def test_threads_do_not_disturb_each_other() -> None:
    random = torch.Generator().manual_seed(0)
    matrices = [torch.randn(60, 60, generator=random) for _ in range(16)]
    matrices = [matrix @ matrix.T for matrix in matrices]
    alone = [eigen.largest_eigenpairs(matrix, 9) for matrix in matrices]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda matrix: eigen.largest_eigenpairs(matrix, 9), matrices))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
