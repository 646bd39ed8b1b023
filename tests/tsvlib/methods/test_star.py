# SPDX-License-Identifier: MIT
"""STAR keeps 40 % of each nuclear norm in the fewest components, gives them the whole of it, and averages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import linalg, merging
from tsvlib.computing import ORDINARY, Computing
from tsvlib.errors import InputError
from tsvlib.methods import star
from tsvlib.methods.base import Method, layerwise
from tsvlib.store import Spectra
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

Array = npt.NDArray[np.float64]
STAR = Method("star", "STAR", layerwise(star.star), (1.0,))
SHAPES = {"tall": (24, 10), "wide": (9, 20), "square": (12, 12), "bias": (5,), "text_projection": (6, 6)}
MATRICES = ("tall", "wide", "square")


def lee(deltas: Sequence[Array], eta: float) -> Array:
    """Transcribe STAR for one task matrix."""
    merged = np.zeros_like(deltas[0])
    for delta in deltas:
        u, s, vh = np.linalg.svd(delta, full_matrices=False)
        k = next(k for k in range(1, len(s) + 1) if s[:k].sum() >= eta * s.sum())
        merged += u[:, :k] @ np.diag(s[:k] * s.sum() / max(s[:k].sum(), 1e-300)) @ vh[:k] / len(deltas)
    return merged


def assert_near(found: Tensor, expected: Array) -> None:
    assert np.linalg.norm(found.double().numpy() - expected) <= 1e-5 * np.linalg.norm(expected)


def merged(key: str, deltas: Sequence[Tensor], eta: float = star.ETA, computing: Computing = ORDINARY) -> Tensor:
    suite = MemorySuite([{key: delta} for delta in deltas])
    return merging.update(star.truncated(eta)(suite), suite, key, computing)


@pytest.mark.parametrize("n_tasks", [2, 3, 5])
def test_star_is_its_papers_formula_on_matrices_and_the_mean_elsewhere(n_tasks: int) -> None:
    vectors = oracles.task_vectors(SHAPES, n_tasks, n_tasks, torch.float32)
    vectors[1]["wide"].zero_()
    vectors[0]["square"] = vectors[0]["square"][:, :2] @ vectors[0]["square"][:2]
    found = merging.merged_update(vectors, STAR)
    for key in SHAPES:
        deltas = [vector[key].double().numpy() for vector in vectors]
        assert found[key].dtype == torch.float32
        assert_near(found[key], lee(deltas, 0.4) if key in MATRICES else np.mean(deltas, axis=0))


@pytest.mark.parametrize("eta", [0.01, 0.25, 0.7, 1.0])
def test_another_share_of_the_nuclear_norm(eta: float) -> None:
    deltas = [oracles.matrix(20, 8, seed).float() for seed in range(3)]
    assert_near(merged("w", deltas, eta), lee([delta.double().numpy() for delta in deltas], eta))


def test_star_by_hand() -> None:
    deltas = [torch.diag(torch.tensor(values)) for values in ([3.0, 1.0, 1.0], [0.0, 4.0, -6.0])]
    torch.testing.assert_close(merged("w", deltas), torch.diag(torch.tensor([2.5, 0.0, -5.0])))
    # The first component is 40 % exactly, which is enough; an expert without a change is a zero matrix.
    deltas = [torch.diag(torch.tensor([2.0, 1.5, 1.5])), torch.zeros(3, 3)]
    torch.testing.assert_close(merged("w", deltas), torch.diag(torch.tensor([2.5, 0.0, 0.0])))
    # Here it takes two, which hold half of the nuclear norm and are doubled.
    deltas = [torch.diag(torch.tensor([3.0, -2.0, 1.5, 1.5, 1.0, 1.0])), torch.zeros(6, 6)]
    torch.testing.assert_close(merged("w", deltas), torch.diag(torch.tensor([3.0, -2.0, 0.0, 0.0, 0.0, 0.0])))
    assert not merged("w", [torch.zeros(3, 3)] * 2).any()


def test_the_whole_nuclear_norm_is_weight_averaging() -> None:
    deltas = [oracles.matrix(7, 9, seed).float() for seed in range(3)]
    torch.testing.assert_close(merged("w", deltas, 1.0), torch.stack(deltas).mean(0), rtol=1e-5, atol=1e-6)


@settings(max_examples=10)
@given(order=st.permutations(range(4)), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_tasks_does_not_matter(order: list[int], seed: int) -> None:
    deltas = [oracles.matrix(8, 6, seed + task).float() for task in range(4)]
    torch.testing.assert_close(merged("w", [deltas[task] for task in order]), merged("w", deltas))


@pytest.mark.parametrize("scale", [1e-30, -2.0, 1e30])
def test_star_is_homogeneous(scale: float) -> None:
    deltas = [oracles.matrix(8, 6, seed).float() for seed in range(3)]
    found = merged("w", [scale * delta for delta in deltas])
    torch.testing.assert_close(found / scale, merged("w", deltas), rtol=1e-5, atol=1e-6)


def test_signs_of_singular_vectors_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    deltas, decompose = [oracles.matrix(8, 6, seed).float() for seed in range(3)], linalg.leading
    expected = merged("w", deltas)
    signs = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])

    def flipped(delta: Tensor, k: int) -> linalg.Factors:
        u, s, vh = decompose(delta, k)
        return linalg.Factors(u * signs, s, vh * signs[:, None])

    monkeypatch.setattr(linalg, "leading", flipped)
    torch.testing.assert_close(merged("w", deltas), expected)


@pytest.mark.parametrize("whole", [True, False])
def test_stored_spectra_give_the_same(tmp_path: Path, whole: bool) -> None:
    deltas, store = [oracles.matrix(8, 6, seed).float() for seed in range(3)], Spectra(tmp_path, whole=whole)
    for _ in range(2):
        torch.testing.assert_close(merged("w", deltas, computing=Computing(spectra=store)), merged("w", deltas))
    assert [entry.rank for entry in store.list()] == [6, 6, 6]


def test_parts_of_a_tensor_are_matrices_of_their_own() -> None:
    deltas = [oracles.matrix(18, 5, seed).float() for seed in range(3)]
    found = merged("in_proj_weight", deltas, computing=Computing(MatrixRule(split_qkv=True)))
    for part, rows in enumerate(found.chunk(3)):
        assert_near(rows, lee([delta.chunk(3)[part].double().numpy() for delta in deltas], 0.4))


@pytest.mark.parametrize("eta", [0.0, -0.1, 40.0, float("nan")])
def test_a_share_that_is_none_is_refused(eta: float) -> None:
    with pytest.raises(InputError, match=f"{eta} is no share of a nuclear norm"):
        star.truncated(eta)
