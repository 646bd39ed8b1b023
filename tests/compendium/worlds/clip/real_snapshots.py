# SPDX-License-Identifier: MIT
"""Copies of data sets as the hub's library leaves them on a disk, small, with real images in the real schema."""

import dataclasses
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from compendium.worlds.clip.registry import Task

NAMES = {
    "FER2013": ["angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"],
    "KMNIST": ["お", "き", "す", "つ", "な", "は", "ま", "や", "れ", "を"],
    "FashionMNIST": [
        "T - shirt / top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ],
    "PCAM": None,
}  # fmt: skip
"""How copies call classes, in the order of their labels, where that differs from ours; None for plain numbers."""

COLUMNS = {"CIFAR100": ("img", "fine_label"), "CIFAR10": ("img", "label")}
FOLDERS = {
    "SVHN": "cropped_digits",
    "MNIST": "mnist",
    "FashionMNIST": "fashion_mnist",
    "EMNIST": "emnist-letters",
}
TESTS = {"Food101": "validation"}


def small(task: Task, pool: int, test: int) -> Task:
    """Return a task with so few images; EuroSAT keeps a tenth for a validation part of its own."""
    own = pool // 10 if task.own_validation else 0
    return dataclasses.replace(task, pool=pool, test=test, own_validation=own)


def picture(number: int, mode: str = "RGB") -> Image.Image:
    """Return an image of an odd size that no other number gives."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (9 + number % 4, 12, 3), np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def write_copy(task: Task, images: Path, names: Sequence[str] | None = None) -> Path:
    """Write the copy of a task: ``task.pool`` images without its own validation, ``task.test``, classes by turns."""
    assert task.hub
    place = images / "hub" / task.hub.replace("/", "__")
    names = names or NAMES.get(task.name, [name.replace(" ", "_") for name in task.classes])
    for split, count in (("train", task.pool - task.own_validation), (TESTS.get(task.name, "test"), task.test)):
        if task.name == "FER2013":
            write_archives(place, split, count, names or ())
        else:
            write_tables(task, place, split, count, names)
    return place


def write_tables(task: Task, place: Path, split: str, count: int, names: Sequence[str] | None) -> None:
    """Write one split as two parquet files, each in row groups, with the features that the hub's library writes."""
    image, label = COLUMNS.get(task.name, ("image", "label"))
    folder = place / FOLDERS.get(task.name, "data")
    folder.mkdir(parents=True, exist_ok=True)
    half = count - count // 2
    for shard, numbers in enumerate((range(half), range(half, count))):
        rows = {
            image: [{"bytes": encoded(picture(n)), "path": f"{n}.png"} for n in numbers],
            label: [n % len(task.classes) for n in numbers],
        }
        kind = pa.int64() if names else pa.bool_()
        schema = pa.schema([(image, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), (label, kind)])
        rows[label] = rows[label] if names else [bool(value) for value in rows[label]]
        table = pa.Table.from_pydict(rows, schema.with_metadata(_features(image, label, names)))
        parquet.write_table(table, folder / f"{split}-{shard:05}-of-00002.parquet", row_group_size=3)


def write_archives(place: Path, split: str, count: int, names: Sequence[str], shards: int = 11) -> None:
    """Write one split as archives of images and labels; more than ten, so that their order is not that of words."""
    (place / split).mkdir(parents=True, exist_ok=True)
    (place / "classnames.txt").write_text("\n".join(names))
    (place / split / "nshards.txt").write_text(str(shards))
    numbers = np.array_split(np.arange(count), shards)
    for shard, some in enumerate(numbers):
        with tarfile.open(place / split / f"{shard}.tar", "w") as archive:
            for n in some.tolist():
                for suffix, content in (
                    ("cls", str(n % len(names)).encode()),
                    ("jpg", encoded(picture(n, "L"), "jpeg")),
                ):
                    info = tarfile.TarInfo(f"s{n:07}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def _features(image: str, label: str, names: Sequence[str] | None) -> dict[str, str]:
    kind: dict[str, Any] = (
        {"names": list(names), "_type": "ClassLabel"} if names else {"dtype": "bool", "_type": "Value"}
    )
    features = {image: {"_type": "Image"}, label: kind}
    return {"huggingface": json.dumps({"info": {"features": features}})}
