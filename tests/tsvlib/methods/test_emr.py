# SPDX-License-Identifier: MIT
"""EMR-Merging elects, masks and rescales as its paper says, in the bytes that it says."""

import math

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import merging
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.methods import emr
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule, StateDict, TaskVector

Array = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "bias": (5,), "scale": ()}


def experts(n_tasks: int, seed: int, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    return oracles.task_vectors(SHAPES, n_tasks, seed, dtype)


def packed(vectors: list[dict[str, Tensor]]) -> emr.Rescaled:
    return emr.pack(MemorySuite(vectors), [str(number) for number in range(len(vectors))])


def flat(vector: StateDict) -> Array:
    return torch.cat([vector[key].reshape(-1) for key in SHAPES]).double().numpy()


def huang(vectors: Array) -> tuple[Array, list[Array]]:
    """Transcribe Algorithm 1 of EMR-Merging on whole task vectors, one row per task: the update and the experts."""
    signs = np.sign(vectors.sum(0))
    largest = np.zeros(vectors.shape[1])
    for p in range(vectors.shape[1]):
        largest[p] = max((abs(row[p]) for row in vectors if np.sign(row[p]) == signs[p]), default=0.0)
    unified = signs * largest
    found = []
    for own in vectors:
        masked = (own * unified > 0) * unified
        kept = np.abs(masked).sum()
        found.append(masked * (np.abs(own).sum() / kept if kept else 0.0))
    return unified, found


@given(n_tasks=st.integers(2, 6), unchanged=st.booleans(), seed=seeds)
def test_emr_is_its_papers_algorithm_on_whole_task_vectors(n_tasks: int, unchanged: bool, seed: int) -> None:
    vectors = experts(n_tasks, seed)
    # Layers of unlike size and scale, so that the mean over tensors is not the mean over weights.
    for vector in vectors:
        vector["bias"] *= 30
    if unchanged:
        vectors[0]["proj"].zero_()
        vectors[1] = {key: torch.zeros(shape) for key, shape in SHAPES.items()}
    unified, expected = huang(np.stack([flat(vector) for vector in vectors]))
    found = packed(vectors)
    np.testing.assert_array_equal(flat(found.masked.shared), unified)
    for number, vector in enumerate(expected):
        np.testing.assert_allclose(flat(found.expert(str(number))), vector, rtol=1e-5)


def test_emr_by_hand() -> None:
    found = packed([{"w": torch.tensor([1.0, -2.0, 3.0, 0.0])}, {"w": torch.tensor([2.0, 1.0, -4.0, 0.0])}])
    assert found.masked.shared["w"].tolist() == [2.0, -2.0, -4.0, 0.0]
    assert found.rescalers.tolist() == [6 / 4, 7 / 6]
    assert found.expert("0")["w"].tolist() == [3.0, -3.0, 0.0, 0.0]
    assert found.expert("1")["w"].tolist() == pytest.approx([7 / 3, 0.0, -14 / 3, 0.0])


def test_the_largest_entry_is_taken_among_those_that_have_the_elected_sign() -> None:
    vectors = [{"w": torch.tensor(values)} for values in ([-5.0, 1.0], [3.0, 0.0], [3.0, 1.0])]
    assert packed(vectors).masked.shared["w"].tolist() == [3.0, 1.0]


def test_where_tasks_cancel_nothing_is_elected_and_nothing_kept() -> None:
    found = packed([{"w": torch.tensor([2.0, -1.0])}, {"w": torch.tensor([-2.0, 1.0])}])
    assert found.masked.shared["w"].tolist() == [0.0, 0.0]
    assert found.rescalers.tolist() == [0.0, 0.0]
    assert found.expert("0")["w"].tolist() == [0.0, 0.0]


def test_the_sum_of_magnitudes_stays_and_one_task_alone_is_itself() -> None:
    vectors = experts(4, 0)
    found = packed(vectors)
    for number, vector in enumerate(vectors):
        assert np.abs(flat(found.expert(str(number)))).sum() == pytest.approx(np.abs(flat(vector)).sum())
    alone = packed(vectors[:1]).expert("0")
    assert all(torch.equal(alone[key], vectors[0][key]) for key in SHAPES)


@given(order=st.permutations(range(4)), seed=seeds)
def test_the_order_of_tasks_changes_no_bit(order: list[int], seed: int) -> None:
    vectors = experts(4, seed)
    found, turned = packed(vectors), packed([vectors[task] for task in order])
    for place, task in enumerate(order):
        left, right = found.expert(str(task)), turned.expert(str(place))
        assert all(torch.equal(left[key], right[key]) for key in SHAPES)


@pytest.mark.parametrize(("dtype", "power"), [(torch.float32, -100), (torch.float32, 96), (torch.float64, -700)])
def test_experts_scale_with_task_vectors_and_keep_their_type(dtype: torch.dtype, power: int) -> None:
    vectors = experts(3, 0, dtype)
    found = packed([{key: tensor * 2.0**power for key, tensor in vector.items()} for vector in vectors])
    expected = packed(vectors)
    assert torch.equal(found.rescalers, expected.rescalers)
    for name in "012":
        for key, tensor in found.expert(name).items():
            assert tensor.dtype == dtype
            assert torch.equal(tensor, expected.expert(name)[key] * 2.0**power)


def test_a_rescaler_beyond_float32_is_refused() -> None:
    found = packed([{"w": torch.tensor([-3e38, -3e38, 1e-30])}, {"w": torch.tensor([3.2e38, 3.2e38, 1e-30])}])
    with pytest.raises(InputError, match="`w`: the weights have exploded"):
        found.expert("0")


def test_bytes_are_those_of_one_update_one_bit_per_weight_and_one_number_per_task() -> None:
    found = packed(experts(3, 0))
    entries = [math.prod(shape) for shape in SHAPES.values()]
    assert found.stored_bytes == sum(4 * n + 3 * -(-n // 8) for n in entries) + 3 * 8


def test_an_expert_that_is_not_there_is_named() -> None:
    suite = MemorySuite(experts(3, 0))
    with pytest.raises(InputError, match="no expert `d` among these; choose one of a, b, c"):
        emr.pack(suite, ["a", "b", "c"]).expert("d")


def test_the_elected_update_merges_layer_by_layer_too() -> None:
    suite = MemorySuite(experts(3, 0))
    shared = emr.pack(suite, ["a", "b", "c"]).masked.shared
    assert isinstance(shared, TaskVector)
    for computing in (Computing(), Computing(MatrixRule(split_qkv=True))):
        assert all(torch.equal(merging.update(emr.elected, suite, key, computing), shared[key]) for key in SHAPES)
    assert not emr.elected(Layer(MemorySuite([{"w": torch.zeros(3)}] * 2), "w")).any()
