# SPDX-License-Identifier: MIT
"""What is written tensor by tensor is what is saved at once, or nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from foreign import refused, same, state
from safetensors import safe_open
from torch import Tensor

from compendium.paths import ROOT
from tsvlib import checkpoints
from tsvlib.checkpoints import TensorInfo, file_order, open_checkpoint
from tsvlib.errors import InputError

RECIPE = {"method": "tsv_m", "alpha": 0.3, "inputs": {"β": "0a1b"}}
# Writes half of a file, says so, and waits to be killed.
WRITER = """
import sys, time
from pathlib import Path
import torch
from tsvlib import checkpoints
from tsvlib.checkpoints import TensorInfo
def tensors():
    yield "a", torch.ones(500, 500)
    print("ready", flush=True)
    time.sleep(60)
checkpoints.write(Path(sys.argv[1]), dict.fromkeys("ab", TensorInfo(torch.float32, (500, 500))), {}, tensors())
"""
Pairs = list[tuple[str, Tensor]]


def layout_of(tensors: dict[str, Tensor]) -> dict[str, TensorInfo]:
    return {key: TensorInfo(tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}


def streamed(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((key, tensors[key]) for key in file_order(layout_of(tensors)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_same_bytes_as_saved_at_once(tmp_path: Path) -> None:
    saved, written = tmp_path / "folder" / "saved.safetensors", tmp_path / "folder" / "written.safetensors"
    digest = checkpoints.save(saved, state(), RECIPE)
    turned = dict(reversed(layout_of(state()).items()))
    assert checkpoints.write(written, turned, dict(reversed(RECIPE.items())), streamed(state())) == digest
    assert written.read_bytes() == saved.read_bytes()
    assert checkpoints.recipe(written) == RECIPE
    assert same(open_checkpoint(written), state())


def test_any_layout_in_memory_is_written_by_its_values(tmp_path: Path) -> None:
    weight = torch.arange(24.0).reshape(2, 3, 4)
    views = {"w": torch.nn.Parameter(weight).permute(2, 0, 1), "v": weight[:, 1], "s": weight[1, 2, 3]}
    path = tmp_path / "a.safetensors"
    checkpoints.write(path, layout_of(views), {}, streamed(views))
    assert same(open_checkpoint(path), {key: view.detach().contiguous() for key, view in views.items()})


def test_nothing_but_one_tensor_is_held(tmp_path: Path) -> None:
    layout = {str(number): TensorInfo(torch.float32, (10, 10)) for number in range(5)}
    earlier: list[weakref.ref[Tensor]] = []

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for key in file_order(layout):
            assert [reference() for reference in earlier] == [None] * len(earlier)
            tensor = torch.full((10, 10), float(key))
            earlier.append(weakref.ref(tensor))
            pair = key, tensor
            del tensor
            yield pair
            del pair

    checkpoints.write(tmp_path / "a", layout, {}, tensors())
    assert len(earlier) == 5
    assert checkpoints.load(tmp_path / "a")["4"][0, 0] == 4


def test_metadata_for_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    plain = checkpoints.save(path, state(), RECIPE)
    digests = {
        checkpoints.write(path, layout_of(state()), RECIPE, streamed(state()), metadata=metadata)
        for metadata in ({}, {"format": "np"}, {"format": "pt"})
    }
    assert plain in digests
    assert len(digests) == 3
    assert same(open_checkpoint(path), state())
    assert checkpoints.recipe(path) == RECIPE
    with safe_open(path, framework="pt") as file:
        found = file.metadata()
    assert found.pop("digest") == checkpoints.digest(path)
    assert json.loads(found.pop("recipe")) == RECIPE
    assert found == {"format": "pt"}
    path.write_bytes(path.read_bytes().replace(b'"format":"pt"', b'"format":"np"'))
    with pytest.raises(InputError, match="its digest does not match"):
        checkpoints.verify(path)


ONE, TWO = torch.ones(2), torch.ones(3)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ([("b", TWO), ("a", ONE)], "`b` comes where the order of the file has `a`"),
        ([("a", ONE), ("a", ONE)], "`a` comes where the order of the file has `b`"),
        ([("a", ONE), ("c", TWO)], "`c` comes where the order of the file has `b`"),
        ([("a", ONE)], "the tensors end before `b`"),
        ([], "the tensors end before `a`"),
        ([("a", ONE), ("b", TWO), ("c", ONE)], "`c` comes after the last tensor"),
        ([("a", ONE), ("b", ONE)], "`b` is TensorInfo"),
        ([("a", ONE.int()), ("b", TWO)], "`a` is TensorInfo"),
        ([("a", ONE.view(2, 1)), ("b", TWO)], "`a` is TensorInfo"),
    ],
)
def test_tensors_other_than_announced_change_nothing(tmp_path: Path, tensors: Pairs, reason: str) -> None:
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, {"old": ONE}, {})
    with pytest.raises(ValueError, match=re.escape(reason)):
        checkpoints.write(path, layout_of({"a": ONE, "b": TWO}), {}, tensors)
    assert names(tmp_path) == ["a.safetensors"]
    assert list(checkpoints.load(path)) == ["old"]


def test_announcements_that_no_file_can_hold(tmp_path: Path) -> None:
    path, tensors = tmp_path / "folder" / "a.safetensors", {"w": torch.zeros(2)}
    with pytest.raises(InputError, match=r"`w`: checkpoints cannot hold type torch\.complex64"):
        checkpoints.write(path, {"w": TensorInfo(torch.complex64, (2,))}, {}, [])
    with pytest.raises(InputError, match=r"`__metadata__`: checkpoints keep that name"):
        checkpoints.save(path, {"__metadata__": torch.zeros(2)}, {})
    with pytest.raises(ValueError, match="cannot redefine"):
        checkpoints.write(path, layout_of(tensors), {}, streamed(tensors), metadata={"recipe": "{}"})
    with pytest.raises(ValueError, match="JSON"):
        checkpoints.write(path, layout_of(tensors), {"loss": float("inf")}, streamed(tensors))
    assert not path.parent.exists()


@pytest.mark.parametrize("interruption", [InputError, KeyboardInterrupt, MemoryError])
def test_trouble_while_the_next_tensor_is_made_changes_nothing(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, {"old": ONE}, {})

    def tensors() -> Iterator[tuple[str, Tensor]]:
        yield "a", ONE
        raise interruption

    with pytest.raises(interruption):
        checkpoints.write(path, layout_of({"a": ONE, "b": ONE}), {}, tensors())
    assert names(tmp_path) == ["a.safetensors"]
    assert list(checkpoints.load(path)) == ["old"]


def test_file_can_take_the_place_of_one_that_it_is_made_from(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, state(), {})
    source = open_checkpoint(path)
    tensors = ((key, source.read(key) * 0) for key in file_order(source.layout) if key != "flags")
    checkpoints.write(path, {key: info for key, info in source.layout.items() if key != "flags"}, {}, tensors)
    assert not any(tensor.any() for tensor in checkpoints.load(path).values())
    refused(path, "has changed since it was opened", lambda _: source.read("double"))


@pytest.mark.parametrize("earlier", [True, False])
def test_killed_writer_leaves_what_was_there(tmp_path: Path, earlier: bool) -> None:
    path = tmp_path / "a.safetensors"
    if earlier:
        checkpoints.save(path, {"old": ONE}, {})
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        assert [name for name in names(tmp_path) if name.endswith(".part")]
        writer.send_signal(signal.SIGKILL)
    assert path.exists() == earlier
    if earlier:
        assert list(checkpoints.load(path)) == ["old"]
    checkpoints.save(path, {"new": ONE}, {})
    assert names(tmp_path) == ["a.safetensors"]


def test_full_disk(small_disk: Path) -> None:
    path, big = small_disk / "a.safetensors", torch.ones(1000)
    checkpoints.save(path, {"old": ONE}, {})
    tensors = {f"{number:02}": big for number in range(30)}
    with pytest.raises(InputError, match=r"a\.safetensors: the file cannot be written: the disk is full; free some"):
        checkpoints.write(path, layout_of(tensors), {}, streamed(tensors))
    assert names(small_disk) == ["a.safetensors"]
    assert list(checkpoints.load(path)) == ["old"]


def test_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError(13, os.strerror(13), *arguments[:1])

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(InputError, match="permission denied; make the folder writable"):
        checkpoints.write(tmp_path / "a", layout_of({"a": ONE}), {}, streamed({"a": ONE}))
