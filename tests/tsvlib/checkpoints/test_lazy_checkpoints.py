# SPDX-License-Identifier: MIT
"""Checkpoints of other programs are read as they are, tensor by tensor, or refused with one sentence."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import HUB, refused, same, state
from safetensors.torch import save_file
from torch import Tensor

from compendium.paths import ROOT
from tsvlib import checkpoints, files
from tsvlib.checkpoints import TensorInfo, open_checkpoint

# Prints by how many bytes the resident memory grows while all tensors are read, after two of them warmed up.
READER = """
import sys
from pathlib import Path
from tsvlib.checkpoints import open_checkpoint
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
checkpoint = open_checkpoint(Path(sys.argv[1]))
for key in ("0", "1"):
    checkpoint.read(key)
checkpoint.inspect()
before = resident()
for key in checkpoint.layout:
    assert checkpoint.read(key).any()
checkpoint.inspect()
print(resident() - before)
"""


def shards(folder: Path, save: Callable[[dict[str, Tensor], Path], object], stem: str, suffix: str) -> Path:
    """Save the state in two shards and an index, and return the index."""
    homes: dict[str, str] = {}
    for number in range(2):
        name = f"{stem}-{number + 1:05}-of-00002{suffix}"
        part = dict(sorted(state().items())[number::2])
        save(part, folder / name)
        homes |= dict.fromkeys(part, name)
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": homes}))
    return index


def hub_file(folder: Path, name: str) -> None:
    """Put the state into a folder as a model hub would under that name."""
    if name.endswith(".index.json"):
        stem, suffix = name.split(".")[:2]
        shards(folder, save_file if suffix == "safetensors" else torch.save, stem, f".{suffix}")
    elif name.endswith(".safetensors"):
        save_file(state(), folder / name)
    else:
        torch.save(state(), folder / name)


def test_single_file_of_the_safetensors_package(foreign: Path) -> None:
    checkpoint = open_checkpoint(foreign)
    assert same(checkpoint, state())
    assert checkpoint.path == foreign
    assert checkpoint.files == (foreign,)
    assert checkpoint.metadata == {"format": "pt"}
    assert checkpoint.layout["position_ids"] == TensorInfo(torch.int64, (1, 7))
    assert checkpoint.inspect() == (files.sha256(foreign), frozenset())
    assert checkpoint.notes == ()
    assert checkpoint.shared == {}


def test_our_own_files_too(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "own.safetensors", state(), {"alpha": 0.3})
    checkpoint = open_checkpoint(tmp_path / "own.safetensors")
    assert same(checkpoint, state())
    assert json.loads(checkpoint.metadata["recipe"]) == {"alpha": 0.3}


def test_a_tensor_that_is_read_is_the_readers_own(foreign: Path) -> None:
    checkpoint = open_checkpoint(foreign)
    for key in checkpoint.layout:
        tensor = checkpoint.read(key)
        assert tensor.data_ptr() % 64 == 0
        tensor.fill_(1)
    assert same(checkpoint, state())
    with pytest.raises(KeyError):
        checkpoint.read("missing")


@pytest.mark.parametrize("name", HUB)
def test_folder_as_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / "somewhere" / "hub"
    folder.mkdir(parents=True)
    hub_file(folder, name)
    monkeypatch.chdir(folder.parent)
    for place in (folder, Path("hub"), Path("hub") / name, Path("hub") / ".." / "hub"):
        checkpoint = open_checkpoint(place)
        assert checkpoint.path == place
        assert all(file.exists() for file in checkpoint.files)
        assert len(checkpoint.files) == (2 if "index" in name else 1)
        assert same(checkpoint, state())
    monkeypatch.chdir(folder)
    assert same(open_checkpoint(Path()), state())


def test_links_of_a_hub_cache_are_followed(foreign: Path, tmp_path: Path) -> None:
    blob = foreign.rename(tmp_path / "0a1b2c")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(blob)
    assert same(open_checkpoint(tmp_path / "snapshot"), state())


def test_safetensors_win_over_pickles_and_plain_names_over_others(tmp_path: Path) -> None:
    for name in HUB:
        hub_file(tmp_path, name)
    for name in HUB:
        first = open_checkpoint(tmp_path).files[0].name
        assert first.split("-0")[0].split(".")[0] == name.split(".")[0]
        assert first.endswith(".safetensors") == ("safetensors" in name)
        (tmp_path / name).unlink()
    message = refused(tmp_path, "the folder holds no checkpoint")
    assert all(name in message for name in HUB)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_digest_of_shards_is_that_of_their_digests(tmp_path: Path, name: str) -> None:
    hub_file(tmp_path, name)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.metadata == {}
    digests = "".join(files.sha256(file) for file in sorted(tmp_path.glob("*-of-*")))
    assert checkpoint.inspect().sha256 == hashlib.sha256(digests.encode()).hexdigest()


def test_index_and_shards_that_disagree(tmp_path: Path) -> None:
    index = shards(tmp_path, save_file, "model", ".safetensors")
    first, second = sorted(tmp_path.glob("*-of-*"))
    content = json.loads(index.read_text())
    content["weight_map"]["new"] = second.name
    index.write_text(json.dumps(content))
    refused(index, "lacks `new`", where=second)
    content["weight_map"]["new"] = "model-00003-of-00002.safetensors"
    index.write_text(json.dumps(content))
    refused(index, "the file is missing", where=tmp_path / content["weight_map"].pop("new"))
    content["weight_map"].pop("bf16")
    index.write_text(json.dumps(content))
    refused(index, "holds `bf16`, which", where=second if "bf16" in open_checkpoint(second).layout else first)
    content["weight_map"]["bf16"] = first.name if "bf16" not in open_checkpoint(first).layout else second.name
    index.write_text(json.dumps(content))
    refused(index, "lacks `bf16`", where=tmp_path / content["weight_map"]["bf16"])


def moved(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Return an index, its second shard, which has been moved into another folder, and the content of the index."""
    (folder / "model").mkdir()
    (folder / "elsewhere").mkdir()
    index = shards(folder / "model", save_file, "model", ".safetensors")
    _, second = sorted(index.parent.glob("*-of-*"))
    return index, second.rename(folder / "elsewhere" / second.name), json.loads(index.read_text())


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("named", ["file", "folder"])
def test_an_index_does_not_lead_out_of_its_folder_by_name(tmp_path: Path, absolute: bool, named: str) -> None:
    index, shard, content = moved(tmp_path)
    place = str(shard) if absolute else f"../elsewhere/{shard.name}"
    homes = content["weight_map"]
    index.write_text(json.dumps({"weight_map": homes | {k: place for k, v in homes.items() if v == shard.name}}))
    path = index if named == "file" else index.parent
    refused(path, f"the shard '{place}' does not lie in the folder of the index; put it there", where=index)


