# SPDX-License-Identifier: MIT
"""What is saved is what is loaded, and no damage goes unnoticed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from compendium.paths import ROOT
from tsvlib import checkpoints
from tsvlib.checkpoints import writing
from tsvlib.errors import InputError

RECIPE = {"method": "tsv_m", "alpha": 0.3, "inputs": {"β": "0a1b"}, "tasks": ["x", "y"]}
READERS: list[Callable[[Path], object]] = [
    checkpoints.load,
    checkpoints.verify,
    checkpoints.recipe,
    checkpoints.digest,
]
WRITER = """
import sys
from pathlib import Path
import torch
from tsvlib import checkpoints
from tsvlib.checkpoints import writing
for number in range(10_000):
    checkpoints.save(Path(sys.argv[1]), {"w": torch.full((500, 500), float(number))}, {"number": number})
"""


def state() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "b.weight": torch.randn(3, 4, generator=random),
        "a.weight": torch.randn(2, 3, generator=random).half(),
        "bf16": torch.randn(5, generator=random).bfloat16(),
        "double": torch.tensor([float("nan"), 1.0], dtype=torch.float64),
        "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 3),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "flags": torch.tensor([True, False, True]),
        "steps": torch.tensor(7),
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype and torch.equal(left[key].nan_to_num(), right[key].nan_to_num())
        for key in left
    )


def refused(read: Callable[[Path], object], path: Path) -> str:
    """Expect one sentence that begins with the file and ends with the remedy, and return it."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; make it again.")
    assert "\n" not in message
    return message


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, state(), RECIPE)
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.safetensors"
    digest = checkpoints.save(path, state(), RECIPE)
    loaded = checkpoints.load(path)
    assert same(loaded, state())
    assert list(loaded) == sorted(state())
    assert checkpoints.recipe(path) == RECIPE
    assert checkpoints.digest(path) == digest
    checkpoints.verify(path)


def test_empty_state(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "a", {}, {})
    assert checkpoints.load(tmp_path / "a") == {}
    assert checkpoints.recipe(tmp_path / "a") == {}


def test_loaded_tensors_are_independent_and_writable(saved: Path) -> None:
    loaded = checkpoints.load(saved)
    loaded["b.weight"].add_(1)
    loaded["scalar"].zero_()
    assert same(checkpoints.load(saved), state())


def test_any_layout_in_memory_is_saved_by_its_values(tmp_path: Path) -> None:
    weight = torch.arange(12.0).reshape(3, 4)
    checkpoints.save(tmp_path / "plain", {"w": weight.T.contiguous()}, {})
    checkpoints.save(tmp_path / "view", {"w": torch.nn.Parameter(weight).T}, {})
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "view").read_bytes()


def test_other_programs_can_read_it(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        assert same({key: file.get_tensor(key) for key in file.keys()}, state())  # noqa: SIM118
        assert json.loads(file.metadata()["recipe"]) == RECIPE
        assert file.metadata()["digest"] == checkpoints.digest(saved)


def test_tensors_are_aligned_in_the_file_and_in_memory(saved: Path) -> None:
    content = saved.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:length])
    assert length % 8 == 0
    for key, tensor in checkpoints.load(saved).items():
        assert header[key]["data_offsets"][0] % tensor.element_size() == 0
        assert tensor.data_ptr() % 64 == 0


@pytest.mark.parametrize("length", range(8))
def test_headers_of_any_length_end_at_a_multiple_of_eight(tmp_path: Path, length: int) -> None:
    checkpoints.save(tmp_path / "a", {"w": torch.zeros(1)}, {"note": "x" * length})
    content = (tmp_path / "a").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0
    assert len(content) % 8 == 4


def test_writing_waits_for_the_disk_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised: list[int] = []
    monkeypatch.setattr(os, "fsync", synchronised.append)
    tensor, path = torch.zeros(2), tmp_path / "a"
    layout = {"w": checkpoints.TensorInfo(torch.float32, (2,))}
    checkpoints.save(path, {"w": tensor}, {}, durable=False)
    checkpoints.write(path, layout, {}, [("w", tensor)], durable=False)
    assert not synchronised
    checkpoints.save(path, {"w": tensor}, {})
    assert len(synchronised) == 2
    checkpoints.write(path, layout, {}, [("w", tensor)])
    assert len(synchronised) == 4


