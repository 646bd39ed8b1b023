# SPDX-License-Identifier: MIT
"""The twenty data sets as they lie on a disk, with few and small images, in their real formats."""

import csv
import dataclasses
import gzip
import hashlib
import importlib.util
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

from compendium.worlds.clip.registry import Task, tasks

EUROSAT = (
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop", "Residential",
    "River", "SeaLake",
)  # fmt: skip
WITHOUT_HDF5 = importlib.util.find_spec("h5py") is None

Bytes: TypeAlias = npt.NDArray[np.uint8]

_alike: list[int] = []


def small(task: Task, classes: int = 3) -> Task:
    """Return a task with its first classes only."""
    kept = task.classes[:classes]
    return dataclasses.replace(task, classes=kept, also=tuple(pair for pair in task.also if pair[1] in kept))


def write(task: Task, root: Path, pool: int = 2, test: int = 1) -> Task:
    """Write so many images of each class for each part, and return the task with numbers of images as they are then.

    DTD, SUN397 and EuroSAT are in the paper's folders; EuroSAT has ``test`` images of each class for validation, too.
    """
    WRITERS[task.name](task, root, pool, test)
    return counted(task, pool, test)


def counted(task: Task, pool: int, test: int) -> Task:
    """Return a task with so many images of each class."""
    own, classes = test if task.own_validation else 0, len(task.classes)
    return dataclasses.replace(task, pool=(pool + own) * classes, test=test * classes, own_validation=own * classes)


def write_all(root: Path, classes: int = 3, pool: int = 2, test: int = 1) -> dict[str, Task]:
    """Write all data sets below one folder and return their tasks; PCAM is left out where there is no h5py."""
    known = {name: task for name, task in tasks().items() if name != "PCAM" or not WITHOUT_HDF5}
    return {name: write(small(task, classes), root, pool, test) for name, task in known.items()}


def pixels(label: int, number: int, shape: tuple[int, ...]) -> Bytes:
    """Return an image that tells its class by its brightness and its number by noise."""
    label, number = _shown(label, number)
    seed = int.from_bytes(hashlib.sha256(f"{label} {number} {shape}".encode()).digest()[:4], "big")
    noise = np.random.default_rng(seed).integers(0, 60, shape)
    return np.asarray(noise + 20 * (label % 10), np.uint8)


