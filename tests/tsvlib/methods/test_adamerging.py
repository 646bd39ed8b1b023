# SPDX-License-Identifier: MIT
"""AdaMerging is the weighted sum of its paper, by coefficients that somebody else learnt."""

import math
from collections.abc import Mapping

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import merging
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.methods import MEASURED
from tsvlib.methods.adamerging import adamerging
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "conv": (3, 2, 2, 2), "bias": (5,), "scale": ()}
seeds = st.integers(0, 2**32 - 1)


def learnt(n_tasks: int, seed: int, *, taskwise: bool) -> list[dict[str, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    columns = torch.randn(n_tasks, 1 if taskwise else len(SHAPES), generator=random).expand(-1, len(SHAPES))
    return [dict(zip(SHAPES, row.unbind(), strict=True)) for row in columns]


def merged(
    vectors: list[dict[str, Tensor]], coefficients: list[dict[str, Tensor]], computing: Computing | None = None
) -> Mapping[str, Tensor]:
    suite = MemorySuite(vectors)
    function = adamerging(coefficients)(suite)
    return {key: merging.update(function, suite, key, computing or Computing()) for key in SHAPES}


@given(n_tasks=st.integers(2, 5), seed=seeds, taskwise=st.booleans())
@settings(max_examples=25)
def test_the_update_is_the_papers_sum(n_tasks: int, seed: int, taskwise: bool) -> None:
    vectors = oracles.task_vectors(SHAPES, n_tasks, seed, torch.float32)
    coefficients = learnt(n_tasks, seed, taskwise=taskwise)
    found = merged(vectors, coefficients)
    for key, shape in SHAPES.items():
        expected = np.zeros(shape)
        for vector, mine in zip(vectors, coefficients, strict=True):
            expected += float(mine[key]) * vector[key].double().numpy()
        pairs = zip(vectors, coefficients, strict=True)
        scale = sum(abs(float(mine[key])) * float(vector[key].norm()) for vector, mine in pairs)
        assert np.linalg.norm(found[key].double().numpy() - expected) <= 1e-6 * scale


def test_by_hand_with_an_expert_that_changed_nothing() -> None:
    vectors = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.zeros(2)}, {"w": torch.tensor([4.0, -8.0])}]
    coefficients = [{"w": torch.tensor(0.5)}, {}, {"w": torch.tensor(-0.25)}]
    assert merging.merged_update(vectors, MEASURED["adamerging"].by(coefficients))["w"].tolist() == [-0.5, 3.0]


@given(seed=seeds)
@settings(max_examples=10)
def test_order_of_experts_and_parts_of_a_tensor_change_nothing_but_the_last_bits(seed: int) -> None:
    vectors, coefficients = oracles.task_vectors(SHAPES, 3, seed, torch.float32), learnt(3, seed, taskwise=False)
    found = merged(vectors, coefficients)
    turned = merged(vectors[::-1], coefficients[::-1])
    split = merged(vectors, coefficients, Computing(MatrixRule(split_qkv=True)))
    for key in SHAPES:
        torch.testing.assert_close(turned[key], found[key])
        assert torch.equal(split[key], found[key])


@pytest.mark.parametrize(
    ("coefficients", "trouble"),
    [
        ([{"w": torch.tensor(0.3)}], "of 1 experts, and 2 are merged"),
        ([{"w": torch.tensor(0.3)}, {}], "no coefficient of `w` of expert 2"),
        ([{"w": torch.tensor(0.3)}, {"w": torch.tensor([0.3])}], r"expert 2 has shape \(1,\) instead of \(\)"),
        ([{"w": torch.tensor(0.3)}, {"w": torch.tensor(math.inf)}], "expert 2 holds NaN or Inf"),
        ([{"w": torch.tensor(0.3)}, {"v": torch.tensor(0.3)}], "expert 2 has coefficient of `v`, but no such tensor"),
    ],
)
def test_coefficients_that_do_not_fit_are_refused(coefficients: list[dict[str, Tensor]], trouble: str) -> None:
    vectors = [{"w": torch.ones(2)}, {"w": torch.ones(2)}]
    with pytest.raises(InputError, match=trouble):
        merging.merged_update(vectors, MEASURED["adamerging"].by(coefficients))
