# SPDX-License-Identifier: MIT
"""Images are decoded as open_clip does it, once, in files that continue after interruptions and are read in parts."""

import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from scipy.io import loadmat, savemat

from compendium.worlds.clip import hub, images, local, registry
from compendium.worlds.clip.images import Decoded, Request
from compendium.worlds.clip.options import Options
from compendium.worlds.protocol import Inputs
from tsvlib.errors import InputError

from . import real_layouts, real_snapshots

SIZES = [(224, 224), (1, 1), (7, 300), (300, 7), (28, 28), (32, 32), (225, 224), (223, 500), (640, 427), (333, 501)]
FIRST = Options()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "PART", 4)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "LA", "1"])
@pytest.mark.parametrize("size", SIZES)
def test_images_are_those_of_open_clip(mode: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    pixels = rng.integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(pixels).convert(mode) if mode != "P" else Image.fromarray(pixels[..., :3]).quantize(64)
    theirs = open_clip.image_transform(224, is_train=False)(image)
    ours = images.preprocess(image)
    assert (ours.dtype, ours.shape) == (torch.uint8, (3, 224, 224))
    assert torch.equal(images.normalise(ours[None])[0], theirs)


def test_other_sizes_are_those_of_open_clip() -> None:
    image = real_snapshots.picture(1)
    theirs = open_clip.image_transform(32, is_train=False)(image)
    assert torch.equal(images.normalise(images.preprocess(image, 32)[None])[0], theirs)


def request_of(tmp_path: Path, pool: int = 10, size: int = 16, name: str = "STL10") -> Request:
    task = real_snapshots.small(registry.tasks()[name], pool, 3)
    real_snapshots.write_copy(task, tmp_path)
    return Request(task, "hub", tmp_path, "pool", FIRST, size)


def expected(request: Request, chosen: list[int]) -> torch.Tensor:
    pictures = hub.open_part(request.task, request.images, request.part, request.options)
    return torch.stack([images.preprocess(pictures.image(index), request.size) for index in chosen])


def made(folder: Path) -> dict[str, int]:
    """Return when each file of images was made."""
    return {file.name: file.stat().st_mtime_ns for file in sorted(folder.glob("*.images"))}


CHOSEN = [9, 0, 3, 3, 8, 1, 2, 7, 6]


def test_what_is_decoded_is_read_by_range_and_by_number(tmp_path: Path) -> None:
    request = request_of(tmp_path)
    found = images.decoded(request, torch.tensor(CHOSEN), tmp_path / "decoded")
    whole = expected(request, CHOSEN)
    assert isinstance(found, Inputs)
    assert len(found) == 9
    assert list(made(tmp_path / "decoded")) == ["0000.images", "0001.images", "0002.images"]
    assert torch.equal(found[:], whole)
    for start, stop, step in ((0, 4, 1), (2, 7, 1), (3, 99, 2), (8, None, 1), (5, 5, 1)):
        assert torch.equal(found[start:stop:step], whole[start:stop:step])
    for numbers in ([8], [7, 0, 4, 4], [-1], []):
        chosen = torch.tensor(numbers, dtype=torch.int64)
        assert torch.equal(found[chosen], whole[chosen])
    with pytest.raises(IndexError):
        found[torch.tensor([9])]


def test_original_files_are_decoded_as_well(tmp_path: Path) -> None:
    task = real_layouts.write(registry.tasks()["STL10"], tmp_path)
    request = Request(task, "local", tmp_path, "test", FIRST, 16)
    found = images.decoded(request, torch.arange(task.test), tmp_path / "decoded")
    pictures = local.open_part(task, tmp_path, "test", FIRST)
    assert torch.equal(found[:], torch.stack([images.preprocess(pictures.image(n), 16) for n in range(task.test)]))


def test_what_is_read_can_be_written_to(tmp_path: Path) -> None:
    found = images.decoded(request_of(tmp_path), torch.tensor(CHOSEN), tmp_path / "decoded")
    first = found[:2]
    kept = first.clone()
    first.zero_()
    assert torch.equal(found[:2], kept)


def test_reading_takes_the_memory_of_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PART", 50)
    request = request_of(tmp_path, pool=100, size=64)
    found = images.decoded(request, torch.arange(100), tmp_path / "decoded")
    one = 3 * 64 * 64
    tracemalloc.start()
    try:
        read = found[45:55]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(read) == 10
    assert 10 * one <= peak < 12 * one


def test_decoding_takes_the_memory_of_few_images(tmp_path: Path) -> None:
    request = request_of(tmp_path, pool=60, size=224)
    images.decode_part(request, [0, 1], "warm", tmp_path / "warm.images")
    tracemalloc.start()
    try:
        images.decode_part(request, list(range(60)), "recipe", tmp_path / "0000.images")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * 3 * 224 * 224


def test_nothing_is_decoded_twice(tmp_path: Path) -> None:
    request, folder = request_of(tmp_path), tmp_path / "decoded"
    before = images.decoded(request, torch.tensor(CHOSEN), folder)
    times = made(folder)
    assert images.decoded(request, torch.tensor(CHOSEN), folder) == before
    assert made(folder) == times


def test_an_interrupted_run_continues(tmp_path: Path) -> None:
    request, folder = request_of(tmp_path), tmp_path / "decoded"
    whole = images.decoded(request, torch.tensor(CHOSEN), tmp_path / "whole")
    images.decoded(request, torch.tensor(CHOSEN[:4]), folder)
    times = made(folder)
    assert images.decoded(request, torch.tensor(CHOSEN), folder).digest == whole.digest
    assert made(folder).items() > times.items()


def test_a_damaged_image_leaves_whole_files_behind(tmp_path: Path) -> None:
    request, folder = request_of(tmp_path), tmp_path / "decoded"
    shard = tmp_path / "hub" / "tanganke__stl10" / "data" / "train-00001-of-00002.parquet"
    table = parquet.read_table(shard)
    rows = table["image"].to_pylist()
    rows[-1]["bytes"] = rows[-1]["bytes"][:50]
    parquet.write_table(table.set_column(0, table.field(0), pa.array(rows, table.field(0).type)), shard)
    with pytest.raises(InputError, match="image train/9 cannot be decoded"):
        images.decoded(request, torch.arange(10), folder)
    assert sorted(file.name for file in folder.iterdir()) == ["0000.images", "0000.json", "0001.images", "0001.json"]


@pytest.mark.parametrize("damage", ["shorter", "changed", "gone", "unnoted", "badly noted"])
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    request, folder = request_of(tmp_path), tmp_path / "decoded"
    before = images.decoded(request, torch.tensor(CHOSEN), folder)
    target, note = folder / "0001.images", folder / "0001.json"
    content = target.read_bytes()
    if damage == "shorter":
        target.write_bytes(content[:-1])
    elif damage == "changed":
        target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "gone":
        target.unlink()
    elif damage == "unnoted":
        note.unlink()
    else:
        note.write_text("[]")
    times = made(folder)
    assert images.decoded(request, torch.tensor(CHOSEN), folder).digest == before.digest
    assert target.read_bytes() == content
    assert {name for name, time in made(folder).items() if times.get(name) != time} == {target.name}


def test_a_copied_cache_is_checked_and_kept(tmp_path: Path) -> None:
    request, folder = request_of(tmp_path), tmp_path / "decoded"
    images.decoded(request, torch.tensor(CHOSEN), folder)
    (folder / "0000.images").touch()
    times = made(folder)
    images.decoded(request, torch.tensor(CHOSEN), folder)
    assert made(folder) == times
    assert json.loads((folder / "0000.json").read_text())["time"] == times["0000.images"]


@pytest.mark.parametrize("name", ["DTD", "SVHN"])
def test_images_replaced_under_the_same_names_are_noticed_by_their_bytes_and_copies_are_not(
    tmp_path: Path, name: str
) -> None:
    task = real_layouts.write(real_layouts.small(registry.tasks()[name]), tmp_path / "theirs")
    requests = [Request(task, "local", tmp_path / folder, "pool", FIRST, 8) for folder in ("theirs", "copy")]
    before = images.decoded(requests[0], torch.arange(3), tmp_path / "decoded")
    times = made(tmp_path / "decoded")
    shutil.copytree(tmp_path / "theirs", tmp_path / "copy", copy_function=shutil.copyfile)
    assert images.decoded(requests[1], torch.arange(3), tmp_path / "decoded") == before
    assert made(tmp_path / "decoded") == times
    # The same names and labels, other pixels.
    for file in (tmp_path / "copy").rglob("*.jpg"):
        with Image.open(file) as image:
            image.convert("L").point(lambda value: 255 - value).save(file)
    for file in (tmp_path / "copy").rglob("*.mat"):
        found = loadmat(file)
        savemat(file, {"X": found["X"] // 2, "y": found["y"]}, do_compression=True)
    assert images.decoded(requests[1], torch.arange(3), tmp_path / "decoded").digest != before.digest


def test_a_replaced_copy_of_the_hub_is_noticed_by_its_bytes(tmp_path: Path) -> None:
    request, folder = request_of(tmp_path), tmp_path / "decoded"
    before = images.decoded(request, torch.tensor(CHOSEN), folder)
    shard = tmp_path / "hub" / "tanganke__stl10" / "data" / "train-00001-of-00002.parquet"
    table = parquet.read_table(shard)
    rows = table["image"].to_pylist()
    rows[-1]["bytes"] = rows[0]["bytes"]
    parquet.write_table(table.set_column(0, table.field(0), pa.array(rows, table.field(0).type)), shard)
    assert images.decoded(request, torch.tensor(CHOSEN), folder).digest != before.digest


def test_an_image_that_is_gone_is_told_by_name(tmp_path: Path) -> None:
    task = real_layouts.write(real_layouts.small(registry.tasks()["OxfordIIITPet"]), tmp_path)
    request = Request(task, "local", tmp_path, "pool", FIRST, 8)
    images.decoded(request, torch.arange(2), tmp_path / "decoded")
    gone = tmp_path / "oxford-iiit-pet" / "images" / request.open().names[1]
    gone.unlink()
    with pytest.raises(InputError, match=rf"{gone}: .*; complete the data set"):
        images.decoded(request, torch.arange(2), tmp_path / "decoded")


def test_other_images_sizes_and_options_are_decoded_anew(tmp_path: Path) -> None:
    folder = tmp_path / "decoded"
    request = request_of(tmp_path)
    before = images.decoded(request, torch.tensor(CHOSEN), folder)
    other = images.decoded(request, torch.tensor(CHOSEN[::-1]), folder)
    assert torch.equal(other[:], expected(request, CHOSEN[::-1]))
    assert other.digest != before.digest
    smaller = Request(request.task, "hub", tmp_path, "pool", FIRST, 8)
    assert images.decoded(smaller, torch.tensor(CHOSEN), folder)[:].shape == (9, 3, 8, 8)
    letters = Options(emnist="letters")
    task = real_snapshots.small(registry.with_options(registry.tasks()["EMNIST"], letters), 26, 3)
    real_snapshots.write_copy(task, tmp_path)
    upright = Options(emnist="letters", emnist_upright=True)
    lying, turned = (
        images.decoded(Request(task, "hub", tmp_path, "pool", each, 8), torch.arange(5), folder).digest
        for each in (letters, upright)
    )
    assert lying != turned


@pytest.mark.slow
def test_worker_processes_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(tmp_path)
    here = images.decoded(request, torch.tensor(CHOSEN), tmp_path / "here")
    monkeypatch.setattr(images, "WORTH_A_POOL", 3)
    there = images.decoded(request, torch.tensor(CHOSEN), tmp_path / "there")
    assert there.digest == here.digest
    assert torch.equal(there[:], here[:])


def test_a_full_disk_is_told_before_anything_is_made(tmp_path: Path) -> None:
    request = request_of(tmp_path)
    huge = Request(request.task, "hub", tmp_path, "pool", FIRST, 10_000_000)
    with pytest.raises(InputError, match=r"decoded images need [\d.]+ GB, and [\d.]+ GB are free; free some space"):
        images.decoded(huge, torch.tensor(CHOSEN), tmp_path / "decoded")
    assert not (tmp_path / "decoded").exists()


def test_files_that_vanish_are_told(tmp_path: Path) -> None:
    found = images.decoded(request_of(tmp_path), torch.tensor(CHOSEN), tmp_path / "decoded")
    (tmp_path / "decoded" / "0002.images").unlink()
    found[:8]
    with pytest.raises(InputError, match="decoded images are gone or damaged; run the command again"):
        found[8:]


def test_a_data_set_that_is_missing_is_told(tmp_path: Path) -> None:
    request = Request(registry.tasks()["STL10"], "hub", tmp_path, "test", FIRST)
    with pytest.raises(InputError, match="no files of 'test' are here"):
        images.decoded(request, torch.arange(3), tmp_path / "decoded")


def test_no_images_are_no_files(tmp_path: Path) -> None:
    found = images.decoded(request_of(tmp_path), torch.arange(0), tmp_path / "decoded")
    assert isinstance(found, Decoded)
    assert found[:].shape == (0, 3, 16, 16)
