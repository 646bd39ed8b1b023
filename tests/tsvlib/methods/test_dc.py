# SPDX-License-Identifier: MIT
"""DC-Merge is what its authors do: the basis of TSV-Merge, sparse cores, elected signs, blocks on the diagonal."""

from collections.abc import Sequence
from pathlib import Path

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
from tsvlib.linalg import Factors
from tsvlib.methods import dc, tsv
from tsvlib.methods.base import Binding, layerwise
from tsvlib.store import Spectra
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

seeds = st.integers(0, 2**32 - 1)
orders = st.permutations(range(3))
DEFAULT = layerwise(dc.dc_merge)
WHOLE = dc.dc_merge_keeping(1.0)
SHAPES = [(14, 9), (9, 14), (12, 12), (10, 10), (40, 12)]
ROOM = 1.7e38
"""Half of the largest number of float32."""


def merge(bind: Binding, deltas: Sequence[Tensor], computing: Computing | None = None) -> Tensor:
    suite = MemorySuite([{"w": delta} for delta in deltas])
    return merging.update(bind(suite), suite, "w", computing or Computing())


def zhang(deltas: Sequence[Array], share: float, floor: float = 1e-6) -> Array:
    """Transcribe DC-Merge for one layer; tasks that changed nothing, and what is below the floor, bring nothing."""
    n_tasks = len(deltas)
    k = min(deltas[0].shape) // n_tasks
    us, ss, vs = [], [], []
    for delta in deltas:
        u, s, vh = np.linalg.svd(delta, full_matrices=False)
        kept = int((s[:k] > floor * s[0]).sum())
        if kept:
            us, ss, vs = [*us, u[:, :kept]], [*ss, s[:kept]], [*vs, vh[:kept].T]
    p, _, q = np.linalg.svd(np.hstack(us), full_matrices=False)
    left = p @ q
    p, _, q = np.linalg.svd(np.hstack(vs), full_matrices=False)
    right = p @ q
    cores = [left.T @ (u @ np.diag(s) @ v.T) @ right for u, s, v in zip(us, ss, vs, strict=True)]
    entries = max(1, int(share * (n_tasks * k) ** 2))
    for core in cores:
        if entries < core.size:
            core[np.abs(core) < np.sort(np.abs(core).ravel())[::-1][entries - 1]] = 0
    core, start = np.zeros_like(cores[0]), 0
    for size in (len(s) for s in ss):
        for a in range(start, start + size):
            for b in range(start, start + size):
                sign = np.sign(sum(one[a, b] for one in cores))
                agreeing = [one[a, b] for one in cores if one[a, b] * sign > 0]
                core[a, b] = np.mean(agreeing) if agreeing else 0
        start += size
    merged: Array = left @ core @ right.T
    return merged


def falling(shape: tuple[int, int], seed: int, base: float = 0.7) -> Tensor:
    """Return a matrix whose singular values lie far enough apart for exact directions, rounded to float32."""
    r = min(shape)
    s = base ** torch.arange(r, dtype=torch.float64)
    return ((orthonormal(shape[0], r, seed) * s) @ orthonormal(shape[1], r, seed + 1).mT).float()


def deltas(shape: tuple[int, int], n_tasks: int, seed: int) -> list[Tensor]:
    return [falling(shape, seed + 2 * task) for task in range(n_tasks)]


def error(found: Tensor, expected: Array | Tensor) -> float:
    wanted = torch.as_tensor(expected).double()
    return float((found.double() - wanted).norm() / wanted.norm())


def pair(d: float) -> list[Tensor]:
    """Return two experts with one direction each, with overlap 0.6 on the left and d on the right."""
    v = torch.tensor([d, 0.8], dtype=torch.float64)
    u = torch.tensor([0.6, 0.8], dtype=torch.float64)
    return [torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64)), torch.outer(u, v)]


def test_each_task_keeps_its_largest_entry_in_its_own_block() -> None:
    # Polar factors of [e, u] with overlap 0.6 are (3, -1) and (1, 3) by the root of ten; the cores of 2 and 1 hold 0.9
    # of each in the block of its own task.
    expected = torch.tensor([[1.71, -0.27], [-0.27, 0.99]], dtype=torch.float64)
    torch.testing.assert_close(merge(DEFAULT, pair(0.6)), expected, rtol=1e-12, atol=1e-12)


