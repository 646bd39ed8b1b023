# SPDX-License-Identifier: MIT
"""LiNeS scales an update by the depth of its layers, from names of any model, and measures it once."""

import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

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
from tsvlib.layers import Layer
from tsvlib.methods import UPDATES, base, lines, named
from tsvlib.methods.base import Method
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

Array = npt.NDArray[np.float64]
DEPTHS = {
    "conv1.weight": None,
    "visual.blocks.0.attn.in_proj_weight": 0.0,
    "visual.blocks.0.mlp.2.bias": 0.0,
    "visual.blocks.1.attn.in_proj_weight": 0.5,
    "visual.blocks.2.mlp.0.weight": 1.0,
    "text.blocks.1.weight": 1.0,
    "text.blocks.0.weight": 0.0,
    "head.0.weight": 0.0,
    "pos": None,
    "0.weight": None,
    "v1.5x.weight": None,
}
SHAPES = {key: (12, 4) if key.endswith("weight") else (5,) for key in DEPTHS}


def wang(vectors: list[dict[str, Tensor]], merged: Mapping[str, Tensor], beta: float) -> dict[str, Array]:
    """Transcribe LiNeS for an update and the task vectors that it was merged from."""
    summed = sum(float(np.abs(sum(vector[key].double().numpy() for vector in vectors)).sum()) for key in merged)
    norm = sum(float(np.abs(tensor.double().numpy()).sum()) for tensor in merged.values())
    alpha = summed / norm / len(vectors)
    return {key: (alpha + beta * (DEPTHS[key] or 0.0)) * tensor.double().numpy() for key, tensor in merged.items()}


def then_scaled(name: str, beta: float) -> Method:
    method = UPDATES[name]
    return Method(name, name, lambda suite: lines.by_depth(beta)(suite, method.bind(suite)), (1.0,))


def experts(n_tasks: int, seed: int = 0) -> list[dict[str, Tensor]]:
    return oracles.task_vectors(SHAPES, n_tasks, seed, torch.float32)


def assert_near(found: Mapping[str, Tensor], expected: Mapping[str, Array]) -> None:
    for key, tensor in found.items():
        assert np.linalg.norm(tensor.double().numpy() - expected[key]) <= 1e-5 * np.linalg.norm(expected[key])


@pytest.mark.parametrize("name", ["weight_averaging", "task_arithmetic", "ties", "consensus_ta", "tsv_m"])
@pytest.mark.parametrize(("n_tasks", "beta"), [(2, 0.0), (3, 0.7), (3, 1.5)])
def test_lines_is_its_papers_formula_on_what_any_method_merged(name: str, n_tasks: int, beta: float) -> None:
    vectors = experts(n_tasks)
    vectors[1]["visual.blocks.2.mlp.0.weight"].zero_()
    expected = wang(vectors, merging.merged_update(vectors, UPDATES[name]), beta)
    found = merging.merged_update(vectors, then_scaled(name, beta))
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert_near(found, expected)


def test_lines_by_hand() -> None:
    names = ("net.0.w", "net.1.w", "net.2.w", "head")
    vectors = [{name: torch.tensor([value]) for name in names} for value in (3.0, 1.0)]
    found = merging.merged_update(vectors, then_scaled("task_arithmetic", 1.0))
    assert {key: float(tensor) for key, tensor in found.items()} == dict(zip(names, (2.0, 4.0, 6.0, 2.0), strict=True))
    # The mean is half as large as the sum, so that it gets twice the alpha.
    found = merging.merged_update(vectors, then_scaled("weight_averaging", 1.0))
    assert {key: float(tensor) for key, tensor in found.items()} == dict(zip(names, (2.0, 3.0, 4.0, 2.0), strict=True))


def test_depths_come_from_the_first_whole_number_between_dots_in_stacks_of_their_own() -> None:
    assert lines.depths(DEPTHS) == {name: depth for name, depth in DEPTHS.items() if depth is not None}
    # The published code looks for `.0.` first.
    twelve = {f"layers.{block}.mlp.0.weight": block / 11 for block in range(12)}
    assert lines.depths(twelve) == twelve
    assert lines.depths(reversed(twelve)) == twelve


