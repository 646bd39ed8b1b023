# SPDX-License-Identifier: MIT
"""Data sets that hold all images of a part in few files: idx, MATLAB, plain binary, CIFAR's batches, CSV and HDF5."""

import gzip
import importlib
import io
import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from compendium.worlds.clip.local.batches import read_batch
from compendium.worlds.clip.local.kinds import REMEDY, Arrays, Layout, numbered, of_arrays
from compendium.worlds.clip.local.lists import matrices
from compendium.worlds.clip.pictures import Part
from compendium.worlds.clip.registry import Task
from tsvlib import files
from tsvlib.errors import InputError

IDX = ("images-idx3-ubyte", "labels-idx1-ubyte")
LETTERS = 26
WHITE = 255

BATCHES: dict[str, dict[Part, tuple[str, ...]]] = {
    "cifar-10-batches-py": {
        "pool": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    },
    "cifar-100-python": {"pool": ("train",), "test": ("test",)},
}

USAGES: dict[Part, tuple[str, ...]] = {"pool": ("Training",), "test": ("PublicTest", "PrivateTest")}
"""Rows of FER2013 by part: both of its tests are the test, as in the copy that the paper took."""


def read_idx(file: Path) -> UInt8[np.ndarray, "..."]:
    """Return the bytes in an idx file in its shape; they stay on disk unless the file is compressed.

    InputError when the file is missing, incomplete or of another kind.
    """
    packed = file.suffix == ".gz"
    with files.opened(file, REMEDY) as stream:
        content = gzip.decompress(stream.read()) if packed else stream.read(16)
        size = len(content) if packed else stream.seek(0, io.SEEK_END)
    # Two zeros, the type (8 is a byte), the number of dimensions, and their sizes, which begin with the high byte.
    shape = [int.from_bytes(content[4 * place : 4 * place + 4], "big") for place in range(1, 1 + content[3])]
    start = 4 + 4 * len(shape)
    if content[:3] != b"\0\0\x08" or size != start + math.prod(shape):
        raise InputError(f"{file}: incomplete, or no idx file of bytes; {REMEDY}.")
    if packed:
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    return np.memmap(file, np.uint8, "r", start, tuple(shape))


def _idx(place: str, pool: str = "train", test: str = "t10k") -> Layout:
    """Return the layout of MNIST and of what is modelled on it; the two parts have their prefixes of files."""

    def held(task: Task, root: Path, part: Part) -> list[Path]:
        prefix = (pool if part == "pool" else test).format("letters" if _has_letters(task) else "digits")
        plain = [root / place / f"{prefix}-{kind}" for kind in IDX]
        return [file if file.exists() or not _gz(file).exists() else _gz(file) for file in plain]

    def opened(task: Task, sources: Sequence[Path], _: Part) -> Arrays:
        images, labels = map(read_idx, sources)
        # Letters are numbered from 1.
        numbers = labels.astype(np.int64) - int(_has_letters(task))
        return Arrays(images, numbers, numbered(sources[0].with_suffix(""), len(images)))

    return of_arrays(place, held, opened)


def _has_letters(task: Task) -> bool:
    return task.name == "EMNIST" and len(task.classes) == LETTERS


def _gz(file: Path) -> Path:
    return file.with_name(f"{file.name}.gz")


def _svhn_files(_: Task, root: Path, part: Part) -> list[Path]:
    return [root / ("train_32x32.mat" if part == "pool" else "test_32x32.mat")]


def _svhn(_: Task, sources: Sequence[Path], __: Part) -> Arrays:
    found = matrices(sources[0])
    labels = found["y"].reshape(-1).astype(np.int64)
    # Zero has the label 10.
    return Arrays(found["X"].transpose(3, 0, 1, 2), labels % 10, numbered(sources[0], len(labels)))


def _svhn_count(sources: Sequence[Path], _: Part) -> int:
    from scipy import io as scipy

    with files.opened(sources[0], REMEDY) as stream:
        shapes = {name: shape for name, shape, _ in scipy.whosmat(stream)}
    # Labels come last, so they are lacking in a file that is incomplete.
    (*_, images), (labels, _) = shapes["X"], shapes["y"]
    if images != labels:
        raise InputError(f"{sources[0]}: {images} images have {labels} labels; {REMEDY}.")
    return int(images)


def _stl10_files(_: Task, root: Path, part: Part) -> list[Path]:
    return [root / "stl10_binary" / f"{'train' if part == 'pool' else 'test'}_{kind}.bin" for kind in "Xy"]


