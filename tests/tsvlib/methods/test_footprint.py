# SPDX-License-Identifier: MIT
"""No method makes one long matrix of whole models, nor depends on what differs between two runs of Python."""

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compendium import paths
from tsvlib import checkpoints, merging
from tsvlib.methods import MEASURED, PER_TASK, PROCESSES, UPDATES, named, ties
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import StateDict, TaskVector

LAYERS, N_TASKS = 16, 4
SHAPES: dict[str, tuple[int, ...]] = {f"net.{number}.w": (24, 20) for number in range(LAYERS)} | {"bias": (9,)}
LARGEST = max(map(math.prod, SHAPES.values()))
MODEL = sum(map(math.prod, SHAPES.values()))
SCALE = 1e-3
NAMES = [str(number) for number in range(N_TASKS)]


class Watched(TorchDispatchMode):
    """Notes how many elements the largest tensor has that anything makes."""

    largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        sizes = {leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, Tensor)}
        # TIES counts magnitudes in a table of fixed size.
        self.largest = max({self.largest, *sizes} - {ties.BINS})
        return found


def suite() -> MemorySuite:
    vectors = oracles.task_vectors(SHAPES, N_TASKS, 0, torch.float32)
    return MemorySuite([{key: SCALE * tensor for key, tensor in vector.items()} for vector in vectors])


def statistics(name: str) -> list[dict[str, Tensor]]:
    rows = oracles.task_vectors({key: (20, shape[-1]) for key, shape in SHAPES.items()}, N_TASKS, 1, torch.float32)
    if name == "fisher":
        return [{key: torch.ones(shape) for key, shape in SHAPES.items()} for _ in rows]
    if name.startswith("adamerging"):
        return [{key: torch.tensor(0.3) for key in SHAPES} for _ in rows]
    inputs = [{key: row[key] for key in SHAPES if key != "bias"} for row in rows]
    return [{key: x.mT @ x for key, x in each.items()} for each in inputs] if name == "regmean" else inputs


def runs() -> dict[str, Any]:
    """Return what merges, by the name of a row, or of what follows the sum of all changes."""
    found: dict[str, Any] = {name: method.bind for name, method in UPDATES.items()}
    found |= {name: row.bind(statistics(name)) for name, row in MEASURED.items()}
    return found | {f"+{name}": named(f"task_arithmetic+{name}").bind for name in PROCESSES}


@pytest.mark.parametrize("name", runs())
def test_no_update_makes_a_tensor_larger_than_one_layer_of_all_tasks(name: str) -> None:
    experts, bind = suite(), runs()[name]
    with Watched() as watched:
        function = bind(experts)
        for key in SHAPES:
            merging.update(function, experts, key)
    assert LARGEST <= watched.largest <= N_TASKS * LARGEST < MODEL


@pytest.mark.parametrize("name", PER_TASK)
def test_no_pack_makes_a_tensor_larger_than_one_layer_of_all_tasks(name: str) -> None:
    experts = suite()
    with Watched() as watched:
        packed = PER_TASK[name].pack(experts, NAMES)
        for each in NAMES:
            packed.expert(each)
    assert LARGEST <= watched.largest <= N_TASKS * LARGEST < MODEL


def test_the_watch_sees_one_long_matrix() -> None:
    experts = suite()
    with Watched() as watched:
        torch.stack([torch.cat([tensor.flatten() for tensor in vector.values()]) for vector in experts.task_vectors])
    assert watched.largest == N_TASKS * MODEL


_MERGED = """
import hashlib, pathlib, sys
from tsvlib import checkpoints, merging
from tsvlib.suites import CheckpointSuite
from tsvlib.methods import PER_TASK, PROCESSES, UPDATES, named

base, *experts = map(checkpoints.open_checkpoint, sorted(pathlib.Path(sys.argv[1]).glob("*.safetensors")))
suite = CheckpointSuite(base, experts)
for name in [*UPDATES, *(f"task_arithmetic+{process}" for process in PROCESSES)]:
    update = merging.merged_update(suite, named(name))
    bytes_of = hashlib.sha256(b"".join(key.encode() + update[key].numpy().tobytes() for key in update))
    print(name, bytes_of.hexdigest())
for name, row in PER_TASK.items():
    packed = row.pack(suite, [str(number) for number in range(len(experts))])
    values = packed.expert("1").values()
    print(name, hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in values)).hexdigest())
"""


@pytest.mark.slow
def test_what_python_hashes_texts_to_changes_no_bit(tmp_path: Path) -> None:
    base = oracles.task_vectors(SHAPES, 1, 9, torch.float32)[0]
    states: list[StateDict] = [base, *(TaskVector(vector) + base for vector in suite().task_vectors)]
    for number, state in enumerate(states):
        checkpoints.save(tmp_path / f"{number}.safetensors", state, {})
    command = [sys.executable, "-c", _MERGED, str(tmp_path)]
    told = {
        subprocess.run(
            command, cwd=paths.ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, text=True, stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(told) == 1
    assert len(next(iter(told)).splitlines()) == len(UPDATES) + len(PROCESSES) + len(PER_TASK)