@pytest.mark.parametrize("absolute", [False, True])
def test_an_index_does_not_lead_out_and_back(tmp_path: Path, absolute: bool) -> None:
    index = shards(tmp_path, save_file, "model", ".safetensors")
    place = str(tmp_path) if absolute else f"../{tmp_path.name}"
    homes = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {key: f"{place}/{name}" for key, name in homes.items()}}))
    refused(index, "does not lie in the folder of the index", where=index)


@pytest.mark.parametrize("target", ["file", "folder"])
def test_an_index_does_not_lead_out_of_its_folder_by_links(tmp_path: Path, target: str) -> None:
    index, shard, content = moved(tmp_path)
    name = shard.name
    if target == "file":
        (index.parent / name).symlink_to(shard)
    else:
        (index.parent / "sub").symlink_to(shard.parent)
        homes = content["weight_map"]
        index.write_text(json.dumps({"weight_map": {k: v.replace(name, f"sub/{name}") for k, v in homes.items()}}))
        name = f"sub/{name}"
    refused(index, f"the shard '{name}' does not lie in the folder of the index", where=index)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "a\0.safetensors", "\ud800.safetensors", "sub/../../x.safetensors"]
)
def test_an_index_names_files(tmp_path: Path, name: str) -> None:
    index = shards(tmp_path, save_file, "model", ".safetensors")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state(), name)}))
    refused(index, "does not lie in the folder of the index; put it there", where=index)