def write_image(file: Path, label: int, number: int) -> None:
    """Write an image of an odd size in the format that its name says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    label, number = _shown(label, number)
    Image.fromarray(pixels(label, number, (9 + label % 5, 12 + number % 5, 3))).save(file)


@contextmanager
def some_alike(every: int) -> Iterator[None]:
    """Let every so many images of all classes be the same while the block runs, so that no model is always wrong."""
    _alike.append(every)
    try:
        yield
    finally:
        _alike.pop()


def _shown(label: int, number: int) -> tuple[int, int]:
    return (0, 0) if _alike and number % _alike[-1] == 0 else (label, number)


def write_cars(task: Task, root: Path, pool: int, test: int) -> None:
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    fields = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    for each, at, folder, file in (
        (pool, 0, "cars_train", "devkit/cars_train_annos.mat"),
        (test, pool, "cars_test", "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for place, (label, number) in enumerate(_by_turns(task, each), 1):
            rows.append((1, 1, 9, 9, label + 1, f"{place:05d}.jpg"))
            write_image(base / folder / f"{place:05d}.jpg", label, at + number)
        savemat(base / file, {"annotations": np.array([rows], dtype=fields)})
    savemat(base / "devkit/cars_meta.mat", {"class_names": np.array([task.classes], dtype=object)})


def write_classes(
    base: Path, folders: list[str], each: int, name: str = "{folder}_{number:04d}.jpg", at: int = 0
) -> None:
    """Write a folder for each class; numbers of images begin with ``at``."""
    for label, folder in enumerate(folders):
        for number in range(at, at + each):
            write_image(base / folder / name.format(folder=folder, number=number), label, number)


def write_dtd(task: Task, root: Path, pool: int, test: int) -> None:
    write_classes(root / "dtd/train", list(task.classes), pool)
    write_classes(root / "dtd/val", list(task.classes), test, at=pool)


def write_dtd_of_torchvision(task: Task, root: Path, pool: int, test: int) -> Task:
    """Write the same images; the pool has its even ones for training and its odd ones for validation."""
    base = root / "dtd/dtd"
    write_classes(base / "images", list(task.classes), pool + test)
    parts = {"train": range(0, pool, 2), "val": range(1, pool, 2), "test": range(pool, pool + test)}
    for part, numbers in parts.items():
        lines = [f"{name}/{name}_{number:04d}.jpg\n" for number in reversed(numbers) for name in task.classes]
        _write_text(base / f"labels/{part}1.txt", "".join(lines))
    return counted(task, pool, test)


def write_eurosat(task: Task, root: Path, pool: int, test: int) -> None:
    folders = list(EUROSAT[: len(task.classes)])
    for part, each, at in (("train", pool, 0), ("val", test, pool), ("test", test, pool + test)):
        write_classes(root / "EuroSAT_splits" / part, folders, each, "{folder}_{number}.jpg", at)


def write_eurosat_of_torchvision(task: Task, root: Path, tens: int) -> Task:
    """Write so many times ten images of each class, of which eight train, one validates and one tests."""
    write_classes(root / "eurosat/2750", list(EUROSAT[: len(task.classes)]), 10 * tens, "{folder}_{number}.jpg")
    return counted(task, 8 * tens, tens)


def write_gtsrb(task: Task, root: Path, pool: int, test: int) -> None:
    base = root / "gtsrb"
    folders = [f"{label:05d}" for label in range(len(task.classes))]
    write_classes(base / "GTSRB/Training", folders, pool, "{number:05d}_00000.ppm")
    for folder in folders:
        _write_text(base / f"GTSRB/Training/{folder}/GT-{folder}.csv", "Filename;Width;Height;ClassId\n")
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"]
    for place, (label, number) in enumerate(_by_turns(task, test)):
        write_image(base / f"GTSRB/Final_Test/Images/{place:05d}.ppm", label, 50 + number)
        lines.append(f"{place:05d}.ppm;53;54;6;5;48;49;{label}\n")
    _write_text(base / "GT-final_test.csv", "".join(lines))


def write_resisc45(task: Task, root: Path, pool: int, test: int) -> None:
    base, folders = root / "resisc45", [name.replace(" ", "_") for name in task.classes]
    write_classes(base / "NWPU-RESISC45", folders, pool + 1 + test, "{folder}_{number:03d}.jpg")
    parts = {"train": range(pool), "val": range(pool, pool + 1), "test": range(pool + 1, pool + 1 + test)}
    for part, numbers in parts.items():
        lines = [f"{folder}_{number:03d}.jpg\n" for number in reversed(numbers) for folder in folders]
        _write_text(base / f"resisc45-{part}.txt", "".join(lines))


def write_sun397(task: Task, root: Path, pool: int, test: int) -> None:
    folders = [f"{name[0]}_{name.replace(' ', '_')}" for name in task.classes]
    write_classes(root / "sun397/train", folders, pool, "sun_{number:04d}.jpg")
    write_classes(root / "sun397/val", folders, test, "sun_{number:04d}.jpg", at=pool)


def write_sun397_of_torchvision(task: Task, root: Path, pool: int, test: int) -> Task:
    """Write the same images in folders of folders, where `apartment building outdoor` is two, and one of no part."""
    base = root / "SUN397"
    folders = [f"{name[0]}/{name.replace(' ', '_').replace('_outdoor', '/outdoor')}" for name in task.classes]
    write_classes(base, folders, pool + test + 1, "sun_{number:04d}.jpg")
    for file, numbers in (("Training_01.txt", range(pool)), ("Testing_01.txt", range(pool, pool + test))):
        lines = [f"/{folder}/sun_{number:04d}.jpg\n" for number in reversed(numbers) for folder in folders]
        _write_text(base / file, "".join(lines))
    _write_text(base / "ClassName.txt", "".join(f"/{folder}\n" for folder in folders))
    return counted(task, pool, test)


def write_pets(task: Task, root: Path, pool: int, test: int) -> None:
    base = root / "oxford-iiit-pet"
    for part, each, at in (("trainval", pool, 1), ("test", test, 1 + pool)):
        lines = []
        for label, number in _by_turns(task, each):
            name = f"{task.classes[label].replace(' ', '_')}_{at + number}"
            write_image(base / f"images/{name}.jpg", label, at + number)
            lines.append(f"{name} {label + 1} 1 1\n")
        _write_text(base / f"annotations/{part}.txt", "".join(lines))


def write_flowers(task: Task, root: Path, pool: int, test: int) -> None:
    base = root / "flowers-102"
    # Images are numbered class by class, and one of each validates.
    of_class = pool + 1 + test
    labels = [label for label in range(len(task.classes)) for _ in range(of_class)]
    for number, label in enumerate(labels, 1):
        write_image(base / f"jpg/image_{number:05d}.jpg", label, number)
    savemat(base / "imagelabels.mat", {"labels": np.array([labels], np.uint8) + 1})
    places = {"trnid": range(pool), "valid": range(pool, pool + 1), "tstid": range(pool + 1, of_class)}
    numbers = {
        name: [1 + of_class * label + place for place in reversed(chosen) for label in range(len(task.classes))]
        for name, chosen in places.items()
    }
    savemat(base / "setid.mat", {name: np.array([chosen], np.uint16) for name, chosen in numbers.items()})


def write_food(task: Task, root: Path, pool: int, test: int) -> None:
    base, folders = root / "food-101", [name.replace(" ", "_") for name in task.classes]
    write_classes(base / "images", folders, pool + test, "{number}.jpg")
    for part, numbers in (("train", range(pool)), ("test", range(pool, pool + test))):
        # The published lists are not in the order of classes.
        listed = {folder: [f"{folder}/{number}" for number in numbers] for folder in reversed(folders)}
        _write_text(base / f"meta/{part}.json", json.dumps(listed))


def write_rendered_sst2(task: Task, root: Path, pool: int, test: int) -> None:
    base = root / "rendered-sst2"
    for part, each, at in (("train", pool, 0), ("valid", 1, 80), ("test", test, 90)):
        write_classes(base / part, list(task.classes), each, "{number:05d}.png", at)


def write_idx(file: Path, content: Bytes, *, packed: bool = False) -> None:
    """Write an idx file of bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, content.ndim]) + struct.pack(f">{content.ndim}I", *content.shape)
    whole = header + content.tobytes()
    file.with_name(f"{file.name}.gz" if packed else file.name).write_bytes(gzip.compress(whole) if packed else whole)


