# SPDX-License-Identifier: MIT
"""A merge is checked, told and estimated from headers, before any tensor is read."""

import math
import re
from collections.abc import Sequence
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
from tsvlib.cli.planning import Plan
from tsvlib.computing import PAPER
from tsvlib.errors import InputError
from tsvlib.selection import Selection
from tsvlib.suites import CheckpointSuite
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


def suite(*checkpoints: Checkpoint, leave_out: Sequence[str] = ()) -> CheckpointSuite:
    return CheckpointSuite(checkpoints[0], checkpoints[1:], leave_out=leave_out)


def planned(suite: CheckpointSuite, files: int = 1, rule: MatrixRule = PAPER, workers: int = 1) -> Plan:
    return planning.plan(suite, suite.base.layout, files, rule=rule, workers=workers)


def test_experts_like_the_base_pass_whatever_they_hold(tmp_path: Path) -> None:
    base, first = opened(tmp_path, "base"), opened(tmp_path, "first")
    second = opened(tmp_path, "second", position_ids=torch.ones(2, 3).long(), logit_scale=torch.tensor(float("nan")))
    assert suite(base, first, second).selection.whole == ("position_ids",)
    assert suite(base).selection.own == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ln.bias": None}, "{expert}: the checkpoint lacks `ln.bias` of {base}; "),
        ({"ln.bias": None, "none": None}, "{expert}: the checkpoint lacks `ln.bias` and 1 more key of {base}; "),
        ({"head": torch.zeros(2)}, "{base}: the checkpoint lacks `head` of {expert}; "),
        ({"ln.bias": torch.zeros(8, 1)}, "{expert}: `ln.bias` has shape (8, 1), but (8,) in {base}; "),
        ({"none": torch.zeros(0, 4)}, "{expert}: `none` has shape (0, 4), but (0, 3) in {base}; "),
        ({"ln.bias": torch.zeros(8).int()}, "{expert}: `ln.bias` is of type torch.int32, but torch.float32 in"),
    ],
)
def test_experts_unlike_the_base_are_named(tmp_path: Path, changes: dict[str, Tensor | None], reason: str) -> None:
    base, first = opened(tmp_path, "base"), opened(tmp_path, "first")
    second = opened(tmp_path, "second", **changes)
    expected = re.escape(reason.format(base=base.path, expert=second.path))
    with pytest.raises(InputError, match=f"^{expected}[^\n]*--leave-out[^\n]*\\.$"):
        suite(base, first, second)
    left = suite(base, first, second, leave_out=[*changes])
    assert not changes.keys() & set(left.selection.merged)


def test_headers_are_enough(tmp_path: Path) -> None:
    base, expert = opened(tmp_path, "base"), opened(tmp_path, "expert")
    for checkpoint in (base, expert):
        checkpoint.path.unlink()
    assert planned(suite(base, expert, expert)).experts == 2


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
    plan = planned(suite(base, base, base, base), rule=rule, workers=2)
    assert (plan.experts, plan.tensors, plan.matrices, len(plan.selection.merged)) == (3, 8, len(shapes), 7)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state().values())
    assert (plan.bytes_read, plan.bytes_written) == (4 * size, size)
    single = sum(3 * (m * n**2 + 9 * n**3) for m, n in shapes)
    double = sum(2 * (m + n) * n**2 + 18 * n**3 for m, n in shapes)
    assert plan.flops == single + double
    assert math.isclose(plan.seconds, (single / 60e9 + double / 30e9) / 2 + 5 * size / 1e9)


def test_what_is_left_out_costs_nothing_but_its_bytes(tmp_path: Path) -> None:
    base = opened(tmp_path, "base")
    plan = planned(suite(base, base, base, leave_out=["attn", "visual.*"]))
    assert (plan.matrices, plan.flops) == (0, 0)
    assert plan.bytes_written == planned(suite(base, base, base)).bytes_written


