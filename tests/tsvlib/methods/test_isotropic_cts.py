# SPDX-License-Identifier: MIT
"""Iso-CTS is its authors' algorithm, and gives no weight to directions that rounding made."""

from collections.abc import Sequence

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
from tsvlib.methods.base import layerwise
from tsvlib.methods.isotropic import iso_c
from tsvlib.methods.isotropic_cts import iso_cts, own_rank
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

seeds = st.integers(0, 2**32 - 1)
SHAPES = [(14, 10), (10, 14), (12, 12), (30, 11), (11, 30)]


def merge(experts: Sequence[Tensor], function: merging.Merge = iso_cts) -> Tensor:
    suite = MemorySuite([{"w": delta} for delta in experts])
    return merging.update(layerwise(function)(suite), suite, "w")


def marczak(deltas: Sequence[Array], floor: float = 1e-6) -> Array:
    """Transcribe Iso-CTS for one layer; below the floor, relative to all of a layer, there are no directions."""
    rank, n_tasks = min(deltas[0].shape), len(deltas)
    own = round((rank - int(0.8 * rank)) / n_tasks)
    noise = floor * max(np.linalg.norm(delta, 2) for delta in deltas)
    u, s, vh = np.linalg.svd(np.sum(deltas, 0), full_matrices=False)
    count = min(rank - n_tasks * own, int((s > noise).sum()))
    lefts, values, rights = [u[:, :count]], [s[:count]], [vh[:count].T]
    for delta in deltas:
        left, value, right = np.linalg.svd(delta - lefts[0] @ lefts[0].T @ delta, full_matrices=False)
        count = min(own, int((value > noise).sum()))
        lefts, values, rights = [*lefts, left[:, :count]], [*values, value[:count]], [*rights, right[:count].T]
    p, _, q = np.linalg.svd(np.hstack(lefts), full_matrices=False)
    u = p @ q
    p, _, q = np.linalg.svd(np.hstack(rights), full_matrices=False)
    merged: Array = np.concatenate(values).sum() / rank * u @ (p @ q).T
    return merged


def experts(shape: tuple[int, int], n_tasks: int, seed: int) -> list[Tensor]:
    return [oracles.matrix(*shape, 100 * seed + task).float() for task in range(n_tasks)]


def error(found: Tensor, expected: Array | Tensor) -> float:
    wanted = torch.as_tensor(expected).double()
    return float((found.double() - wanted).norm() / wanted.norm())


def diagonal(*values: float) -> Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float32))


def test_four_common_directions_and_one_for_each_task() -> None:
    # The sum holds 8, 7, 6 and 5 above 4; beside these, both tasks hold 2 in the same direction.
    found = merge([diagonal(8, 7, 6, 5, 2, 0), diagonal(0, 0, 0, 0, 2, 1)])
    torch.testing.assert_close(found, diagonal(5, 5, 5, 5, 5, 0))


def test_directions_of_tasks_that_are_opposed_cancel_but_count_in_the_mean() -> None:
    found = merge([diagonal(8, 7, 6, 5, 2, 0), diagonal(0, 0, 0, 0, -2, 1)])
    torch.testing.assert_close(found, diagonal(5, 5, 5, 5, 0, 0))


def test_what_is_common_is_taken_out_on_the_left_alone() -> None:
    # The second task moves the last input along a common output, which is not among the common inputs.
    first, second = diagonal(8, 7, 6, 5, 0, 0), torch.zeros(6, 6)
    second[0, 5], second[5, 4] = 1.0, 0.5
    found = merge([first, second])
    expected = marczak([first.double().numpy(), second.double().numpy()])
    assert error(found, expected) <= 1e-6
    # One direction per task, of which the first has none left.
    assert torch.linalg.matrix_rank(found, rtol=1e-4) == 5


@pytest.mark.parametrize(("rank", "n_tasks", "own"), [(768, 8, 19), (1024, 14, 15), (50, 20, 0), (7, 3, 1), (30, 4, 2)])
def test_the_room_of_a_task_is_the_one_of_the_authors_code(rank: int, n_tasks: int, own: int) -> None:
    assert own_rank(rank, n_tasks) == own


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_tasks", [2, 3, 4])
def test_it_is_its_papers_formula(shape: tuple[int, int], n_tasks: int) -> None:
    deltas = experts(shape, n_tasks, 1)
    expected = marczak([delta.double().numpy() for delta in deltas])
    assert own_rank(min(shape), n_tasks) >= (n_tasks < 4)
    assert error(merge(deltas), expected) <= 1e-5
    assert error(merge([delta.double() for delta in deltas]), expected) <= 1e-9


