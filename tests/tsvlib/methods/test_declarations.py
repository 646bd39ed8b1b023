# SPDX-License-Identifier: MIT
"""What a row of the table declares is what its method takes: images, labels, training, storage in bytes."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import oracles
import pytest
import torch
from torch import Tensor

from compendium import paths
from tsvlib import checkpoints, merging
from tsvlib.errors import InputError
from tsvlib.methods import MEASURED, METHODS, PER_TASK, PROCESSES, UPDATES, named, wudi
from tsvlib.methods.base import INPUTS, NOTHING, VALIDATION, Needs, Quantity
from tsvlib.methods.statistics import Statistics
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import StateDict, TaskVector

SHAPES: dict[str, tuple[int, ...]] = {"net.0.w": (24, 18), "net.1.w": (18, 24), "conv": (4, 3, 2, 2), "bias": (18,)}
LINEAR = ("net.0.w", "net.1.w")
NAMES = ("a", "b", "c")


def experts() -> list[dict[str, Tensor]]:
    vectors = oracles.task_vectors(SHAPES, len(NAMES), 0, torch.float32)
    return [{key: 1e-3 * tensor for key, tensor in vector.items()} for vector in vectors]


class Unlabelled(Mapping[str, Tensor]):
    """What was measured on unlabelled inputs alone, made when it is asked for; anything else is told."""

    def __init__(self, seed: int, kind: Quantity) -> None:
        self.seed, self.kind = seed, kind

    def __getitem__(self, key: str) -> Tensor:
        if key not in SHAPES or (self.kind in ("gram", "inputs") and key not in LINEAR):
            raise AssertionError(f"asked for {key!r}, which no unlabelled input tells")
        rows = math.prod(SHAPES[key][1:])
        inputs = oracles.matrix(40, rows, self.seed + len(key))
        if self.kind == "coefficients":
            return 0.3 + oracles.matrix(1, 1, self.seed + len(key)).square().reshape(())
        if self.kind == "fisher":
            return oracles.matrix(1, math.prod(SHAPES[key]), self.seed).square().reshape(SHAPES[key])
        return inputs if self.kind == "inputs" else inputs.mT @ inputs

    def __iter__(self) -> Iterator[str]:
        return iter(LINEAR if self.kind in ("gram", "inputs") else SHAPES)

    def __len__(self) -> int:
        return len(list(iter(self)))


def test_whoever_has_an_alpha_to_choose_needs_labelled_inputs_and_nobody_else_does() -> None:
    for name, method in UPDATES.items():
        training = name == "wudi"
        assert method.needs == (VALIDATION if method.searches_alpha else Needs(training=training)), name
    assert UPDATES["tsv_m_alpha_1"].needs == NOTHING
    assert {row.needs for row in PROCESSES.values()} == {NOTHING}


def test_where_a_process_settles_alpha_no_label_is_needed_any_more() -> None:
    assert named("task_arithmetic").needs == VALIDATION
    for name in ("svc", "svc_shrinking", "lines"):
        assert named(f"task_arithmetic+{name}").alphas == (1.0,)
        assert named(f"task_arithmetic+{name}").needs == NOTHING
    assert named("task_arithmetic+boosting").needs == VALIDATION
    assert named("tsv-m-alpha-1+boosting").needs == NOTHING
    assert named("wudi+svc").needs == Needs(training=True)


@pytest.mark.parametrize("name", MEASURED)
def test_methods_that_declare_inputs_alone_run_on_what_knows_no_label(name: str) -> None:
    row = MEASURED[name]
    assert row.needs == INPUTS._replace(training=name.startswith("adamerging"))
    told: list[Statistics] = [Unlabelled(10 * number, row.quantity) for number in range(len(NAMES))]
    method = row.by(told)
    assert (method.needs, method.alphas) == (row.needs, (1.0,))
    found = merging.merged_update(experts(), method)
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == SHAPES
    assert all(tensor.isfinite().all() and tensor.any() for tensor in found.values())
    plain = merging.merged_update(experts(), "weight_averaging")
    assert not torch.equal(found["net.0.w"], plain["net.0.w"])


@pytest.mark.parametrize("name", MEASURED)
def test_methods_that_declare_inputs_do_not_run_without(name: str) -> None:
    with pytest.raises(InputError, match=rf"of 0 experts, and {len(NAMES)} are merged"):
        merging.merged_update(experts(), MEASURED[name].by([]))


_WATCHED = """
import json, sys, pathlib
from tsvlib import checkpoints, merging
from tsvlib.suites import CheckpointSuite
from tsvlib.methods import PER_TASK, PROCESSES, UPDATES, named
from tsvlib.checkpoints import open_checkpoint

