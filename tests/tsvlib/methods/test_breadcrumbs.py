# SPDX-License-Identifier: MIT
"""Model Breadcrumbs drop the smallest and the largest entries of each layer of each task, and add up the others."""

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
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.methods import breadcrumbs
from tsvlib.methods.base import Method, layerwise
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule, StateDict

Array = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "bias": (5,), "scale": ()}
DEFAULT = Method("breadcrumbs", "Model Breadcrumbs", layerwise(breadcrumbs.breadcrumbs), (1.0,))


def experts(n_tasks: int, seed: int, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    return oracles.task_vectors(SHAPES, n_tasks, seed, dtype)


def merged(vectors: list[dict[str, Tensor]], smallest: float, largest: float) -> StateDict:
    binding = breadcrumbs.between(smallest, largest)
    return merging.merged_update(vectors, Method("breadcrumbs", "Model Breadcrumbs", binding, (1.0,)))


def davari(layer: Array, smallest: float, largest: float) -> Array:
    """Transcribe the mask of one layer of one task, which has no equal magnitudes, and apply it."""
    mask, order = np.ones(layer.size), np.argsort(np.abs(layer).ravel())
    mask[order[: int(smallest * layer.size)]] = 0
    mask[order[layer.size - int(largest * layer.size) :]] = 0
    masked: Array = layer * mask.reshape(layer.shape)
    return masked


@pytest.mark.parametrize(("smallest", "largest"), [(0.85, 0.007), (0.5, 0.25), (0.0, 0.1), (0.3, 0.0), (0.0, 0.0)])
@given(n_tasks=st.integers(2, 5), seed=seeds)
@settings(max_examples=20)
def test_breadcrumbs_are_their_papers_formula(smallest: float, largest: float, n_tasks: int, seed: int) -> None:
    vectors = experts(n_tasks, seed)
    vectors[0]["proj"].zero_()
    found = merged(vectors, smallest, largest)
    for key in SHAPES:
        layers = [davari(vector[key].double().numpy(), smallest, largest) for vector in vectors if vector[key].any()]
        np.testing.assert_allclose(found[key].double().numpy(), np.sum(layers, 0), rtol=1e-5, atol=1e-6)


def test_by_hand_signs_do_not_matter_and_stay() -> None:
    values = torch.tensor([-1.0, 2, -3, 4, -5, 6, -7, 8, -9, 10])
    found = breadcrumbs.crumbs(values, 0.3, 0.2)
    assert found.tolist() == [0, 0, 0, 4, -5, 6, -7, 8, 0, 0]
    nothing = {"w": torch.zeros(10)}
    assert merged([{"w": values}, nothing], 0.3, 0.2)["w"].tolist() == found.tolist()
    assert merged([{"w": values}, {"w": -values}], 0.3, 0.2)["w"].tolist() == [0.0] * 10


def test_a_layer_is_taken_whole_and_not_row_by_row_nor_with_the_other_layers() -> None:
    vector = {"w": torch.tensor([[1.0, 2.0], [10.0, 20.0]]), "v": torch.tensor([100.0, 200.0])}
    nothing = {key: torch.zeros_like(tensor) for key, tensor in vector.items()}
    found = merged([vector, nothing], 0.5, 0.0)
    assert found["w"].tolist() == [[0.0, 0.0], [10.0, 20.0]]
    assert found["v"].tolist() == [0.0, 200.0]


def test_entries_that_did_not_change_are_among_the_smallest() -> None:
    values = torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 1, 2, 3])
    assert breadcrumbs.crumbs(values, 0.7, 0.1).tolist() == [0.0] * 7 + [1.0, 2.0, 0.0]


def test_entries_that_equal_the_last_one_all_stay() -> None:
    values = torch.tensor([1.0, 2.0, -2.0, 2.0, 3.0, 3.0, -3.0, 4.0])
    assert breadcrumbs.crumbs(values, 0.25, 0.25).tolist() == [0.0, 2.0, -2.0, 2.0, 3.0, 3.0, -3.0, 0.0]


def test_a_share_that_misses_a_whole_number_by_rounding_is_that_number() -> None:
    values = torch.arange(1.0, 101.0)
    assert 0.29 * 100 < 29
    assert int(breadcrumbs.crumbs(values, 0.29, 0.0).count_nonzero()) == 71
    assert int(breadcrumbs.crumbs(values, 0.0, 0.29).count_nonzero()) == 71


def test_small_layers_keep_what_there_is() -> None:
    vectors = experts(2, 0)
    found = merging.merged_update(vectors, DEFAULT)
    torch.testing.assert_close(found["scale"], vectors[0]["scale"] + vectors[1]["scale"])
    one = breadcrumbs.crumbs(vectors[0]["bias"], breadcrumbs.SMALLEST, breadcrumbs.LARGEST)
    assert one.count_nonzero() == 1
    assert one.abs().max() == vectors[0]["bias"].abs().max()


@given(order=st.permutations(range(4)), power=st.sampled_from([-100, 0, 96]), seed=seeds)
@settings(max_examples=20)
def test_neither_order_nor_scale_changes_a_bit(order: list[int], power: int, seed: int) -> None:
    vectors = experts(4, seed)
    scaled = [{key: tensor * 2.0**power for key, tensor in vectors[task].items()} for task in order]
    expected = merging.merged_update(vectors, DEFAULT)
    for key, tensor in merging.merged_update(scaled, DEFAULT).items():
        assert torch.equal(tensor, expected[key] * 2.0**power)


def test_each_part_of_a_fused_tensor_is_a_layer_where_it_is_taken_so() -> None:
    vectors = experts(3, 0)
    suite = MemorySuite(vectors)
    found = merging.update(DEFAULT.bind(suite), suite, "in_proj_weight", Computing(MatrixRule(split_qkv=True)))
    for number, part in enumerate(found.chunk(3)):
        alone = [{"w": vector["in_proj_weight"].chunk(3)[number]} for vector in vectors]
        assert torch.equal(part, merging.merged_update(alone, DEFAULT)["w"])


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.2, -0.1), (0.5, 0.5), (1.2, 0.0), (math.nan, 0.1), (0.1, math.nan)])
def test_shares_that_leave_nothing_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="are no shares of smallest and largest entries to drop; choose two"):
        breadcrumbs.between(*shares)
