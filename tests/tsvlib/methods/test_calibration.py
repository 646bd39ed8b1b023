# SPDX-License-Identifier: MIT
"""SVC is its paper's formula after any method, and divides nothing by a response that is not there."""

from collections.abc import Callable, Sequence

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import Array, orthonormal
from torch import Tensor

from tsvlib import linalg, merging
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite
from tsvlib.methods import calibration, ties
from tsvlib.methods.averages import task_arithmetic
from tsvlib.methods.base import Merge
from tsvlib.methods.tsv import tsv_m
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

seeds = st.integers(0, 2**32 - 1)
SHAPES = [(14, 9), (9, 14), (12, 12)]
NONE = 1e-6
"""Relative to the largest response of a task, what the transcription takes for none."""


def calibrated(
    deltas: Sequence[Tensor],
    merge: Callable[[Layer], Tensor] = task_arithmetic,
    post: Callable[[Suite, Merge], Merge] = calibration.svc,
) -> Tensor:
    suite = MemorySuite([{"w": delta} for delta in deltas])
    return merging.update(post(suite, merge), suite, "w")


def li(deltas: Sequence[Array], merged: Array, bound: float) -> Array:
    """Transcribe SVC for one layer, component by component."""
    u, sigma, vh = np.linalg.svd(merged, full_matrices=False)
    largest = [max(np.linalg.norm(u[:, r] @ delta) for r in range(len(sigma))) for delta in deltas]
    for r in range(len(sigma)):
        response, held = u[:, r] @ merged, []
        for delta, most in zip(deltas, largest, strict=True):
            own = u[:, r] @ delta
            none = np.linalg.norm(own) <= NONE * most
            held.append(bound if none else max(response @ own / (own @ own), bound))
        sigma[r] /= np.mean(held)
    found: Array = u @ np.diag(sigma) @ vh
    return found


def experts(shape: tuple[int, int], n_tasks: int, seed: int) -> list[Tensor]:
    return [oracles.matrix(*shape, 100 * seed + task).float() for task in range(n_tasks)]


def arrays(deltas: Sequence[Tensor]) -> list[Array]:
    return [delta.double().numpy() for delta in deltas]


def error(found: Tensor, expected: Array | Tensor) -> float:
    wanted = torch.as_tensor(expected).double()
    return float((found.double() - wanted).norm() / wanted.norm())


def diagonal(*values: float) -> Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float32))


def test_what_all_tasks_hold_alike_is_counted_once() -> None:
    delta = oracles.matrix(7, 5, 0).float()
    torch.testing.assert_close(calibrated([delta] * 3), delta, rtol=1e-5, atol=1e-6)


def test_a_task_without_a_response_counts_with_the_bound() -> None:
    apart = [diagonal(2, 0), diagonal(0, 1)]
    torch.testing.assert_close(calibrated(apart), diagonal(2, 1) / 0.75)
    torch.testing.assert_close(calibrated(apart, post=calibration.svc_bounded(1.0)), diagonal(2, 1))


def test_opposed_responses_count_with_the_bound_one_by_one() -> None:
    # Of the sum 2, the tasks hold 2/3 and -2 times their own; an earlier version of the authors' code left it alone,
    # and the maximum of bound and mean would give 4.
    found = calibrated([diagonal(3, 0), diagonal(-1, 0)])
    torch.testing.assert_close(found, diagonal(2 / ((2 / 3 + 1 / 2) / 2), 0))


def test_responses_are_taken_along_the_merged_directions_not_those_of_each_task() -> None:
    # Both tasks have the directions of the axes, the first in another order, as FusionBench would match them up.
    found = calibrated([diagonal(1, 2), diagonal(6, 1)])
    expected = diagonal(7 / ((7 / 1 + 7 / 6) / 2), 3 / ((3 / 2 + 3 / 1) / 2))
    torch.testing.assert_close(found, expected)


def test_directions_that_no_task_responds_in_are_left_as_they_are() -> None:
    found = calibrated([diagonal(1, 0), diagonal(2, 0)], lambda layer: diagonal(3, 5))
    torch.testing.assert_close(found, diagonal(3 / ((3 + 1.5) / 2), 5))
    # The same in directions of which rounding leaves something.
    u, v = orthonormal(8, 8, 1), orthonormal(8, 8, 2)
    deltas = [(u[:, :2] @ oracles.matrix(2, 8, 5 + task)).float() for task in range(2)]
    strange = (9 * torch.outer(u[:, 7], v[:, 7])).float()
    torch.testing.assert_close(calibrated(deltas, lambda layer: strange), strange, rtol=1e-5, atol=1e-5)