def test_memory_is_what_the_largest_key_needs(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(40, 20).half(), "b": torch.zeros(40).half()}, tmp_path / "a.safetensors")
    base = open_checkpoint(tmp_path / "a.safetensors")
    # Base, expert and result in half precision, the delta in single; of each of 4 tasks 5 components, and those
    # side by side in double precision.
    one = 3 * 2 * 800 + 4 * 800 + 4 * 4 * 5 * (40 + 20 + 1) + 8 * 4 * 5 * (40 + 20)
    every = suite(base, *[base] * 4)
    assert planned(every).memory == one
    assert planned(every, workers=3).memory == 3 * one
    assert planned(every, files=3).memory == one + 2 * 2 * 800
    assert planned(every, files=3).bytes_written == 3 * planned(every).bytes_written


@given(st.integers(1, 5), st.integers(1, 8))
def test_more_experts_take_more_and_more_workers_less_time(experts: int, workers: int) -> None:
    base = open_checkpoint(SHIPPED)
    plan = planned(suite(base, *[base] * experts), workers=workers)
    more = planned(suite(base, *[base] * (experts + 1)), workers=workers)
    assert plan.flops < more.flops
    assert plan.bytes_read < more.bytes_read
    assert plan.bytes_written == more.bytes_written
    faster = planned(suite(base, *[base] * experts), workers=workers + 1)
    assert faster.seconds < plan.seconds
    assert faster.memory > plan.memory


def test_workers_are_needed(tmp_path: Path) -> None:
    base = opened(tmp_path, "base")
    with pytest.raises(InputError, match=r"^0 workers cannot work; choose at least one"):
        planned(suite(base, base, base), workers=0)


def test_nothing_to_merge(tmp_path: Path) -> None:
    save_file({}, tmp_path / "a.safetensors")
    base = open_checkpoint(tmp_path / "a.safetensors")
    plan = planned(suite(base, base, base))
    assert (plan.tensors, plan.matrices, plan.bytes_read, plan.flops, plan.memory) == (0, 0, 0, 0, 0)
    assert planned(suite(opened(tmp_path, "b"))).flops > 0


SELECTION = Selection(
    merged=tuple(map(str, range(297))),
    whole=("a.position_ids", "b.steps", "c.mask", "d.steps", "e.steps"),
    left_out={"head.weight": "head", "head.bias": "head", "text.w": "text.*"},
    absent=("extra.ids",),
    tied={"lm_head.weight": "embed.weight"},
    own=(),
    notes=(),
)


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
    sizes = (5_400_000_000, 600_000_000, 1_250_000_000_000, seconds, memory, 64_000_000_000, 42_000_000_000)
    plan = Plan(8, 305, 74, SELECTION, *sizes, Path("out"), ("one is read as another.",))
    assert plan.troubles == ()
    assert str(plan).splitlines() == [
        "fits        yes",
        "experts     8",
        "tensors     305",
        "merged      297, of which 74 task matrices",
        "copied      5 of whole numbers or flags, as in the base: `a.position_ids`, `b.steps`, `c.mask` and 2 more",
        "left out    2 by `head`, as in the base: `head.bias`, `head.weight`",
        "left out    1 by `text.*`, as in the base: `text.w`",
        "absent      1 that the base lacks, not written: `extra.ids`",
        "tied        `lm_head.weight` is merged as `embed.weight`, which it is tied to",
        "read        5.4 GB",
        "written     600 MB, of 42 GB in out",
        "arithmetic  1.25 Tflop",
        f"memory      {size}, of 64 GB that are free",
        f"time        {time}",
        "note        one is read as another.",
    ]


def test_what_does_not_fit_is_told_with_both_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = opened(tmp_path, "base")
    monkeypatch.setattr(planning.room, "free_memory", lambda: 100)
    monkeypatch.setattr(planning.room, "free_disk", lambda folder: 10)
    plan = planned(suite(base, base, base))
    memory, disk = plan.troubles
    assert re.fullmatch(r"\S+ kB of memory are needed and 100 B are free; choose fewer workers or .*", memory)
    assert re.fullmatch(r"\S+ kB are to be written and 10 B are free in \.; free some space or .*", disk)
    assert str(plan).splitlines()[:2] == [f"fits        no: {memory}", f"fits        no: {disk}"]
    monkeypatch.setattr(planning.room, "free_memory", lambda: None)
    plan = planned(suite(base, base, base))
    assert plan.troubles == (disk,)
    assert "that are free" not in str(plan)
