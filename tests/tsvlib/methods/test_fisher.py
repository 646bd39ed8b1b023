# SPDX-License-Identifier: MIT
"""Fisher merging is the paper's weighted mean, and what its statistics do not say depends on no order and no unit."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import merging
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.methods.fisher import fisher_merging
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

Array = npt.NDArray[np.float64]
States = list[dict[str, Tensor]]
seeds = st.integers(0, 2**32 - 1)
SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "conv": (3, 2, 2, 2), "bias": (5,), "scale": ()}


def experts(n_tasks: int, seed: int) -> States:
    vectors = oracles.task_vectors(SHAPES, n_tasks, seed, torch.float32)
    return [*vectors[:-1], {key: torch.zeros(shape) for key, shape in SHAPES.items()}]


def certain(n_tasks: int, seed: int) -> States:
    """Return Fisher statistics over ten orders of magnitude, a third of them zero for all experts."""
    drawn = oracles.task_vectors(SHAPES, n_tasks + 1, seed + 1, torch.float32)
    return [
        {key: 10 ** (2 * tensor - 8) * (drawn[-1][key] > -0.4) for key, tensor in each.items()} for each in drawn[:-1]
    ]


def merged(
    vectors: Sequence[Mapping[str, Tensor]],
    fishers: Sequence[Mapping[str, Tensor]],
    lambdas: Sequence[float] | None = None,
    computing: Computing | None = None,
) -> dict[str, Tensor]:
    suite = MemorySuite(vectors)
    function = fisher_merging(fishers, lambdas)(suite)
    return {key: merging.update(function, suite, key, computing or Computing()) for key in suite.shapes}


def matena(weights: list[Array], fishers: list[Array], lambdas: list[float]) -> Array:
    """Transcribe Fisher merging of whole weights; where no F is above zero, equal F take their place."""
    known = np.sum(fishers, axis=0) > 0
    every = [value * np.where(known, fisher, 1) for value, fisher in zip(lambdas, fishers, strict=True)]
    merged: Array = np.sum([f * w for f, w in zip(every, weights, strict=True)], axis=0) / np.sum(every, axis=0)
    return merged


@given(n_tasks=st.integers(2, 5), seed=seeds, equal=st.booleans())
@settings(max_examples=25)
def test_fisher_merging_is_its_papers_formula(n_tasks: int, seed: int, equal: bool) -> None:
    vectors, fishers = experts(n_tasks, seed), certain(n_tasks, seed)
    lambdas = [1.0] * n_tasks if equal else [0.5 + task for task in range(n_tasks)]
    found = merged(vectors, fishers, None if equal else lambdas)
    base = oracles.task_vectors(SHAPES, 1, seed + 2, torch.float64)[0]
    for key, start in base.items():
        weights = [start.numpy() + vector[key].double().numpy() for vector in vectors]
        expected = matena(weights, [fisher[key].double().numpy() for fisher in fishers], lambdas) - start.numpy()
        assert np.linalg.norm(found[key].double().numpy() - expected) <= 1e-6 * np.linalg.norm(expected)


def test_fisher_merging_by_hand() -> None:
    vectors = [{"w": torch.tensor([1.0, 2.0, 4.0])}, {"w": torch.tensor([5.0, 4.0, 8.0])}]
    fishers = [{"w": torch.tensor([1.0, 0.0, 0.0])}, {"w": torch.tensor([3.0, 0.0, 2.0])}]
    assert merged(vectors, fishers)["w"].tolist() == [4.0, 3.0, 8.0]
    # The unknown weight goes by lambda, too, and not to the first model as in the published code.
    assert merged(vectors, fishers, [3.0, 1.0])["w"].tolist() == [3.0, 2.5, 8.0]


def test_each_expert_has_its_own_statistics_and_lambda_also_behind_one_that_changed_nothing() -> None:
    vectors = [{"w": torch.zeros(1)}, {"w": torch.tensor([6.0])}, {"w": torch.tensor([12.0])}]
    fishers = [{"w": torch.tensor([value])} for value in (1.0, 2.0, 3.0)]
    # The one that changed nothing draws back to the base.
    assert merged(vectors, fishers)["w"].tolist() == [8.0]
    assert merged(vectors, fishers, [1.0, 1.0, 3.0])["w"].tolist() == [10.0]


@given(order=st.permutations(range(4)), seed=seeds)
@settings(max_examples=10)
def test_the_order_of_tasks_changes_nothing(order: list[int], seed: int) -> None:
    vectors, fishers = experts(4, seed), certain(4, seed)
    found = merged([vectors[task] for task in order], [fishers[task] for task in order])
    for key, tensor in merged(vectors, fishers).items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_changes_scale_and_statistics_have_no_unit(scale: float) -> None:
    vectors, fishers = experts(3, 0), certain(3, 0)
    expected = merged(vectors, fishers)
    larger = merged([{key: scale * tensor for key, tensor in vector.items()} for vector in vectors], fishers)
    units = [{key: scale * tensor.double() for key, tensor in fisher.items()} for fisher in fishers]
    for key, tensor in merged(vectors, units).items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-6, atol=0)
        torch.testing.assert_close(larger[key] / scale, expected[key], rtol=1e-5, atol=0)


def test_task_matrices_take_their_part_of_the_statistics() -> None:
    vectors, fishers = experts(3, 0), certain(3, 0)
    vectors[0]["in_proj_weight"][6:12] = 0
    split = merged(vectors, fishers, computing=Computing(MatrixRule(split_qkv=True, convolutions=True)))
    assert all(torch.equal(split[key], tensor) for key, tensor in merged(vectors, fishers).items())


def test_what_nobody_changed_needs_no_statistics() -> None:
    vectors = [{"w": torch.tensor([value]), "buffer": torch.zeros(3)} for value in (2.0, 4.0)]
    found = merged(vectors, [{"w": torch.ones(1)}] * 2)
    assert found["w"].tolist() == [3.0]
    assert found["buffer"].tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("fishers", "message"),
    [
        ([{"w": torch.ones(2)}], "Fisher information of 1 experts, and 2 are merged; give it for each"),
        ([{"w": torch.ones(2)}, {}], "no Fisher information of `w` of expert 2; give it for every expert"),
        ([{"w": torch.ones(2)}, {"v": torch.ones(2)}], "expert 2 has Fisher information of `v`, but no such tensor"),
        ([{"w": torch.ones(2)}, {"w": torch.ones(3)}], r"expert 2 has shape \(3,\) instead of \(2,\)"),
        ([{"w": torch.ones(2)}, {"w": torch.tensor([1.0, torch.nan])}], "`w` of expert 2 holds NaN or Inf"),
        ([{"w": torch.ones(2)}, {"w": torch.tensor([1.0, -1.0])}], "`w` of expert 2 is negative somewhere"),
    ],
)
def test_statistics_that_are_missing_or_unfit_are_told(fishers: States, message: str) -> None:
    with pytest.raises(InputError, match=message):
        merged([{"w": torch.ones(2)}, {"w": torch.ones(2)}], fishers)


@pytest.mark.parametrize("lambdas", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, torch.inf], [1.0, torch.nan]])
def test_unfit_lambdas_are_told(lambdas: list[float]) -> None:
    with pytest.raises(InputError, match=r"lambdas for 2 experts|no lambda of Fisher merging"):
        merged([{"w": torch.ones(2)}] * 2, [{"w": torch.ones(2)}] * 2, lambdas)
