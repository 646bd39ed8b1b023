# SPDX-License-Identifier: MIT
"""KnOTS-TIES merges the right factors of a joint decomposition, over the whole model, with a coefficient per task."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import linalg, merging
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.methods import knots
from tsvlib.methods.base import Method
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

Array = npt.NDArray[np.float64]
KNOTS = Method("knots_ties", "KnOTS-TIES", knots.knots_ties, (1.0,))
SHAPES = {
    "tall": (31, 5),
    "long": (20, 8),
    "wide": (9, 20),
    "square": (12, 12),
    "bias": (5,),
    "text_projection": (6, 6),
}
MATRICES = ("tall", "long", "wide", "square")


def stoica(layers: Sequence[Sequence[Array]], scales: Sequence[float], share: float) -> list[Array]:
    """Transcribe KnOTS-TIES on whole models: the matrices of each layer, one per task."""
    n_tasks, bases, vectors = len(scales), [], [np.zeros(0)] * len(scales)
    for deltas in layers:
        u, s, vh = np.linalg.svd(np.hstack(deltas), full_matrices=False)
        supported = s > 1e-5 * s[0]
        bases.append(u[:, supported])
        blocks = np.split(s[supported, None] * vh[supported], n_tasks, axis=1)
        vectors = [np.append(vector, block) for vector, block in zip(vectors, blocks, strict=True)]
    merged = elected(np.stack(vectors), scales, share)
    found = []
    for u, deltas in zip(bases, layers, strict=True):
        size = u.shape[1] * deltas[0].shape[1]
        found.append(u @ merged[:size].reshape(u.shape[1], -1))
        merged = merged[size:]
    return found


def elected(vectors: Array, scales: Sequence[float], share: float) -> Array:
    """Transcribe TIES with a scaling coefficient for each task, one row each."""
    for vector in vectors:
        vector[np.argsort(-np.abs(vector))[int(share * vectors.shape[1]) :]] = 0
    agreeing = (np.sign(vectors) == np.sign(vectors.sum(0))) & (vectors != 0)
    merged: Array = (np.array(scales)[:, None] * vectors * agreeing).sum(0) / np.maximum(agreeing.sum(0), 1)
    return merged


def assert_near(found: Tensor, expected: Array, tolerance: float = 1e-5) -> None:
    assert np.linalg.norm(found.double().numpy() - expected) <= tolerance * np.linalg.norm(expected)


def merged(deltas: Sequence[Tensor], scales: Sequence[float] | None = None, share: float = 0.2) -> Tensor:
    suite = MemorySuite([{"w": delta} for delta in deltas])
    return merging.update(knots.scaled(scales or [1.0] * len(deltas), share)(suite), suite, "w")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_tasks", [2, 3, 5])
def test_knots_is_its_papers_formula_over_the_whole_model(n_tasks: int, dtype: torch.dtype) -> None:
    vectors = oracles.task_vectors(SHAPES, n_tasks, n_tasks, dtype)
    for vector in vectors:
        vector["square"] = vector["square"][:, :2] @ vector["square"][:2]
        vector["wide"] *= 3
    vectors[1]["long"].zero_()
    found = merging.merged_update(vectors, KNOTS)
    layers = [[vector[key].double().numpy() for vector in vectors] for key in MATRICES]
    expected = dict(zip(MATRICES, stoica(layers, [1.0] * n_tasks, 0.2), strict=True))
    for key in SHAPES:
        assert found[key].dtype == dtype
        assert_near(found[key], expected.get(key, np.mean([vector[key].double().numpy() for vector in vectors], 0)))


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_every_task_has_a_scaling_coefficient_of_its_own(share: float) -> None:
    deltas, scales = [oracles.matrix(9, 7, seed).float() for seed in range(4)], [0.3, 1.0, 2.5, 0.7]
    (expected,) = stoica([[delta.double().numpy() for delta in deltas]], scales, share)
    assert_near(merged(deltas, scales, share), expected)


def test_knots_by_hand() -> None:
    # The left singular vectors are the axes, so that right factors are the matrices themselves, and the zeros of the
    # first task have no vote.
    deltas = [torch.diag(torch.tensor(values)) for values in ([4.0, 0.0], [2.0, 1.0])]
    torch.testing.assert_close(merged(deltas, share=0.5), torch.diag(torch.tensor([3.0, 1.0])))
    torch.testing.assert_close(merged(deltas, share=0.25), torch.diag(torch.tensor([3.0, 0.0])))
    torch.testing.assert_close(merged(deltas, [1.0, 3.0], 0.5), torch.diag(torch.tensor([5.0, 3.0])))
    torch.testing.assert_close(merged(deltas, [3.0, 1.0], 0.5), torch.diag(torch.tensor([7.0, 1.0])))


def test_entries_that_only_rounding_error_fills_have_no_vote() -> None:
    left, right = oracles.orthonormal(7, 2, 0), oracles.orthonormal(6, 2, 1)
    for dtype in (torch.float32, torch.float64):
        deltas = [(size * left[:, [i]] @ right[:, [i]].mT).to(dtype) for i, size in enumerate((3.0, 2.0))]
        # The tasks share no direction, so that each entry of a right factor is of one task alone.
        torch.testing.assert_close(merged(deltas, share=1.0), deltas[0] + deltas[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(merged([deltas[0]] * 3, share=1.0), deltas[0])
    assert not merged([torch.zeros(3, 4)] * 2).any()


def test_where_tasks_cancel_exactly_nothing_is_elected() -> None:
    delta = oracles.matrix(6, 5, 0).float()
    assert not merged([delta, -delta], share=1.0).any()


def test_signs_of_singular_vectors_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    deltas, basis = [oracles.matrix(9, 7, seed).float() for seed in range(4)], knots.basis
    expected = merged(deltas)

    def flipped(layer: Layer) -> Tensor:
        u = basis(layer)
        return u * oracles.matrix(1, u.shape[1], 5).sign()

    monkeypatch.setattr(knots, "basis", flipped)
    torch.testing.assert_close(merged(deltas), expected)


@settings(max_examples=10)
@given(order=st.permutations(range(4)), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_tasks_does_not_matter(order: list[int], seed: int) -> None:
    deltas, scales = [oracles.matrix(8, 6, seed + task).float() for task in range(4)], [0.5, 1.0, 2.0, 3.0]
    found = merged([deltas[task] for task in order], [scales[task] for task in order])
    torch.testing.assert_close(found, merged(deltas, scales), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("scale", "dtype"), [(1e-30, 32), (-2.0, 32), (1e30, 32), (1e-200, 64), (1e200, 64)])
def test_knots_is_homogeneous(scale: float, dtype: int) -> None:
    deltas = [oracles.matrix(8, 6, seed).to(getattr(torch, f"float{dtype}")) for seed in range(3)]
    found = merged([scale * delta for delta in deltas])
    torch.testing.assert_close(found / scale, merged(deltas), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((31, 5), 15), ((20, 8), 20), ((9, 20), 9)])
def test_no_full_decomposition_where_the_smaller_gram_matrix_does(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], size: int
) -> None:
    suite = MemorySuite([{"w": oracles.matrix(*shape, seed).float()} for seed in range(3)])
    sizes, eigh = [], torch.linalg.eigh

    def noted(x: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(tuple(x.shape))
        values, vectors = eigh(x)
        return values, vectors

    monkeypatch.setattr(linalg, "svd", None)
    monkeypatch.setattr(torch.linalg, "eigh", noted)
    u = knots.basis(Layer(suite, "w", n_parts=1))
    assert sizes == [(size, size)]
    torch.testing.assert_close(u.mT @ u, torch.eye(size, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_change_no_byte(workers: int) -> None:
    vectors = oracles.task_vectors(SHAPES, 3, 0, torch.float32)
    alone = merging.merged_update(vectors, KNOTS)
    together = merging.merged_update(vectors, KNOTS, workers=workers)
    assert all(torch.equal(alone[key], tensor) for key, tensor in together.items())


def test_parts_of_a_tensor_are_matrices_of_their_own_also_for_the_thresholds() -> None:
    whole = oracles.task_vectors({"in_proj_weight": (18, 5), "w": (6, 6)}, 3, 0, torch.float32)
    suite = MemorySuite(whole)
    found = merging.update(knots.knots_ties(suite), suite, "in_proj_weight", Computing(MatrixRule(split_qkv=True)))
    parts = [{"w": vector["w"], **dict(zip("qkv", vector["in_proj_weight"].chunk(3), strict=True))} for vector in whole]
    apart = merging.merged_update(parts, KNOTS)
    torch.testing.assert_close(found, torch.cat([apart[key] for key in "qkv"]))


def test_coefficients_that_do_not_fit_are_refused() -> None:
    suite = MemorySuite([{"w": torch.ones(2, 2)}] * 3)
    with pytest.raises(InputError, match="2 scaling coefficients for 3 experts; give one for each"):
        knots.scaled([1.0, 1.0])(suite)
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match=f"{value} is no scaling coefficient of KnOTS"):
            knots.scaled([1.0, value])
    for share in (0.0, 1.5, math.nan):
        with pytest.raises(InputError, match="no fraction"):
            knots.scaled([1.0], share)
