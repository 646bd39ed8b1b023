# SPDX-License-Identifier: MIT
"""TIES and Iso-C do what their papers say; the threshold of TIES is exact without sorting."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import checkpoints, merging
from tsvlib.cli import workflows
from tsvlib.cli.workflows import Inputs, Session
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.methods import UPDATES, named, ties
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

Array = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "text_projection": (5, 5), "bias": (5,), "scale": ()}


def experts(n_tasks: int, seed: int) -> list[dict[str, Tensor]]:
    return oracles.task_vectors(SHAPES, n_tasks, seed, torch.float32)


def flat(vector: dict[str, Tensor]) -> Array:
    return torch.cat([vector[key].reshape(-1) for key in SHAPES]).double().numpy()


@pytest.mark.parametrize("mean", [True, False])
@given(n_tasks=st.integers(2, 6), seed=seeds)
def test_ties_is_its_papers_algorithm_on_whole_task_vectors(mean: bool, n_tasks: int, seed: int) -> None:
    vectors = experts(n_tasks, seed)
    suite = MemorySuite(vectors)
    function = (ties.ties if mean else ties.ties_sum)(suite)
    found = {key: merging.update(function, suite, key) for key in SHAPES}
    expected = oracles.ties(np.stack([flat(vector) for vector in vectors]), 0.2, mean)
    np.testing.assert_allclose(flat(found), expected, rtol=1e-6, atol=1e-7)


def test_ties_by_hand() -> None:
    columns = [[5, 0.1, 4, 0, 0, 0, 0, 0, 0, 0], [3, 0, -9, 0.2, 0, 0, 0, 0, 0, 0], [-1, 0, 2, 0, 7, 0, 0, 0, 0, 0]]
    vectors = [{"w": torch.tensor(column, dtype=torch.float32)} for column in columns]
    found = merging.merged_update(vectors, named("ties"))["w"]
    assert found.tolist() == [4.0, 0.0, -9.0, 0, 7.0, 0, 0, 0, 0, 0]


def test_where_two_tasks_cancel_exactly_nothing_is_elected() -> None:
    vectors = [{"w": torch.tensor([2.0, 3.0, 0, 0, 0, 0, 0, 0, 0, 0])} for _ in range(2)]
    vectors[1]["w"][0] = -2.0
    assert merging.merged_update(vectors, named("ties"))["w"].tolist() == [0.0, 3.0, *[0.0] * 8]


def test_each_task_has_a_threshold_of_its_own_also_behind_an_expert_that_changed_nothing() -> None:
    vectors = experts(3, 0)
    vectors[0] = {key: torch.zeros(shape) for key, shape in SHAPES.items()}
    vectors[2] = {key: 1000 * tensor for key, tensor in vectors[2].items()}
    vectors[1]["proj"].zero_()
    least = ties.thresholds(MemorySuite(vectors), 0.2)
    for vector, threshold in zip(vectors, least, strict=True):
        assert threshold == np.sort(np.abs(flat(vector)))[::-1][int(0.2 * flat(vector).size) - 1]
    expected = oracles.ties(np.stack([flat(vector) for vector in vectors]), 0.2, mean=True)
    found = merging.merged_update(vectors, named("ties"))
    np.testing.assert_allclose(flat(found), expected, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 32), (torch.float64, 64)])
@given(st.data(), st.integers(1, 40))
def test_thresholds_are_exact_over_the_whole_range(
    dtype: torch.dtype, width: Literal[32, 64], data: st.DataObject, wanted: int
) -> None:
    largest = 2.0**100 if width == 32 else 2.0**1000
    values = data.draw(st.lists(st.floats(-largest, largest, width=width), min_size=1, max_size=40))
    vector = torch.tensor(values, dtype=dtype)
    share = min(wanted, len(values)) / len(values)
    (found,) = ties.thresholds(MemorySuite([{"w": vector}]), share)
    assert found == vector.abs().sort(descending=True).values[round(share * len(values)) - 1]


def test_the_whole_share_keeps_all_and_a_tiny_one_the_largest_entry() -> None:
    suite = MemorySuite(experts(2, 0))
    assert ties.thresholds(suite, 1e-9) == [np.abs(flat(vector)).max() for vector in suite.task_vectors]
    assert ties.thresholds(suite, 1.0) == [np.abs(flat(vector)).min() for vector in suite.task_vectors]
    sparse = MemorySuite([{"w": torch.tensor([0.0, 1.0]), "v": torch.zeros(3)}])
    assert ties.thresholds(sparse, 1.0) == [0.0]
    for share in (0.0, 1.5, math.nan):
        with pytest.raises(InputError, match="no fraction"):
            ties.thresholds(suite, share)


def test_entries_that_equal_the_threshold_all_stay() -> None:
    vectors = [{"w": torch.tensor([3.0, -2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])}, {"w": torch.zeros(10)}]
    assert ties.thresholds(MemorySuite(vectors), 0.2)[0] == 2.0
    found = merging.merged_update(vectors, named("ties"))["w"]
    assert found.tolist() == [3.0, -2.0, 2.0, 2.0, *[0.0] * 6]


@settings(max_examples=25)
@given(order=st.permutations(range(5)), seed=seeds)
def test_the_order_of_tasks_changes_no_bit_of_ties(order: list[int], seed: int) -> None:
    vectors = experts(5, seed)
    found = merging.merged_update([vectors[task] for task in order], named("ties"))
    assert all(torch.equal(found[key], tensor) for key, tensor in merging.merged_update(vectors, named("ties")).items())


def test_task_matrices_do_not_change_what_ties_does() -> None:
    suite = MemorySuite(experts(3, 0))
    function = ties.ties(suite)
    as_three = merging.update(function, suite, "in_proj_weight", Computing(MatrixRule(split_qkv=True)))
    assert torch.equal(as_three, merging.update(function, suite, "in_proj_weight"))


def marczak(matrices: list[Array]) -> Array:
    """Transcribe Iso-C for one task matrix."""
    u, s, vh = np.linalg.svd(np.sum(matrices, 0), full_matrices=False)
    merged: Array = u @ np.diag(np.full(len(s), s.mean())) @ vh
    return merged


@given(n_tasks=st.integers(2, 6), seed=seeds)
def test_iso_c_is_its_papers_formula_on_matrices_and_the_mean_elsewhere(n_tasks: int, seed: int) -> None:
    vectors = [{key: tensor.double() for key, tensor in vector.items()} for vector in experts(n_tasks, seed)]
    found = merging.merged_update(vectors, named("iso_c"))
    for key in SHAPES:
        changes = [vector[key].numpy() for vector in vectors]
        expected = marczak(changes) if key in ("in_proj_weight", "proj") else np.mean(changes, axis=0)
        np.testing.assert_allclose(found[key].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_iso_c_evens_out_singular_values_and_invents_no_directions() -> None:
    vectors = [{"proj": torch.diag(torch.tensor(diagonal))} for diagonal in ([4.0, 0.0, 0.0], [0.0, -2.0, 0.0])]
    found = merging.merged_update(vectors, named("iso_c"))["proj"]
    torch.testing.assert_close(found, torch.diag(torch.tensor([2.0, -2.0, 0.0])))
    assert not merging.merged_update([{"proj": torch.zeros(3, 3)}] * 2, named("iso_c"))["proj"].any()


@pytest.mark.parametrize("name", UPDATES)
def test_files_hold_the_base_once_and_alpha_times_the_update(tmp_path: Path, name: str) -> None:
    vectors = experts(3, 0)
    base = {key: torch.randn(shape) for key, shape in SHAPES.items()}
    states = [base, *({key: base[key] + vector[key] for key in SHAPES} for vector in vectors)]
    files = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for file, state in zip(files, states, strict=True):
        checkpoints.save(file, state, {})
    exact = [{key: state[key] - base[key] for key in SHAPES} for state in states[1:]]
    workflows.merge(Inputs(files[0], files[1:]), tmp_path / "m.safetensors", name, 0.3, Session(workers=2))
    expected = merging.merged_update(exact, named(name)).apply(base, 0.3)
    for key, tensor in checkpoints.load(tmp_path / "m.safetensors").items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-6, atol=1e-6)