def test_entries_that_agree_are_averaged_and_others_left_out() -> None:
    # Both cores reach into both blocks: 1.8 and 0.1 in that of the first task, 0.2 and 0.9 in the other.
    agreeing = torch.tensor([[0.91, -0.12], [-0.12, 0.59]], dtype=torch.float64)
    torch.testing.assert_close(merge(WHOLE, pair(0.6)), agreeing, rtol=1e-12, atol=1e-12)
    # With the other sign on the right, 1.8 against -0.1 and -0.2 against 0.9.
    elected = torch.tensor([[1.53, 0.81], [-0.81, 0.63]], dtype=torch.float64)
    torch.testing.assert_close(merge(WHOLE, pair(-0.6)), elected, rtol=1e-12, atol=1e-12)


def test_tasks_apart_from_each_other_only_lose_their_weak_components() -> None:
    apart = [torch.diag(torch.tensor(diagonal)) for diagonal in ([4.0, 3.0, 0.0, 0.0], [0.0, 0.0, -1.0, 2.0])]
    torch.testing.assert_close(merge(DEFAULT, apart), torch.diag(torch.tensor([4.0, 0.0, 0.0, 2.0])))
    torch.testing.assert_close(merge(WHOLE, apart), sum(apart, torch.zeros(4, 4)))


