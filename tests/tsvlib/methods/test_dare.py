# SPDX-License-Identifier: MIT
"""DARE drops and rescales as its paper says, by masks that depend on seed, expert and tensor, and on nothing else."""

import json
import math
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import checkpoints, merging
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.methods import dare
from tsvlib.methods.base import Method
from tsvlib.suites import CheckpointSuite, MemorySuite
from tsvlib.taskvectors import MatrixRule, StateDict

seeds = st.integers(0, 2**32 - 1)
SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "bias": (5,), "scale": ()}
SPLIT = Computing(MatrixRule(split_qkv=True))


def experts(n_tasks: int, seed: int) -> list[dict[str, Tensor]]:
    return oracles.task_vectors(SHAPES, n_tasks, seed, torch.float32)


def method(share: float, seed: int = 0) -> Method:
    return Method("dare", "DARE", dare.dropping(share, seed), (1.0,))


def merged(vectors: list[dict[str, Tensor]], share: float, seed: int = 0) -> StateDict:
    return merging.merged_update(vectors, method(share, seed))


def same(left: StateDict, right: StateDict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@given(n_tasks=st.integers(2, 5), share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99]), seed=seeds)
@settings(max_examples=20)
def test_dare_is_its_papers_formula_with_these_masks(n_tasks: int, share: float, seed: int) -> None:
    vectors = experts(n_tasks, seed)
    vectors[-1]["proj"].zero_()
    names = dare.digests(MemorySuite(vectors))
    found = merged(vectors, share, seed)
    for key, shape in SHAPES.items():
        expected = np.zeros(shape)
        for name, vector in zip(names, vectors, strict=True):
            stays = dare.kept(seed, name, key, math.prod(shape), share).numpy().reshape(shape)
            expected += stays * vector[key].double().numpy() / (1 - share)
        np.testing.assert_allclose(found[key].double().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_masks_are_the_same_on_every_machine() -> None:
    bits = "".join(str(int(bit)) for bit in dare.kept(0, "", "w", 32, 0.5))
    assert bits == "01001100000010110101011100001000"


def test_an_entry_is_gone_or_rescaled_by_hand() -> None:
    vectors = [{"w": torch.full((4, 8), 3.0)}, {"w": torch.zeros(4, 8)}]
    (name, _) = dare.digests(MemorySuite(vectors))
    expected = dare.kept(7, name, "w", 32, 0.75).reshape(4, 8) * 12.0
    assert 0 < expected.count_nonzero() < 32
    assert torch.equal(merged(vectors, 0.75, 7)["w"], expected)


def test_a_share_of_zero_is_task_arithmetic() -> None:
    vectors = experts(3, 0)
    total = merging.merged_update(vectors, "task_arithmetic")
    for key, tensor in merged(vectors, 0.0).items():
        torch.testing.assert_close(tensor, total[key])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_as_many_entries_go_as_wanted_and_the_expectation_stays(share: float) -> None:
    size = 2**18
    one, other = (dare.kept(0, name, "w", size, share).double() for name in ("one", "other"))
    for found, wanted in ((one, 1 - share), (one * other, (1 - share) ** 2)):
        assert abs(float(found.mean()) - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / size)
    # Neighbours know nothing of each other, in a row as little as in a column.
    for step in (1, 512):
        together = float((one[step:] * one[:-step]).mean())
        assert abs(together - (1 - share) ** 2) < 10 * (1 - share) / math.sqrt(size)


def test_seed_expert_and_tensor_each_make_another_mask_and_a_smaller_share_keeps_more() -> None:
    first = dare.kept(0, "a", "w", 500, 0.5)
    for arguments in ((1, "a", "w"), (0, "b", "w"), (0, "a", "v"), (0, "aw", "")):
        assert (first != dare.kept(*arguments, 500, 0.5)).sum() > 150
    assert torch.equal(first, dare.kept(0, "a", "w", 700, 0.5)[:500])
    assert bool((dare.kept(0, "a", "w", 500, 0.2) >= first).all())


@given(order=st.permutations(range(4)), seed=seeds)
@settings(max_examples=20)
def test_neither_the_order_of_tasks_nor_that_of_tensors_changes_a_bit(order: list[int], seed: int) -> None:
    vectors = experts(4, seed)
    turned = [dict(reversed(vectors[task].items())) for task in order]
    assert same(dict(sorted(merged(turned, 0.5).items())), dict(sorted(merged(vectors, 0.5).items())))


def test_the_mask_of_an_expert_does_not_depend_on_the_others() -> None:
    one, two, three = experts(3, 0)
    nothing = {key: torch.zeros(shape) for key, shape in SHAPES.items()}
    parts = [merged([vector, nothing], 0.5) for vector in (one, two)]
    for key, tensor in merged([two, one], 0.5).items():
        torch.testing.assert_close(tensor, parts[0][key] + parts[1][key])
    assert dare.digests(MemorySuite([three, one]))[1] == dare.digests(MemorySuite([one, two]))[0]


def test_a_digest_is_that_of_what_changed() -> None:
    vector = experts(1, 0)[0]
    signed = vector | {"bias": torch.tensor([-0.0, 1.0, 2.0, 3.0, 4.0])}
    plain = vector | {"bias": torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])}
    moved = vector | {"proj": vector["proj"].mT.contiguous().mT}
    other = vector | {"scale": vector["scale"] + 1}
    found = dare.digests(MemorySuite([vector, signed, plain, moved, other]))
    assert found[0] == found[3]
    assert found[1] == found[2]
    assert len({*found}) == 3
    longer = [tensors | {"more": torch.zeros(3)} for tensors in (vector, other)]
    assert dare.digests(MemorySuite(longer)) == [found[0], found[4]]


