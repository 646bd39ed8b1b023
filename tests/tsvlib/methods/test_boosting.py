# SPDX-License-Identifier: MIT
"""Subspace Boosting raises the weak singular values of a merged matrix, and nothing else."""

import math

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import merging
from tsvlib.computing import ORDINARY, Computing
from tsvlib.errors import InputError
from tsvlib.methods import UPDATES, boosting, named
from tsvlib.methods.base import Method
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

Array = npt.NDArray[np.float64]
SHAPES = {"tall": (24, 10), "wide": (9, 20), "square": (12, 12), "bias": (5,), "text_projection": (6, 6)}
MATRICES = ("tall", "wide", "square")


def skorobogat(merged: Array, beta: float) -> Array:
    """Transcribe Subspace Boosting for one matrix of full rank."""
    u, s, vh = np.linalg.svd(merged, full_matrices=False)
    cutoff = next(i for i in range(len(s)) if s[: i + 1].sum() / s.sum() >= beta - 1e-15)
    boosted: Array = u @ np.diag(np.maximum(s, s[cutoff])) @ vh
    return boosted


def then_boosted(name: str, beta: float = boosting.BETA) -> Method:
    method = UPDATES[name]
    return Method(name, name, lambda suite: boosting.boosted(beta)(suite, method.bind(suite)), method.alphas)


def boosted(merged: Tensor, beta: float, key: str = "w", computing: Computing = ORDINARY) -> Tensor:
    suite = MemorySuite([{key: merged}])
    merge = boosting.boosted(beta)(suite, named("task_arithmetic").bind(suite))
    return merging.update(merge, suite, key, computing)


@pytest.mark.parametrize("name", ["task_arithmetic", "ties", "consensus_ta", "tsv_m"])
@pytest.mark.parametrize("beta", [0.0, 0.01, 0.4, 1.0])
def test_boosting_is_its_papers_formula_on_what_any_method_merged(name: str, beta: float) -> None:
    vectors = oracles.task_vectors(SHAPES, 3, 5, torch.float32)
    if name == "tsv_m":
        # Where the number of tasks does not divide the rank, what TSV-M merges is of lower rank.
        vectors = [{key: vector[key] for key in SHAPES if key in ("square", "wide", "bias")} for vector in vectors]
    vectors[1]["square"].mul_(0 if name != "tsv_m" else 1)
    plain = merging.merged_update(vectors, UPDATES[name])
    found = merging.merged_update(vectors, then_boosted(name, beta))
    for key, tensor in plain.items():
        if key in MATRICES:
            expected = skorobogat(tensor.double().numpy(), beta)
            assert np.linalg.norm(found[key].double().numpy() - expected) <= 1e-5 * np.linalg.norm(expected)
            assert found[key].dtype == torch.float32
        else:
            assert torch.equal(found[key], tensor)


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.0, [4.0, -4.0, 4.0, 4.0]),
        (0.4, [4.0, -4.0, 4.0, 4.0]),
        (0.5, [4.0, -3.0, 3.0, 3.0]),
        (0.7, [4.0, -3.0, 3.0, 3.0]),
        (0.8, [4.0, -3.0, 2.0, 2.0]),
        (1.0, [4.0, -3.0, 2.0, 1.0]),
    ],
)
def test_boosting_by_hand(beta: float, expected: list[float]) -> None:
    merged = torch.diag(torch.tensor([4.0, -3.0, 2.0, 1.0]))
    torch.testing.assert_close(boosted(merged, beta), torch.diag(torch.tensor(expected)))


def test_the_default_is_one_percent() -> None:
    suite = MemorySuite([{"w": oracles.matrix(9, 6, 0).float()}])
    merge = named("task_arithmetic").bind(suite)
    found = merging.update(boosting.boosting(suite, merge), suite, "w")
    assert torch.equal(found, boosted(suite.task_vectors[0]["w"], 0.01))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_that_only_rounding_error_fills_are_not_boosted(dtype: torch.dtype) -> None:
    left, right = (oracles.orthonormal(40, 3, seed) for seed in range(2))
    spectrum = torch.tensor([5.0, 2.0, 1.0]).double()
    found = boosted((left * spectrum @ right.mT).to(dtype), 0.6)
    torch.testing.assert_close(found.double(), left * spectrum.clamp_min(5) @ right.mT, rtol=1e-5, atol=1e-5)
    assert torch.linalg.svdvals(found.double())[3] < 1e-5
    assert not boosted(torch.zeros(4, 3, dtype=dtype), 0.0).any()


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), beta=st.floats(0, 1))
def test_boosting_commutes_with_rotations(seed: int, beta: float) -> None:
    merged, left, right = oracles.matrix(8, 6, seed), oracles.orthonormal(8, 8, seed + 1), oracles.orthonormal(6, 6, 3)
    turned = boosted(left @ merged @ right.mT, beta)
    torch.testing.assert_close(turned, left @ boosted(merged, beta) @ right.mT, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-30, -2.0, 1e30])
def test_boosting_is_homogeneous(scale: float) -> None:
    merged = oracles.matrix(8, 6, 0).float()
    torch.testing.assert_close(boosted(scale * merged, 0.3) / scale, boosted(merged, 0.3), rtol=1e-5, atol=1e-5)


def test_q_k_and_v_are_boosted_apart_where_they_are_matrices_of_their_own() -> None:
    merged = oracles.matrix(18, 5, 0).float()
    found = boosted(merged, 0.3, "in_proj_weight", Computing(MatrixRule(split_qkv=True)))
    torch.testing.assert_close(found, torch.cat([boosted(part, 0.3) for part in merged.chunk(3)]))


def test_an_update_beyond_all_numbers_is_named() -> None:
    with pytest.raises(InputError, match="`w`: the weights have exploded"):
        merging.merged_update([{"w": torch.full((2, 2), 3e38)}] * 2, then_boosted("task_arithmetic"))


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(beta: float) -> None:
    with pytest.raises(InputError, match=f"{beta} is no share of a nuclear norm"):
        boosting.boosted(beta)