def write_mnist(task: Task, root: Path, pool: int, test: int, *, packed: bool = False) -> None:
    letters = task.name == "EMNIST" and len(task.classes) == 26
    split = "letters" if letters else "digits"
    prefixes = [f"emnist-{split}-train", f"emnist-{split}-test"] if task.name == "EMNIST" else ["train", "t10k"]
    for prefix, each, at in zip(prefixes, (pool, test), (0, pool), strict=True):
        images, labels = _stacked(task, each, at, (28, 28))
        write_idx(root / task.name / f"raw/{prefix}-images-idx3-ubyte", images, packed=packed)
        write_idx(root / task.name / f"raw/{prefix}-labels-idx1-ubyte", labels + np.uint8(letters), packed=packed)


def write_svhn(task: Task, root: Path, pool: int, test: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for part, each, at in (("train", pool, 0), ("test", test, pool)):
        images, labels = _stacked(task, each, at, (32, 32, 3))
        content = {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)}
        savemat(root / f"{part}_32x32.mat", content, do_compression=True)


def write_stl10(task: Task, root: Path, pool: int, test: int) -> None:
    base = root / "stl10_binary"
    _write_text(base / "class_names.txt", "".join(f"{name}\n" for name in task.classes))
    for part, each, at in (("train", pool, 0), ("test", test, pool)):
        images, labels = _stacked(task, each, at, (96, 96, 3))
        (base / f"{part}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        (base / f"{part}_y.bin").write_bytes((labels + 1).tobytes())


def write_cifar10(task: Task, root: Path, pool: int, test: int) -> None:
    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)
    images, labels = _stacked(task, pool, 0, (32, 32, 3))
    for number in range(5):
        batch = {"batch_label": f"training batch {number + 1} of 5", "labels": labels[number::5].tolist()}
        content = batch | {"data": _planes(images[number::5]), "filenames": ["a.png"] * len(batch["labels"])}
        (base / f"data_batch_{number + 1}").write_bytes(pickled(content))
    images, labels = _stacked(task, test, pool, (32, 32, 3))
    (base / "test_batch").write_bytes(pickled({"labels": labels.tolist(), "data": _planes(images)}))