def saved(folder: Path, states: list[dict[str, Tensor]], n_files: int) -> CheckpointSuite:
    """Return the suite of these states, the base first, each split into that many files."""
    found = []
    for number, state in enumerate(states):
        place = folder / f"{n_files}-{number}"
        place.mkdir()
        homes = {key: f"model-{index % n_files}.safetensors" for index, key in enumerate(state)}
        for file in {*homes.values()}:
            checkpoints.save(place / file, {key: state[key] for key in state if homes[key] == file}, {})
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
        found.append(checkpoints.open_checkpoint(place / "model.safetensors.index.json"))
    return CheckpointSuite(found[0], found[1:])


def test_files_may_be_split_in_any_way_and_workers_be_many(tmp_path: Path) -> None:
    base = {key: torch.zeros(shape) for key, shape in SHAPES.items()}
    vectors = experts(3, 0)
    expected = merged(vectors, 0.5)
    for n_files in (1, 3):
        suite = saved(tmp_path, [base, *vectors], n_files)
        found = merging.merged_update(suite, method(0.5), workers=2)
        assert all(torch.equal(found[key], expected[key]) for key in SHAPES)


@pytest.mark.parametrize("device", oracles.DEVICES)
def test_neither_device_nor_task_matrices_change_what_is_dropped(device: str) -> None:
    suite = MemorySuite(experts(3, 0))
    function = dare.dare(suite)
    expected = {key: merging.update(function, suite, key) for key in SHAPES}
    assert any(tensor.count_nonzero() < tensor.numel() for tensor in expected.values())
    for rule in (MatrixRule(), SPLIT.rule):
        computing = Computing(rule, torch.device(device))
        found = {key: merging.update(function, suite, key, computing) for key in SHAPES}
        assert same(found, expected)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, math.nan])
def test_shares_that_leave_nothing_are_refused(share: float) -> None:
    with pytest.raises(InputError, match=f"{share} is no share of entries to drop; choose one"):
        dare.dropping(share)


def test_numbers_beyond_float32_are_refused() -> None:
    vectors = [{"w": torch.full((64,), 3e38)}] * 2
    with pytest.raises(InputError, match="`w`: the weights have exploded"):
        merged(vectors, 0.9)