@pytest.mark.parametrize("linked", [False, True])
def test_an_index_may_lead_to_a_folder_within_its_own(tmp_path: Path, linked: bool) -> None:
    index = shards(tmp_path, save_file, "model", ".safetensors")
    (tmp_path / "parts").mkdir()
    for shard in tmp_path.glob("*-of-*"):
        shard.rename(tmp_path / "parts" / shard.name)
        if linked:
            shard.symlink_to(f"parts/{shard.name}")
    if not linked:
        homes = json.loads(index.read_text())["weight_map"]
        index.write_text(json.dumps({"weight_map": {key: f"parts/{name}" for key, name in homes.items()}}))
    assert same(open_checkpoint(tmp_path), state())


def cache(repository: Path) -> Path:
    """Lay out two shards and their index as a hub's cache does, and return the folder of links."""
    snapshot, blobs = repository / "snapshots" / "0a1b2c", repository / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    shards(blobs, save_file, "model", ".safetensors")
    for number, file in enumerate(sorted(blobs.iterdir())):
        (snapshot / file.name).symlink_to(f"../../blobs/{number}e5f")
        file.rename(blobs / f"{number}e5f")
    return snapshot


def test_shards_in_a_hub_cache_are_links_to_its_blobs(tmp_path: Path) -> None:
    snapshot = cache(tmp_path / "models--org--name")
    (tmp_path / "mine").symlink_to(snapshot)
    for path in (snapshot, snapshot / "model.safetensors.index.json", tmp_path / "mine"):
        checkpoint = open_checkpoint(path)
        assert same(checkpoint, state())
        assert len(checkpoint.files) == 2


def test_blobs_of_another_repository_are_out_of_the_folder(tmp_path: Path) -> None:
    snapshot, other = cache(tmp_path / "models--org--name"), cache(tmp_path / "models--org--other")
    shard = sorted(snapshot.glob("*-of-*"))[0]
    blob = Path(os.path.realpath(other / shard.name))
    shard.unlink()
    shard.symlink_to(blob)
    index = snapshot / "model.safetensors.index.json"
    refused(snapshot, "does not lie in the folder of the index", where=index)
    # Nor are they in it when a link takes the place of the folder of blobs.
    (snapshot.parents[1] / "blobs").rename(tmp_path / "kept")
    (snapshot.parents[1] / "blobs").symlink_to(blob.parent)
    refused(index, "does not lie in the folder of the index")


@pytest.mark.parametrize("role", ["model.safetensors", "model.pt", "model.safetensors.index.json", "shard", "folder"])
def test_pipes_are_refused_at_once(tmp_path: Path, role: str) -> None:
    path = tmp_path / role
    if role == "shard":
        role = shards(tmp_path, save_file, "model", ".safetensors").name
        path = sorted(tmp_path.glob("*-of-*"))[0]
        path.unlink()
    elif role == "folder":
        path.mkdir()
        path = path / "model.safetensors"
    os.mkfifo(path)
    refused(tmp_path / role, "this is a pipe, not a file", where=path)