folder, opened = sys.argv[1], set()
base, *experts = map(open_checkpoint, sorted(pathlib.Path(folder).glob("*.safetensors")))
suite = CheckpointSuite(base, experts)
merging.merged_update(suite, "tsv_m")  # imports what is imported late


def note(event, arguments):
    if event in ("open", "socket.connect", "subprocess.Popen"):
        opened.add(str(arguments[0]))


sys.addaudithook(note)
for name in [*UPDATES, *(f"task_arithmetic+{process}" for process in PROCESSES)]:
    merging.merged_update(suite, named(name))
for row in PER_TASK.values():
    row.pack(suite, ["a", "b", "c"])
print(json.dumps(sorted(opened)))
"""


def test_methods_that_declare_no_inputs_read_nothing_but_checkpoints(tmp_path: Path) -> None:
    base = oracles.task_vectors(SHAPES, 1, 9, torch.float32)[0]
    states: list[StateDict] = [base, *(TaskVector(vector) + base for vector in experts())]
    for number, state in enumerate(states):
        checkpoints.save(tmp_path / f"{number}.safetensors", state, {})
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(tmp_path)], cwd=paths.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    opened = json.loads(done.stdout)
    strange = [file for file in opened if not file.startswith((str(tmp_path), sys.prefix, sys.base_prefix, "/proc"))]
    assert not [file for file in strange if not file.startswith(str(paths.ROOT / "tsvlib"))]
    assert any(file.startswith(str(tmp_path)) for file in opened)


def test_what_trains_without_inputs_goes_on_with_its_steps_and_nothing_else_has_any() -> None:
    assert {name for name, row in METHODS.items() if row.needs.training and not row.needs.inputs} == {"wudi"}
    suite = MemorySuite(experts())
    start, once, twice = (merging.update(wudi.descended(steps)(suite), suite, "net.0.w") for steps in (0, 1, 2))
    torch.testing.assert_close(start, sum(vector["net.0.w"] for vector in experts()))
    assert not torch.equal(once, start)
    assert not torch.equal(twice, once)


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_that_declares_no_storage_takes_the_bytes_of_one_model(name: str, tmp_path: Path) -> None:
    assert not UPDATES[name].needs.storage
    found = merging.merged_update(experts(), name)
    assert found.stored_bytes == one_model()
    assert written(tmp_path / "update.safetensors", found) == one_model()


@pytest.mark.parametrize("name", PER_TASK)
def test_models_per_task_declare_storage_and_take_what_they_say(name: str, tmp_path: Path) -> None:
    row = PER_TASK[name]
    assert row.needs.storage
    packed = row.pack(MemorySuite(experts()), NAMES)
    masked = getattr(packed, "masked", packed)
    parts = {**masked.shared, **{f"{key}:mask": mask for key, mask in masked.masks.items()}}
    if hasattr(packed, "rescalers"):
        parts["rescalers"] = packed.rescalers
    assert written(tmp_path / "packed.safetensors", parts) == packed.stored_bytes
    bits = sum(len(NAMES) * -(-math.prod(shape) // 8) for shape in SHAPES.values())
    numbers = 8 * len(NAMES) if name == "emr" else 0
    assert packed.stored_bytes == one_model() + bits + numbers
    assert one_model() < packed.stored_bytes < len(NAMES) * one_model()
    restored = {each: packed.expert(each) for each in NAMES}
    assert not any(torch.equal(restored["a"][key], restored["b"][key]) for key in LINEAR)


def one_model() -> int:
    return sum(4 * math.prod(shape) for shape in SHAPES.values())


def written(file: Path, tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of the values in a file with these tensors: all but its header."""
    checkpoints.save(file, dict(tensors), {})
    content = file.read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")