@pytest.mark.parametrize("copies", [2, 3, 5])
@pytest.mark.parametrize("shape", [(8, 6), (13, 11), (21, 30)])
def test_copies_of_one_expert_share_it_for_all_their_largest_entries_are_equal(
    copies: int, shape: tuple[int, int]
) -> None:
    delta = falling(shape, 3)
    first = linalg.truncate(linalg.svd(delta), 1).product()
    torch.testing.assert_close(merge(DEFAULT, [delta] * copies), first / copies, rtol=1e-5, atol=1e-6)
    # Nor does it matter when rounding sets them apart.
    near = [delta * times / times for times in range(3, 3 + copies)]
    torch.testing.assert_close(merge(DEFAULT, near), first / copies, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bind", [DEFAULT, WHOLE])
def test_opposed_experts_leave_nothing_but_rounding_error(bind: Binding) -> None:
    delta = falling((8, 6), 0)
    for opposed in (-delta, -(delta * 3) / 3, -(delta * 7) / 7):
        assert merge(bind, [delta, opposed]).norm() <= 1e-5 * delta.norm()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_tasks", [2, 3, 4])
@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
def test_it_is_its_papers_formula(shape: tuple[int, int], n_tasks: int, share: float) -> None:
    experts = deltas(shape, n_tasks, 1)
    expected = zhang([delta.double().numpy() for delta in experts], share)
    assert error(merge(dc.dc_merge_keeping(share), experts), expected) <= 1e-5
    assert error(merge(dc.dc_merge_keeping(share), [delta.double() for delta in experts]), expected) <= 1e-9


@given(seed=seeds, share=st.sampled_from([0.02, 0.1, 0.3]), n_tasks=st.integers(2, 4))
@settings(max_examples=15)
def test_it_is_its_papers_formula_for_random_experts_in_float64(seed: int, share: float, n_tasks: int) -> None:
    experts = [oracles.matrix(13, 12, seed + task) for task in range(n_tasks)]
    expected = zhang([delta.numpy() for delta in experts], share)
    assert error(merge(dc.dc_merge_keeping(share), experts), expected) <= 1e-7


@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
def test_experts_of_low_rank_or_without_a_change_bring_no_directions_of_their_own(share: float) -> None:
    low = linalg.truncate(linalg.svd(falling((12, 10), 7).double()), 1).product().float()
    experts = [falling((12, 10), 1), torch.zeros(12, 10), low]
    expected = zhang([delta.double().numpy() for delta in experts], share)
    found = merge(dc.dc_merge_keeping(share), experts)
    assert error(found, expected) <= 1e-5
    # The silent expert still counts: alone, the other two would keep more components.
    assert error(merge(dc.dc_merge_keeping(share), [experts[0], low]), found) > 0.01


@given(order=orders, seed=seeds)
@settings(max_examples=15)
def test_neither_the_order_of_tasks_nor_signs_of_vectors_matter(order: list[int], seed: int) -> None:
    experts = [oracles.matrix(12, 10, seed + task) for task in range(3)]

    class Flipped:
        def factors(self, delta: Tensor, k: int) -> Factors:
            return oracles.flipped(linalg.leading(delta, k), seed + k)

    bind = dc.dc_merge_keeping(0.1)
    expected = merge(bind, experts)
    assert error(merge(bind, [experts[task] for task in order]), expected) <= 1e-9
    assert error(merge(bind, experts, Computing(spectra=Flipped())), expected) <= 1e-9


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_it_scales_with_its_input(scale: float) -> None:
    experts = deltas((12, 10), 3, 5)
    found = merge(dc.dc_merge_keeping(0.1), [delta * scale for delta in experts])
    assert error(found / scale, merge(dc.dc_merge_keeping(0.1), experts)) <= 1e-5


def test_a_faint_expert_keeps_its_place() -> None:
    apart = [torch.diag(torch.tensor(diagonal)) for diagonal in ([4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2e-12, 0.0])]
    torch.testing.assert_close(merge(WHOLE, apart), sum(apart, torch.zeros(4, 4)), rtol=1e-5, atol=0)


def test_the_store_serves_it(tmp_path: Path) -> None:
    experts, expected = deltas((12, 10), 3, 5), merge(DEFAULT, deltas((12, 10), 3, 5))
    store = Spectra(tmp_path / "spectra")
    for _ in range(2):
        assert torch.equal(merge(DEFAULT, experts, Computing(spectra=store)), expected)
    assert [entry.rank for entry in store.list()] == [3, 3, 3]
    whole = Computing(spectra=Spectra(tmp_path / "whole", whole=True))
    assert error(merge(DEFAULT, experts, whole), expected) <= 1e-5


def test_what_cannot_be_decomposed_for_all_tasks_is_averaged() -> None:
    vectors = [oracles.matrix(2, 8, task).float() for task in range(3)]
    torch.testing.assert_close(merge(DEFAULT, vectors), torch.stack(vectors).mean(0))
    torch.testing.assert_close(merge(DEFAULT, [vector[0] for vector in vectors]), torch.stack(vectors)[:, 0].mean(0))
    suite = MemorySuite([{"text_projection": vector.mT} for vector in vectors[:2]])
    found = merging.update(DEFAULT(suite), suite, "text_projection")
    torch.testing.assert_close(found, torch.stack(vectors[:2]).mean(0).mT)


def test_nothing_comes_of_nothing_and_parts_are_merged_apart() -> None:
    assert not merge(DEFAULT, [torch.zeros(4, 4)] * 2).any()
    experts = deltas((18, 9), 3, 3)
    suite = MemorySuite([{"attn.in_proj_weight": delta} for delta in experts])
    found = merging.update(DEFAULT(suite), suite, "attn.in_proj_weight", Computing(MatrixRule(split_qkv=True)))
    for part, rows in enumerate(found.chunk(3)):
        torch.testing.assert_close(rows, merge(DEFAULT, [delta.chunk(3)[part] for delta in experts]))


def test_where_everything_stays_and_tasks_are_apart_it_is_tsv_merge() -> None:
    basis = orthonormal(12, 12, 1)
    experts = [(basis[:, 4 * task :][:, :4] * torch.arange(4, 0, -1)) @ basis[:, :4].mT for task in range(3)]
    experts = [torch.cat([torch.zeros(12, 4 * task), delta[:, :4], torch.zeros(12, 8 - 4 * task)], 1)
               for task, delta in enumerate(experts)]  # fmt: skip
    assert error(merge(WHOLE, experts), merge(layerwise(tsv.tsv_m), experts)) <= 1e-9


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_must_be_one(share: float) -> None:
    with pytest.raises(InputError, match="no fraction"):
        dc.dc_merge_keeping(share)


def test_exploded_experts_are_named() -> None:
    with pytest.raises(InputError, match="`w`: the weights have exploded"):
        merge(DEFAULT, [torch.full((6, 6), ROOM)] * 2)