def test_the_default_is_in_the_middle_of_the_authors_range() -> None:
    suite = MemorySuite(experts(2))
    merge = named("task_arithmetic").bind(suite)
    for key in SHAPES:
        found = merging.update(lines.lines(suite, merge), suite, key)
        assert torch.equal(found, merging.update(lines.by_depth(0.5)(suite, merge), suite, key))


@pytest.mark.parametrize("workers", [1, 4])
def test_the_update_is_measured_once_whatever_the_number_of_workers(workers: int) -> None:
    merged: list[str] = []

    def noted(layer: Layer) -> Tensor:
        merged.append(layer.key)
        time.sleep(0.001)
        return layer.total()

    method = Method("noted", "noted", lambda suite: lines.by_depth(0.5)(suite, noted), (1.0,))
    found = merging.merged_update(experts(3), method, workers=workers)
    assert sorted(merged) == sorted([*SHAPES, *SHAPES])
    expected = merging.merged_update(experts(3), then_scaled("task_arithmetic", 0.5))
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_what_is_computed_once_is_so_for_each_rule_and_again_after_a_failure() -> None:
    calls: list[MatrixRule] = []

    def compute(computing: Computing) -> int:
        calls.append(computing.rule)
        time.sleep(0.01)
        if len(calls) == 1:
            raise InputError("not yet.")
        return len(calls)

    of = base.once(compute)
    with pytest.raises(InputError, match="not yet"):
        of(ORDINARY)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(of, [ORDINARY] * 8)) == [2] * 8
    assert of(Computing(MatrixRule(split_qkv=True))) == 3
    assert of(ORDINARY) == 2


def test_alpha_is_that_of_the_update_as_its_matrices_are_merged() -> None:
    suite, rule = MemorySuite(experts(3)), Computing(MatrixRule(split_qkv=True))
    merge = named("tsv_m").bind(suite)
    scaled = lines.by_depth(0.3)(suite, merge)
    for computing in (ORDINARY, rule):
        plain = {key: merging.update(merge, suite, key, computing) for key in SHAPES}
        found = {key: merging.update(scaled, suite, key, computing) for key in SHAPES}
        assert_near(found, wang(suite.task_vectors, plain, 0.3))


@settings(max_examples=10)
@given(order=st.permutations(range(4)), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_tasks_does_not_matter(order: list[int], seed: int) -> None:
    vectors, method = experts(4, seed), then_scaled("task_arithmetic", 0.4)
    found = merging.merged_update([vectors[task] for task in order], method)
    for key, tensor in merging.merged_update(vectors, method).items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, -2.0, 1e30])
@pytest.mark.parametrize("name", ["task_arithmetic", "ties"])
def test_lines_is_homogeneous_where_the_method_is(name: str, scale: float) -> None:
    vectors, method = experts(3), then_scaled(name, 0.4)
    found = merging.merged_update([{k: scale * t for k, t in vector.items()} for vector in vectors], method)
    for key, tensor in merging.merged_update(vectors, method).items():
        torch.testing.assert_close(found[key] / scale, tensor, rtol=1e-5, atol=1e-6)


def test_an_update_that_is_zero_stays_zero_and_one_beyond_all_numbers_is_named() -> None:
    zero = [{key: torch.zeros(shape) for key, shape in SHAPES.items()}] * 2
    assert not any(tensor.any() for tensor in merging.merged_update(zero, then_scaled("ties", 1.0)).values())
    large = [{"a": torch.ones(2), "b": torch.full((2,), 3e38)}] * 2
    with pytest.raises(InputError, match="`b`: the weights have exploded"):
        merging.merged_update(large, then_scaled("task_arithmetic", 1.0))


@pytest.mark.parametrize("beta", [-0.1, math.inf, math.nan])
def test_a_beta_that_is_none_is_refused(beta: float) -> None:
    with pytest.raises(InputError, match=f"{beta} is no beta of LiNeS"):
        lines.by_depth(beta)