@pytest.mark.parametrize(("durable", "expected"), [(True, [1, 3, 3, 3]), (False, [])])
def test_the_disk_keeps_pace_with_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, expected: list[int]
) -> None:
    made: list[str] = []
    synchronised: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synchronised.append(len(made)))
    # A stretch is shorter than a header with one tensor, or than two tensors, and longer than one.
    monkeypatch.setattr(writing, "_STRETCH", 600)
    tensors = {key: torch.zeros(100) for key in "abc"}
    layout = {key: checkpoints.TensorInfo(torch.float32, (100,)) for key in tensors}
    every = ((key, tensor) for key, tensor in tensors.items() if not made.append(key))
    checkpoints.write(tmp_path / "a", layout, {}, every, durable=durable)
    assert synchronised == expected
    assert checkpoints.load(tmp_path / "a").keys() == tensors.keys()


def test_same_content_in_another_order_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    reversed_state, reversed_recipe = dict(reversed(state().items())), dict(reversed(RECIPE.items()))
    assert checkpoints.save(again, reversed_state, reversed_recipe) == checkpoints.digest(saved)
    assert again.read_bytes() == saved.read_bytes()


def test_digest_covers_names_types_shapes_values_and_recipe(tmp_path: Path) -> None:
    zeros = torch.zeros(2, 3)
    contents: list[tuple[dict[str, Tensor], dict[str, object]]] = [
        ({"w": zeros}, {}),
        ({"v": zeros}, {}),
        ({"w": zeros.T.contiguous()}, {}),
        ({"w": zeros.int()}, {}),
        ({"w": zeros + 1}, {}),
        ({"w": -zeros}, {}),
        ({"w": zeros}, {"seed": 1}),
        ({"w": zeros, "v": torch.empty(0)}, {}),
    ]
    digests = {checkpoints.save(tmp_path / "a", *content) for content in contents}
    assert len(digests) == len(contents)
    assert len({checkpoints.state_digest(tensors) for tensors, _ in contents}) == len(contents) - 1


def test_state_digest_ignores_key_order_and_storage() -> None:
    turned = {key: tensor.clone() for key, tensor in reversed(state().items())}
    assert checkpoints.state_digest(turned) == checkpoints.state_digest(state())


@pytest.mark.parametrize("change", [0x01, 0xFF, ord(" ") ^ ord("\t")])
def test_one_changed_byte_anywhere_is_noticed(saved: Path, change: int) -> None:
    content = saved.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= change
        saved.write_bytes(damaged)
        refused(checkpoints.load, saved)


@pytest.mark.parametrize("read", READERS)
def test_file_cut_anywhere_is_noticed_even_from_the_header(saved: Path, read: Callable[[Path], object]) -> None:
    content = saved.read_bytes()
    for length in [*range(20), *range(20, len(content), 7), len(content) - 1]:
        saved.write_bytes(content[:length])
        refused(read, saved)


@pytest.mark.parametrize("read", READERS)
def test_other_unreadable_files(saved: Path, tmp_path: Path, read: Callable[[Path], object]) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    assert "too long" in refused(read, saved)
    assert "missing" in refused(read, tmp_path / "missing")
    assert "is a directory" in refused(read, tmp_path)
    save_file(state(), tmp_path / "foreign")
    assert "of another program" in refused(read, tmp_path / "foreign")
    torch.save(state(), tmp_path / "pickled")
    refused(read, tmp_path / "pickled")


def test_no_permission_to_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", fail)
    assert "permission denied" in refused(checkpoints.load, saved)


def test_remedy_is_the_callers(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=r"; run `make experts`\.$"):
        checkpoints.load(saved, remedy="run `make experts`")


def test_what_cannot_be_saved_leaves_the_earlier_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    with pytest.raises(InputError, match=r"`w`: checkpoints cannot hold type torch\.complex64"):
        checkpoints.save(saved, {"w": torch.zeros(2, dtype=torch.complex64)}, {})
    with pytest.raises(ValueError, match="JSON"):
        checkpoints.save(saved, {"w": torch.zeros(2)}, {"loss": float("nan")})

    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="the disk is full"):
        checkpoints.save(saved, {"w": torch.zeros(2)}, {})
    assert saved.read_bytes() == before
    assert names(saved.parent) == [saved.name]


def test_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT) as writer:
        while not path.exists():
            assert writer.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        writer.send_signal(signal.SIGKILL)
    number = checkpoints.recipe(path)["number"]
    assert torch.equal(checkpoints.load(path)["w"], torch.full((500, 500), float(number)))
    checkpoints.save(path, {}, {})
    assert names(tmp_path) == ["a.safetensors"]