@given(seed=seeds, n_tasks=st.integers(2, 5), longer=st.integers(-4, 4))
@settings(max_examples=20)
def test_it_is_its_papers_formula_for_random_experts(seed: int, n_tasks: int, longer: int) -> None:
    deltas = [oracles.matrix(16, 16 + longer, seed + task) for task in range(n_tasks)]
    expected = marczak([delta.numpy() for delta in deltas], 1e-12)
    assert error(merge(deltas), expected) <= 1e-8
    rounded = [delta.float() for delta in deltas]
    assert error(merge(rounded), marczak([delta.double().numpy() for delta in rounded])) <= 1e-5


def test_an_expert_that_changed_nothing_counts_as_a_task_with_nothing_of_its_own() -> None:
    deltas = [*experts((14, 12), 2, 3), torch.zeros(14, 12)]
    assert error(merge(deltas), marczak([delta.double().numpy() for delta in deltas])) <= 1e-5
    # The room that it does not use stays empty: of twelve directions, each task has one.
    assert torch.linalg.matrix_rank(merge(deltas), rtol=1e-4) == 11


def test_directions_that_rounding_made_have_no_weight() -> None:
    low = [linalg.truncate(linalg.svd(delta.double()), 2).product().float() for delta in experts((16, 13), 3, 5)]
    found = merge(low)
    assert error(found, marczak([delta.double().numpy() for delta in low])) <= 1e-5
    assert torch.linalg.matrix_rank(found, rtol=1e-3) == 6


def test_tasks_that_lie_in_the_common_directions_bring_no_noise_of_their_own() -> None:
    basis = orthonormal(12, 3, 1)
    deltas = [(basis @ oracles.matrix(3, 12, 10 + task)).float() for task in range(2)]
    found = merge(deltas)
    assert torch.linalg.matrix_rank(found, rtol=1e-3) == 3
    assert error(found, marczak([delta.double().numpy() for delta in deltas], 1e-5)) <= 1e-5


def test_what_rounding_beside_a_large_base_left_of_experts_has_no_weight() -> None:
    base = oracles.matrix(16, 13, 9).float()
    low = [linalg.truncate(linalg.svd(delta), 2).product() / delta.norm() for delta in experts((16, 13), 3, 5)]
    found = merge([(base + delta) - base for delta in low])
    assert torch.linalg.matrix_rank(found, rtol=1e-3) == 6
    assert error(found, merge(low)) <= 1e-3


def test_a_faint_expert_keeps_its_place() -> None:
    found = merge([diagonal(8, 7, 6, 5, 4, 0), diagonal(0, 0, 0, 0, 0, 1e-9)])
    torch.testing.assert_close(found, 5 * torch.eye(6))


def test_tasks_that_cancel_but_for_rounding_leave_nothing() -> None:
    s = 0.5 ** torch.arange(10, dtype=torch.float64)
    delta = ((orthonormal(12, 10, 1) * s) @ orthonormal(10, 10, 2)).float()
    assert merge([delta, -(delta * 3) / 3]).norm() <= 1e-5 * delta.norm()
    assert not merge([delta, -delta]).norm() > 1e-6 * delta.norm()
    assert not merge([torch.zeros(12, 12)] * 2).any()


def test_without_room_for_single_tasks_it_is_iso_c() -> None:
    deltas = experts((5, 8), 3, 0)
    assert own_rank(5, 3) == 0
    assert torch.equal(merge(deltas), merge(deltas, iso_c))
    vectors = [delta[0] for delta in deltas]
    torch.testing.assert_close(merge(vectors), torch.stack(vectors).mean(0))


@given(order=st.permutations(range(3)), seed=seeds)
@settings(max_examples=15)
def test_the_order_of_tasks_does_not_matter(order: list[int], seed: int) -> None:
    deltas = [oracles.matrix(12, 15, seed + task) for task in range(3)]
    assert error(merge([deltas[task] for task in order]), merge(deltas)) <= 1e-9


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_it_scales_with_its_input(scale: float) -> None:
    deltas = experts((12, 14), 2, 4)
    found = merge([delta * scale for delta in deltas])
    assert error(found / scale, merge(deltas)) <= 1e-5


def test_experts_are_left_as_they_are() -> None:
    deltas = [oracles.matrix(12, 12, task) for task in range(2)]
    copies = [delta.clone() for delta in deltas]
    merge(deltas)
    assert all(map(torch.equal, deltas, copies))


def test_parts_are_merged_apart() -> None:
    deltas = experts((33, 12), 2, 6)
    suite = MemorySuite([{"attn.in_proj_weight": delta} for delta in deltas])
    found = merging.update(iso_cts, suite, "attn.in_proj_weight", Computing(MatrixRule(split_qkv=True)))
    for part, rows in enumerate(found.chunk(3)):
        torch.testing.assert_close(rows, merge([delta.chunk(3)[part] for delta in deltas]))


def test_exploded_experts_are_named() -> None:
    with pytest.raises(InputError, match="`w`: the weights have exploded"):
        merge([torch.full((6, 6), 2e38)] * 2)