def _stl10(_: Task, sources: Sequence[Path], __: Part) -> Arrays:
    """Open images that lie channel by channel, each column by column."""
    images = np.memmap(sources[0], np.uint8, "r").reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    labels = np.fromfile(sources[1], np.uint8).astype(np.int64) - 1
    return Arrays(images, labels, numbered(sources[0], len(images)))


def _cifar(place: str) -> Layout:
    def held(_: Task, root: Path, part: Part) -> list[Path]:
        return [root / place / name for name in BATCHES[place][part]]

    def opened(_: Task, sources: Sequence[Path], __: Part) -> Arrays:
        read = [read_batch(file) for file in sources]
        names = [numbered(file, len(images)) for file, (images, _) in zip(sources, read, strict=True)]
        labels = np.array([label for _, labels in read for label in labels], np.int64)
        return Arrays(np.concatenate([images for images, _ in read]), labels, list(chain.from_iterable(names)))

    return of_arrays(place, held, opened)


def _fer2013_files(_: Task, root: Path, part: Part) -> list[Path]:
    """Return the file that holds all parts if there is one, as torchvision does, else that of the part."""
    base = root / "fer2013"
    whole = (base / "fer2013.csv", base / "icml_face_data.csv")
    return [next((file for file in whole if file.exists()), base / ("train.csv" if part == "pool" else "test.csv"))]


def _fer2013(_: Task, sources: Sequence[Path], part: Part) -> Arrays:
    """Read numbers as text; their order of classes is that of the paper."""
    rows = [(int(emotion), np.fromstring(pixels, np.int16, sep=" ")) for emotion, pixels in _rows(sources[0], part)]
    images = np.stack([pixels for _, pixels in rows]).reshape(-1, 48, 48)
    if images.min() < 0 or images.max() > WHITE:
        raise InputError(f"{sources[0]}: a pixel is not in 0 to {WHITE}; {REMEDY}.")
    labels = np.array([label for label, _ in rows], np.int64)
    # The file may be the same for both parts.
    return Arrays(images.astype(np.uint8), labels, [f"{part}/{number}" for number in range(len(rows))])


def _rows(file: Path, part: Part) -> Iterator[tuple[str, str]]:
    """Yield emotions and pixels; nothing is quoted in these files, and a third of a gigabyte wants to be read fast."""
    with files.opened(file, REMEDY) as stream:
        names = [name.strip() for name in stream.readline().decode().split(",")]
        if not {"emotion", "pixels"} <= set(names):
            raise InputError(f"{file}: no column 'emotion' or 'pixels' is in there; put fer2013.csv beside it.")
        for line in stream:
            row = dict(zip(names, line.decode().strip().split(","), strict=True))
            if "Usage" not in row or row["Usage"] in USAGES[part]:
                yield row["emotion"], row["pixels"]


def _pcam_files(_: Task, root: Path, part: Part) -> list[Path]:
    name = f"camelyonpatch_level_2_split_{'train' if part == 'pool' else 'test'}"
    return [root / "pcam" / f"{name}_{kind}.h5" for kind in "xy"]


def _pcam(_: Task, sources: Sequence[Path], __: Part) -> Arrays:
    """Open images that stay on disk until they are asked for."""
    images, labels = (_hdf5(file)[name] for file, name in zip(sources, "xy", strict=True))
    return Arrays(images, labels[:].reshape(-1).astype(np.int64), numbered(sources[0], len(images)))


def _hdf5(file: Path) -> Any:
    try:
        # Many runs do without this package.
        return importlib.import_module("h5py").File(file, "r")
    except ModuleNotFoundError as error:
        raise InputError(
            f"{file}: reading it takes the package h5py; install that, or use the copy of the data set on the hub."
        ) from error


LAYOUTS = {
    "MNIST": (_idx("MNIST/raw"),),
    "FashionMNIST": (_idx("FashionMNIST/raw"),),
    "KMNIST": (_idx("KMNIST/raw"),),
    "EMNIST": (_idx("EMNIST/raw", "emnist-{}-train", "emnist-{}-test"),),
    "SVHN": (of_arrays("train_32x32.mat", _svhn_files, _svhn, _svhn_count),),
    "STL10": (of_arrays("stl10_binary", _stl10_files, _stl10),),
    "CIFAR10": (_cifar("cifar-10-batches-py"),),
    "CIFAR100": (_cifar("cifar-100-python"),),
    "FER2013": (
        of_arrays("fer2013", _fer2013_files, _fer2013, lambda sources, part: sum(1 for _ in _rows(sources[0], part))),
    ),
    "PCAM": (of_arrays("pcam", _pcam_files, _pcam),),
}
"""Layouts by data set."""
