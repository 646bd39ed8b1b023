# SPDX-License-Identifier: MIT
"""A merge is checked and estimated from headers, before any tensor is read."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from compendium.paths import ROOT
from tsvlib.checkpoints import Checkpoint, open_checkpoint
from tsvlib.cli import planning
from tsvlib.errors import InputError
from tsvlib.taskvectors import MatrixRule

SHIPPED = ROOT / "data" / "mini" / "weights" / "mini-b32.safetensors"


def state() -> dict[str, Tensor]:
    return {
        "attn.in_proj_weight": torch.zeros(24, 8),
        "conv1.weight": torch.zeros(8, 3, 2, 2),
        "ln.bias": torch.zeros(8),
        "logit_scale": torch.zeros(()),
        "none": torch.zeros(0, 3),
        "position_ids": torch.arange(6).reshape(2, 3),
        "text_projection": torch.zeros(8, 8),
        "visual.proj": torch.zeros(6, 8),
    }


def opened(folder: Path, name: str, **changes: Tensor | None) -> Checkpoint:
    tensors = {key: tensor for key, tensor in (state() | changes).items() if tensor is not None}
    save_file(tensors, folder / f"{name}.safetensors")
    return open_checkpoint(folder / f"{name}.safetensors")


def test_experts_like_the_base_pass_whatever_they_hold(tmp_path: Path) -> None:
    base, first = opened(tmp_path, "base"), opened(tmp_path, "first")
    second = opened(tmp_path, "second", position_ids=torch.ones(2, 3).long(), logit_scale=torch.tensor(float("nan")))
    planning.check(base, [first, second])
    planning.check(base, [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ln.bias": None}, "{expert}: the checkpoint lacks `ln.bias` of {base}; "),
        ({"ln.bias": None, "none": None}, "{expert}: the checkpoint lacks `ln.bias` and 1 more keys of {base}; "),
        ({"head": torch.zeros(2)}, "{base}: the checkpoint lacks `head` of {expert}; "),
        ({"ln.bias": torch.zeros(8, 1)}, "{expert}: `ln.bias` has shape (8, 1), but (8,) in {base}; "),
        ({"none": torch.zeros(0, 4)}, "{expert}: `none` has shape (0, 4), but (0, 3) in {base}; "),
        ({"ln.bias": torch.zeros(8).int()}, "{expert}: `ln.bias` is of type torch.int32, but torch.float32 in"),
        ({"position_ids": torch.zeros(2, 3).int()}, "{expert}: `position_ids` is of type torch.int32, but torch.int64"),
    ],
)
def test_experts_unlike_the_base_are_named(tmp_path: Path, changes: dict[str, Tensor | None], reason: str) -> None:
    base, first = opened(tmp_path, "base"), opened(tmp_path, "first")
    second = opened(tmp_path, "second", **changes)
    expected = re.escape(reason.format(base=base.path, expert=second.path))
    with pytest.raises(InputError, match=f"^{expected}[^\n]*\\.$"):
        planning.check(base, [first, second])


def test_headers_are_enough(tmp_path: Path) -> None:
    base, expert = opened(tmp_path, "base"), opened(tmp_path, "expert")
    for checkpoint in (base, expert):
        checkpoint.path.unlink()
    assert planning.plan(base, [expert, expert], workers=1).experts == 2


@pytest.mark.parametrize(
    ("rule", "shapes"),
    [
        (MatrixRule(), [(24, 8), (8, 6)]),
        (MatrixRule(split_qkv=True), [(8, 8)] * 3 + [(8, 6)]),
        (MatrixRule(convolutions=True), [(24, 8), (12, 8), (8, 6)]),
        (MatrixRule(split_qkv=True, convolutions=True), [(8, 8)] * 3 + [(12, 8), (8, 6)]),
    ],
)
def test_counts_and_costs_are_those_of_the_matrices(
    tmp_path: Path, rule: MatrixRule, shapes: list[tuple[int, int]]
) -> None:
    base = opened(tmp_path, "base")
    plan = planning.plan(base, [base] * 3, rule=rule, workers=2)
    assert (plan.experts, plan.tensors, plan.matrices, plan.untouched) == (3, 8, len(shapes), 1)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state().values())
    assert (plan.bytes_read, plan.bytes_written) == (4 * size, size)
    single = sum(3 * (m * n**2 + 9 * n**3) for m, n in shapes)
    double = sum(2 * (m + n) * n**2 + 18 * n**3 for m, n in shapes)
    assert plan.flops == single + double
    assert math.isclose(plan.seconds, (single / 60e9 + double / 30e9) / 2 + 5 * size / 1e9)


def test_memory_is_what_the_largest_key_needs(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(40, 20).half(), "b": torch.zeros(40).half()}, tmp_path / "a.safetensors")
    base = open_checkpoint(tmp_path / "a.safetensors")
    # Base, expert and result in half precision, the delta in single; of each of 4 tasks 5 components, and those
    # side by side in double precision.
    one = 3 * 2 * 800 + 4 * 800 + 4 * 4 * 5 * (40 + 20 + 1) + 8 * 4 * 5 * (40 + 20)
    assert planning.plan(base, [base] * 4, workers=1).memory == one
    assert planning.plan(base, [base] * 4, workers=3).memory == 3 * one


@given(st.integers(1, 5), st.integers(1, 8))
def test_more_experts_take_more_and_more_workers_less_time(experts: int, workers: int) -> None:
    base = open_checkpoint(SHIPPED)
    plan = planning.plan(base, [base] * experts, workers=workers)
    more = planning.plan(base, [base] * (experts + 1), workers=workers)
    assert plan.flops < more.flops
    assert plan.bytes_read < more.bytes_read
    assert plan.bytes_written == more.bytes_written
    faster = planning.plan(base, [base] * experts, workers=workers + 1)
    assert faster.seconds < plan.seconds
    assert faster.memory > plan.memory


def test_workers_are_needed(tmp_path: Path) -> None:
    base = opened(tmp_path, "base")
    with pytest.raises(InputError, match=r"^0 workers cannot work; choose at least one"):
        planning.plan(base, [base, base], workers=0)


def test_nothing_to_merge(tmp_path: Path) -> None:
    save_file({}, tmp_path / "a.safetensors")
    base = open_checkpoint(tmp_path / "a.safetensors")
    plan = planning.plan(base, [base, base], workers=1)
    assert (plan.tensors, plan.matrices, plan.bytes_read, plan.flops, plan.memory) == (0, 0, 0, 0, 0)
    assert planning.plan(opened(tmp_path, "b"), [], workers=1).flops > 0


@pytest.mark.parametrize(
    ("seconds", "memory", "time", "size"),
    [
        (0.2, 999, "about 1 s", "about 999 B"),
        (119.4, 1500, "about 119 s", "about 1.5 kB"),
        (121.0, 2_340_000, "about 2 minutes", "about 2.34 MB"),
        (7300.0, 12_300_000_000, "about 2 hours", "about 12.3 GB"),
    ],
)
def test_table_has_a_row_for_each_question(seconds: float, memory: int, time: str, size: str) -> None:
    text = str(planning.Plan(8, 302, 74, 2, 5_400_000_000, 600_000_000, 1_250_000_000_000, seconds, memory))
    assert text.splitlines() == [
        "experts     8",
        "tensors     302 (74 task matrices; 2 of whole numbers, copied)",
        "read        5.4 GB",
        "written     600 MB",
        "arithmetic  1.25 Tflop",
        f"memory      {size}",
        f"time        {time}",
    ]
