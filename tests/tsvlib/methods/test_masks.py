# SPDX-License-Identifier: MIT
"""TALL masks, Consensus TA and masked experts: the formulas of Wang et al., and files that come back as they were."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import merging
from tsvlib.errors import InputError
from tsvlib.methods import PER_TASK, masks, named, ties
from tsvlib.methods.base import Binding, Method
from tsvlib.methods.masks import ARITHMETIC
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import TaskVector

Array = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "bias": (5,), "scale": ()}
NAMES = ("a", "b", "c")
MIXED = [0.2, 0.6, 0.4]


def experts(n_tasks: int, seed: int) -> list[dict[str, Tensor]]:
    return oracles.task_vectors(SHAPES, n_tasks, seed, torch.float32)


def flat(vector: Mapping[str, Tensor]) -> Array:
    return torch.cat([vector[key].reshape(-1) for key in SHAPES]).double().numpy()


def consensus(lambdas: Sequence[float]) -> Method:
    return replace(named("consensus_ta"), bind=masks.consensus(lambdas))


def wang(vectors: Array, shared: Array, lambdas: list[float]) -> npt.NDArray[np.bool_]:
    """Transcribe the TALL masks of tasks in rows, as the distances between weights that they are defined by."""
    base = np.zeros(vectors.shape[1])
    return np.stack(
        [
            np.abs(base - (base + own)) >= value * np.abs((base + shared) - (base + own))
            for own, value in zip(vectors, lambdas, strict=True)
        ]
    )


def rows(vectors: list[dict[str, torch.Tensor]]) -> Array:
    return np.stack([flat(vector) for vector in vectors])


@given(n_tasks=st.integers(2, 6), seed=seeds)
def test_consensus_ta_is_its_papers_formula(n_tasks: int, seed: int) -> None:
    vectors = experts(n_tasks, seed)
    total = rows(vectors).sum(0)
    lambdas = [(0.2, 0.3, 0.4, 0.5, 0.6)[task % 5] for task in range(n_tasks)]
    for method, values in ((consensus(lambdas), lambdas), (named("consensus_ta"), [0.4] * n_tasks)):
        expected = total * (wang(rows(vectors), total, values).sum(0) >= 2)
        np.testing.assert_allclose(flat(merging.merged_update(vectors, method)), expected, rtol=1e-5, atol=1e-6)


def test_consensus_by_hand() -> None:
    vectors = [{"w": torch.tensor(values)} for values in ([1.0, 4.0, 0.0, 2.0], [1.0, 0.5, 0.0, -2.0])]
    found = merging.merged_update(vectors, named("consensus_ta"))["w"]
    assert found.tolist() == [2.0, 0.0, 0.0, 0.0]


@given(st.integers(1, 2**20), st.booleans(), st.booleans())
def test_a_weight_is_wanted_where_both_sides_are_equal(size: int, negative: bool, below: bool) -> None:
    # All of these numbers are exact, so that only the comparison decides.
    own = torch.tensor(-float(size) if negative else float(size))
    shared = own + (-1 if below else 1) * 2.0 * size
    assert masks.wanted(own, shared, 0.5)
    assert not masks.wanted(own, shared * (1 + 2.0**-20), 0.5)
    suite = MemorySuite([{"w": own[None]}])
    assert masks.pack(suite, ["a"], TaskVector(w=shared[None]), [0.5]).expert("a")["w"] == shared


def test_every_expert_has_its_own_lambda_also_behind_one_that_changed_nothing() -> None:
    vectors = [{"w": torch.zeros(1)}, {"w": torch.tensor([3.0])}, {"w": torch.tensor([1.0])}]
    for lambdas, kept in (([9.0, 0.5, 0.3], 4.0), ([0.3, 0.5, 9.0], 0.0), ([0.3, 9.0, 0.3], 0.0)):
        assert merging.merged_update(vectors, consensus(lambdas))["w"].tolist() == [kept]


@pytest.mark.parametrize("count", [2, 4])
def test_lambdas_must_be_as_many_as_experts(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} lambdas for 3 experts; give one for each"):
        merging.merged_update(experts(3, 0), consensus([0.4] * count))
    suite = MemorySuite(experts(3, 0))
    with pytest.raises(InputError, match=f"{count} lambdas for 3 experts"):
        masks.pack(suite, NAMES, masks.shared_update(suite), [0.4] * count)


@pytest.mark.parametrize("value", [0.0, -0.4, math.inf, math.nan])
def test_lambdas_must_be_above_zero(value: float) -> None:
    with pytest.raises(InputError, match=f"{value} is no lambda of a TALL mask"):
        merging.merged_update(experts(3, 0), consensus([0.4, value, -1.0]))


def packed(seed: int) -> tuple[list[dict[str, torch.Tensor]], masks.Masked]:
    vectors = experts(3, seed)
    vectors[1]["proj"].zero_()
    suite = MemorySuite(vectors)
    return vectors, masks.pack(suite, NAMES, masks.shared_update(suite), MIXED)


@given(seeds)
def test_masked_experts_are_the_update_of_ties_where_their_masks_say_so(seed: int) -> None:
    vectors, found = packed(seed)
    shared = oracles.ties(rows(vectors), 0.2, mean=False)
    chosen = wang(rows(vectors), shared, MIXED)
    for number, name in enumerate(NAMES):
        np.testing.assert_allclose(flat(found.expert(name)), shared * chosen[number], rtol=1e-5, atol=1e-6)
        direct = masks.masked(found.shared, vectors[number], MIXED[number])
        assert all(torch.equal(found.expert(name)[key], direct[key]) for key in SHAPES)


@pytest.mark.parametrize(("name", "bind"), [("tall_mask_ties", ties.ties_sum), ("tall_mask_ta", ARITHMETIC)])
def test_without_a_choice_all_lambdas_are_the_papers_middle_one(name: str, bind: Binding) -> None:
    vectors = experts(3, 0)
    suite = MemorySuite(vectors)
    found = PER_TASK[name].pack(suite, NAMES)
    shared = merging.merged_update(suite, Method("shared", "Shared", bind, (1.0,)))
    for name, vector in zip(NAMES, vectors, strict=True):
        direct = masks.masked(shared, vector, 0.4)
        assert all(torch.equal(found.expert(name)[key], direct[key]) for key in SHAPES)


def test_one_task_alone_is_kept_where_it_is_largest() -> None:
    vector = {"w": torch.arange(-5.0, 5.0)}
    suite = MemorySuite([vector])
    shared = masks.shared_update(suite)
    assert shared["w"].tolist() == [-5.0, -4.0, 0, 0, 0, 0, 0, 0, 0, 4.0]
    assert torch.equal(masks.pack(suite, ["a"], shared, [0.6]).expert("a")["w"], shared["w"])


@pytest.mark.parametrize("name", PER_TASK)
def test_names_must_be_as_many_as_experts(name: str) -> None:
    with pytest.raises(InputError, match="there are 2 names for 3 experts; give one for each"):
        PER_TASK[name].pack(MemorySuite(experts(3, 0)), ["a", "b"])


def test_an_expert_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="no expert `d` among these; choose one of a, b, c"):
        packed(0)[1].expert("d")


def test_a_mask_takes_one_bit_for_each_weight() -> None:
    _, whole = packed(0)
    entries = {key: torch.Size(shape).numel() for key, shape in SHAPES.items()}
    assert whole.stored_bytes == sum(4 * n + 3 * -(-n // 8) for n in entries.values())
    even = MemorySuite([{"w": torch.ones(16)}])
    assert masks.pack(even, ["a"], masks.shared_update(even), [0.5]).stored_bytes == 4 * 16 + 2