def write_cifar100(task: Task, root: Path, pool: int, test: int) -> None:
    base = root / "cifar-100-python"
    base.mkdir(parents=True)
    for part, each, at in (("train", pool, 0), ("test", test, pool)):
        images, labels = _stacked(task, each, at, (32, 32, 3))
        content = {"fine_labels": labels.tolist(), "coarse_labels": [0] * len(labels), "data": _planes(images)}
        (base / part).write_bytes(pickled(content))


def write_fer2013(task: Task, root: Path, pool: int, test: int, file: str = "fer2013.csv") -> None:
    """Write the one file with all parts, with the columns that it has under either of its names."""
    base = root / "fer2013"
    base.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for usage, each, at in (
        ("Training", pool, 0),
        ("PublicTest", test - test // 2, pool),
        ("PrivateTest", test // 2, 90),
    ):
        images, labels = _stacked(task, each, at, (48, 48))
        for image, label in zip(images, labels, strict=True):
            rows.append({"emotion": label, "pixels": " ".join(map(str, image.reshape(-1))), "Usage": usage})
    names = ["emotion", "pixels", "Usage"] if file == "fer2013.csv" else ["emotion", "Usage", "pixels"]
    with (base / file).open("w", newline="") as stream:
        stream.write((", " if file == "icml_face_data.csv" else ",").join(names) + "\n")
        csv.DictWriter(stream, names).writerows(rows)


def write_pcam(task: Task, root: Path, pool: int, test: int) -> None:
    """Write HDF5, which takes h5py."""
    hdf5 = importlib.import_module("h5py")
    base = root / "pcam"
    base.mkdir(parents=True)
    for part, each, at in (("train", pool, 0), ("test", test, pool)):
        images, labels = _stacked(task, each, at, (96, 96, 3))
        for kind, content in (("x", images), ("y", labels.reshape(-1, 1, 1, 1))):
            with hdf5.File(base / f"camelyonpatch_level_2_split_{part}_{kind}.h5", "w") as stream:
                stream[kind] = content


def pickled(value: object) -> bytes:
    """Return a pickle as Python 2 wrote those of CIFAR, with strings of bytes and the module names of its day."""
    return b"\x80\x02" + b"".join(_opcodes(value)) + b"."


def _opcodes(value: object) -> Iterator[bytes]:
    match value:
        case str():
            yield b"T" + struct.pack("<I", len(value.encode())) + value.encode()
        case int():
            yield b"J" + struct.pack("<i", value)
        case list():
            yield from (b"](", *(code for item in value for code in _opcodes(item)), b"e")
        case dict():
            yield from (b"}(", *(code for pair in value.items() for item in pair for code in _opcodes(item)), b"u")
        case np.ndarray():
            yield b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01("
            yield from (b"J" + struct.pack("<i", size) for size in value.shape)
            yield b"tcnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            yield b"T" + struct.pack("<I", value.nbytes) + value.tobytes() + b"tb"
        case _:
            raise TypeError(value)


def _by_turns(task: Task, each: int) -> Iterator[tuple[int, int]]:
    return ((label, number) for number in range(each) for label in range(len(task.classes)))


def _stacked(task: Task, each: int, at: int, shape: tuple[int, ...]) -> tuple[Bytes, Bytes]:
    rows = [(label, pixels(label, at + number, shape)) for label, number in _by_turns(task, each)]
    images = np.array([image for _, image in rows], np.uint8).reshape(-1, *shape)
    return images, np.array([label for label, _ in rows], np.uint8)


def _planes(images: Bytes) -> Bytes:
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)


def _write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


WRITERS: dict[str, Callable[[Task, Path, int, int], None]] = {
    "Cars": write_cars,
    "DTD": write_dtd,
    "EuroSAT": write_eurosat,
    "GTSRB": write_gtsrb,
    "MNIST": write_mnist,
    "RESISC45": write_resisc45,
    "SVHN": write_svhn,
    "SUN397": write_sun397,
    "STL10": write_stl10,
    "OxfordIIITPet": write_pets,
    "Flowers102": write_flowers,
    "CIFAR100": write_cifar100,
    "PCAM": write_pcam,
    "FER2013": write_fer2013,
    "CIFAR10": write_cifar10,
    "Food101": write_food,
    "FashionMNIST": write_mnist,
    "RenderedSST2": write_rendered_sst2,
    "EMNIST": write_mnist,
    "KMNIST": write_mnist,
}