def test_links_to_a_file_or_a_folder_of_ones_own_are_followed(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shards(tmp_path / "elsewhere", save_file, "model", ".safetensors")
    (tmp_path / "folder").symlink_to("elsewhere")
    (tmp_path / "file.safetensors").symlink_to(foreign)
    for path in (tmp_path / "folder", tmp_path / "file.safetensors"):
        assert same(open_checkpoint(path), state())


@pytest.mark.parametrize("target", ["loop.safetensors", "missing.safetensors"])
def test_links_that_lead_nowhere_and_names_that_are_too_long(tmp_path: Path, target: str) -> None:
    (tmp_path / "loop.safetensors").symlink_to(target)
    refused(tmp_path / "loop.safetensors", "the file is missing" if "missing" in target else "symbolic links")
    refused(tmp_path / ("n" * 300 + ".safetensors"), "file name too long")


def test_the_content_tells_what_a_file_is_when_its_name_does_not(tmp_path: Path) -> None:
    for suffix in (".pt", ".pth", ".bin"):
        save_file(state(), tmp_path / f"a{suffix}")
        refused(tmp_path / f"a{suffix}", "the file holds safetensors under another name; rename it to end in .safe")
    checkpoints.save(tmp_path / "own.pt", state(), {})
    refused(tmp_path / "own.pt", "the file holds safetensors under another name")
    torch.save(state(), tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "the file is one of torch.save under another name; rename it to end in .pt")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"weight_map": {"a"', "not sound JSON"),
        (b"\xff", "not sound JSON"),
        (b"[" * 100_000, "not sound JSON"),
        (b"{}", "no `weight_map`"),
        (b"[]", "no `weight_map`"),
        (b'{"weight_map": {}}', "no `weight_map`"),
        (b'{"weight_map": {"a": 1}}', "no `weight_map`"),
    ],
)
def test_damaged_index(tmp_path: Path, text: bytes, reason: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(text)
    refused(tmp_path / "model.safetensors.index.json", reason)
    refused(tmp_path, reason, where=tmp_path / "model.safetensors.index.json")


def test_paths_that_lead_to_no_checkpoint(foreign: Path, tmp_path: Path) -> None:
    refused(tmp_path / "a.safetensors", "the file is missing")
    refused(tmp_path / "a.pt", "the file is missing")
    refused(tmp_path / "a.safetensors.index.json", "the file is missing")
    known = ".safetensors, .pt, .pth, .bin, .ckpt, .index.json"
    refused(foreign.rename(tmp_path / "a.h5"), f"the name ends in none of {known}")
    pointer = tmp_path / "model.safetensors"
    pointer.write_text("version https:(what the format says)\noid sha256:0a1b\nsize 605157884\n")
    refused(pointer, "pointer of a Git LFS file")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_threads_read_at_once(tmp_path: Path, suffix: str) -> None:
    tensors = {f"{number}": torch.full((100, 100), float(number)) for number in range(40)}
    path = tmp_path / f"a{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    checkpoint = open_checkpoint(path)
    keys = [*tensors] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(checkpoint.read, keys))
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in zip(keys, found, strict=True))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell the resident memory")
def test_reading_leaves_nothing_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({f"{number}": torch.full((512, 1024), number + 1.0) for number in range(32)}, path)
    command = [sys.executable, "-c", READER, str(path)]
    grown = int(subprocess.check_output(command, cwd=ROOT, text=True))
    assert grown < path.stat().st_size / 4


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_file_that_changes_while_it_is_open(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state(), path)
    replaced, grown = open_checkpoint(path), open_checkpoint(path)
    content, status = path.read_bytes(), path.stat()
    os.replace(path, tmp_path / "kept")
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for read in (lambda _: replaced.read("bf16"), lambda _: replaced.inspect()):
        refused(path, "has changed since it was opened", read)
    os.replace(tmp_path / "kept", path)
    with path.open("ab") as file:
        file.write(b"\0")
    refused(path, "has changed since it was opened", lambda _: grown.read("bf16"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_values_that_are_no_numbers_are_named(tmp_path: Path, suffix: str, dtype: torch.dtype, value: float) -> None:
    path = tmp_path / f"a{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    # More than one chunk of four million bytes, and the bad value is the last.
    bad = torch.zeros(2**22 // dtype.itemsize + 3, dtype=dtype)
    save(state() | {"bad": bad}, path)
    assert open_checkpoint(path).inspect() == (files.sha256(path), frozenset())
    bad[-1] = value
    save(state() | {"bad": bad, "first": torch.tensor([value, 1.0])}, path)
    assert open_checkpoint(path).inspect() == (files.sha256(path), {"bad", "first"})
