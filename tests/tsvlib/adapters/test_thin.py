# SPDX-License-Identifier: MIT
"""Products of thin matrices are decomposed as exactly as the matrices themselves, and with far less work."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from operations import Counter
from oracles import matrix
from torch import Tensor

from tsvlib import linalg
from tsvlib.adapters import Thin, thin
from tsvlib.errors import InputError

sides, ranks, seeds = st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**32 - 1)


@given(sides, sides, ranks, st.integers(1, 12), seeds)
def test_components_are_those_of_the_product(rows: int, columns: int, rank: int, k: int, seed: int) -> None:
    given_thin = Thin(matrix(rows, rank, seed), matrix(rank, columns, seed + 1))
    found, whole = thin.leading(given_thin, k), linalg.svd(given_thin.product())
    kept = min(k, rank, rows, columns)
    torch.testing.assert_close(found.s, whole.s[:kept], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.product(), linalg.truncate(whole, kept).product(), rtol=0, atol=1e-6)
    for vectors in (found.u, found.vh.mT):
        torch.testing.assert_close(vectors.mT @ vectors, torch.eye(kept, dtype=torch.float64), rtol=0, atol=1e-10)


def test_single_precision_is_resolved_to_its_last_digits() -> None:
    tall, wide = matrix(40, 6, 0).float(), matrix(6, 30, 1).float()
    wide[-1] *= 1e-6
    found = thin.leading(Thin(tall, wide), 6)
    exact = torch.linalg.svdvals(tall.double() @ wide.double())[:6]
    assert found.s.dtype == torch.float32
    torch.testing.assert_close(found.s, exact.float(), rtol=1e-6, atol=0)


def test_what_cancels_is_zero() -> None:
    column, row = matrix(8, 1, 0), matrix(1, 5, 1)
    found = thin.leading(Thin(torch.cat([column, -column], 1), torch.cat([row, row])), 2)
    assert not found.s.any()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_numbers_of_any_size(size: float) -> None:
    tall, wide = matrix(7, 2, 0), matrix(2, 5, 1)
    found = thin.leading(Thin((size * tall).float(), wide.float()), 2)
    torch.testing.assert_close(found.s.double() / size, torch.linalg.svdvals(tall @ wide)[:2], rtol=1e-5, atol=0)


def test_parts_are_those_of_the_product() -> None:
    whole = Thin(matrix(9, 2, 0), matrix(2, 5, 1))
    for number, part in enumerate(whole.product().chunk(3)):
        torch.testing.assert_close(whole.part(number, 3).product(), part)


def test_types_are_promoted_and_never_narrow() -> None:
    assert Thin(torch.ones(2, 1).half(), torch.ones(1, 2).bfloat16()).product().dtype == torch.float32
    assert Thin(torch.ones(2, 1).half(), torch.ones(1, 2).double()).product().dtype == torch.float64


def test_one_component_is_the_least() -> None:
    with pytest.raises(InputError, match=r"^0 is no rank to truncate to"):
        thin.leading(Thin(torch.ones(2, 1), torch.ones(1, 2)), 0)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(300, 200, 4), (200, 300, 16), (256, 256, 32)])
def test_low_rank_takes_less_work_than_one_product_with_the_whole_matrix(rows: int, columns: int, rank: int) -> None:
    given_thin = Thin(matrix(rows, rank, 0).float(), matrix(rank, columns, 1).float())
    with Counter() as counter:
        thin.leading(given_thin, rank)
    # Any way to decompose the whole matrix makes its Gram matrix, or reads all of it at least as often.
    gram = rows * columns * min(rows, columns)
    assert counter.operations < gram / 2
    assert counter.largest < rows * columns / 2


def test_work_grows_with_the_sides_and_not_with_their_product() -> None:
    def work(side: int) -> float:
        given_thin = Thin(matrix(side, 8, 0), matrix(8, side, 1))
        with Counter() as counter:
            thin.leading(given_thin, 8)
        return counter.operations

    assert math.isclose(work(800) - work(400), 2 * (work(400) - work(200)), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("work", "operations"),
    [
        (lambda x: x @ x.mT, 6 * 6 * 4),
        (lambda x: torch.linalg.qr(x).Q, 2 * 6 * 4 * 4),
        (lambda x: torch.linalg.svd(x, full_matrices=False).U, 6 * 4 * 4 + 9 * 4**3),
    ],
)
def test_the_counter_counts(work: Callable[[Tensor], Tensor], operations: int) -> None:
    with Counter() as counter:
        work(matrix(6, 4, 0))
    assert counter.operations == operations