def test_how_often_a_response_is_held_is_there_to_be_looked_at() -> None:
    suite = MemorySuite([{"w": diagonal(1, 0)}, {"w": torch.zeros(2, 2)}, {"w": diagonal(-2, 4)}])
    layer = Layer(suite, "w", n_parts=1)
    found = calibration.held(layer, linalg.svd(diagonal(1, 4).double()))
    nan = torch.nan
    expected = torch.tensor([[nan, 1.0], [nan, nan], [1.0, -0.5]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_tasks", [2, 3, 4])
@pytest.mark.parametrize("bound", [None, 0.05, 1.0])
def test_it_is_its_papers_formula(shape: tuple[int, int], n_tasks: int, bound: float | None) -> None:
    deltas = experts(shape, n_tasks, 1)
    post = calibration.svc_bounded(bound) if bound else calibration.svc
    expected = li(arrays(deltas), np.sum(arrays(deltas), 0), bound or 1 / n_tasks)
    assert error(calibrated(deltas, post=post), expected) <= 1e-5
    assert error(calibrated([delta.double() for delta in deltas], post=post), expected) <= 1e-9


@given(seed=seeds, n_tasks=st.integers(2, 5))
@settings(max_examples=20)
def test_after_tsv_merge_it_only_shrinks_with_the_bound_of_one(seed: int, n_tasks: int) -> None:
    deltas = [oracles.matrix(13, 10, seed + task) for task in range(n_tasks)]
    merged = calibrated(deltas, tsv_m, lambda suite, merge: merge)
    found = calibrated(deltas, tsv_m, calibration.svc_bounded(1.0))
    assert error(found, li(arrays(deltas), merged.numpy(), 1.0)) <= 1e-7
    assert (torch.linalg.svdvals(found) <= torch.linalg.svdvals(merged) + 1e-9).all()


def test_what_is_rounding_error_in_the_merged_matrix_stays_so() -> None:
    # TSV-Merge of three tasks fills nine of ten directions; the tasks respond in the last one, too.
    found = calibrated(experts((13, 10), 3, 1), tsv_m, calibration.svc_bounded(1e-6))
    sizes = torch.linalg.svdvals(found)
    assert sizes[-1] <= 1e-6 * sizes[0]


def test_a_method_that_sees_the_whole_suite_is_followed_too() -> None:
    vectors = [{"w": delta, "b": delta[0]} for delta in experts((9, 7), 3, 2)]
    suite = MemorySuite(vectors)
    plain = ties.ties(suite)
    merged = merging.update(plain, suite, "w")
    found = merging.update(calibration.svc(suite, plain), suite, "w")
    expected = li(arrays([vector["w"] for vector in vectors]), merged.double().numpy(), 1 / 3)
    assert error(found, expected) <= 1e-5
    same = merging.update(calibration.svc(suite, plain), suite, "b")
    assert torch.equal(same, merging.update(plain, suite, "b"))


def test_experts_of_low_rank_or_without_a_change_are_calibrated() -> None:
    low = [linalg.truncate(linalg.svd(delta.double()), 2).product().float() for delta in experts((12, 9), 3, 4)]
    deltas = [*low, torch.zeros(12, 9)]
    expected = li(arrays(deltas), np.sum(arrays(deltas), 0), 1 / 4)
    assert error(calibrated(deltas), expected) <= 1e-5
    # The silent expert counts with the bound, so that it is not as if it were not there.
    assert error(calibrated(low, post=calibration.svc_bounded(1 / 4)), expected) > 0.01


def test_the_size_of_the_merged_matrix_does_not_matter_where_no_bound_does() -> None:
    deltas = [torch.eye(6) + 0.1 * oracles.matrix(6, 6, task).float() for task in range(3)]
    post = calibration.svc_bounded(1e-9)
    third = calibrated(deltas, lambda layer: 0.3 * layer.total(), post)
    assert error(third, calibrated(deltas, post=post)) <= 1e-5


@given(order=st.permutations(range(3)), seed=seeds)
@settings(max_examples=15)
def test_the_order_of_tasks_does_not_matter(order: list[int], seed: int) -> None:
    deltas = [oracles.matrix(11, 9, seed + task) for task in range(3)]
    assert error(calibrated([deltas[task] for task in order]), calibrated(deltas)) <= 1e-9


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-30), (torch.float32, 1e30),
                                              (torch.float64, 1e-200), (torch.float64, 1e200)])  # fmt: skip
def test_it_scales_with_its_input_where_a_fixed_least_square_would_not(dtype: torch.dtype, scale: float) -> None:
    deltas = [delta.to(dtype) for delta in experts((8, 10), 3, 4)]
    found = calibrated([delta * scale for delta in deltas])
    assert error(found / scale, calibrated(deltas)) <= 1e-5


def test_nothing_comes_of_nothing_and_parts_are_calibrated_apart() -> None:
    assert not calibrated([torch.zeros(4, 4)] * 2).any()
    deltas = experts((18, 9), 3, 3)
    suite = MemorySuite([{"attn.in_proj_weight": delta} for delta in deltas])
    function = calibration.svc(suite, task_arithmetic)
    found = merging.update(function, suite, "attn.in_proj_weight", Computing(MatrixRule(split_qkv=True)))
    for part, rows in enumerate(found.chunk(3)):
        torch.testing.assert_close(rows, calibrated([delta.chunk(3)[part] for delta in deltas]))


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_is_a_number_above_zero(bound: float) -> None:
    with pytest.raises(InputError, match="no bound of a calibration; choose a number above zero"):
        calibration.svc_bounded(bound)


def test_what_explodes_before_or_after_is_named() -> None:
    for deltas in ([torch.full((6, 6), 2e38)] * 2, [diagonal(3e38, 0), diagonal(0, 1e38)]):
        with pytest.raises(InputError, match="`w`: the weights have exploded"):
            calibrated(deltas)
