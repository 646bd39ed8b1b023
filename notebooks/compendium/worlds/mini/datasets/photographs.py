# SPDX-License-Identifier: MIT
"""Photographs that packages ship, cut into tiles on one grid each, and random crops inside tiles.

Whatever box of a photograph a task takes, it takes whole tiles of that one grid, and a tile belongs to one pool, so no
two pools ever show the same pixel. Two tiles can still look alike, as two pieces of a clear sky do: flat tiles belong
to nobody, and a tile of the validation or test pool that comes near a tile of another pool leaves.
"""

from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import get_data_path
from PIL import Image

from compendium.worlds.mini.datasets.likeness import is_flat, looks, near
from compendium.worlds.mini.datasets.sources import Pool, owners, package

Box = tuple[int, int, int, int]

ACROSS = 10
SMALLEST = 24
"""A tile's side in pixels: the photograph's shorter side shared by ``ACROSS``, but no less than this."""
LEAST, MOST = 0.7, 1.0
"""A crop's side as a share of its tile's."""
_LOOK = 16


@cache
def photograph(name: str) -> Image.Image:
    """Return a photograph of scikit-image, scikit-learn or Matplotlib as RGB, by file name."""
    folders = (
        package("skimage") / "data",
        package("sklearn") / "datasets" / "images",
        Path(get_data_path()) / "sample_data",
    )
    for folder in folders:
        if (folder / name).exists():
            return Image.open(folder / name).convert("RGB")
    raise FileNotFoundError(f"photograph {name} is in none of the installed packages: run make env")


@cache
def grid(name: str) -> tuple[tuple[Box, Pool], ...]:
    """Return the tiles of a photograph that are not flat, with the pools that own them."""
    width, height = photograph(name).size
    side = max(min(width, height) // ACROSS, SMALLEST)
    places = [
        (x, y, x + side, y + side) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)
    ]
    rich = [place for place in places if not is_flat(_looks(name, place))]
    return tuple(zip(rich, owners(len(rich), seed=sum(name.encode())), strict=True))


@cache
def _kept(name: str) -> tuple[tuple[Box, Pool], ...]:
    """Return the tiles of the grid without those of the validation or test pool that are near one of another pool."""
    alike = near([_looks(name, tile) for tile, _ in grid(name)])
    others = np.array([[pool != its for _, its in grid(name)] for _, pool in grid(name)])
    twins = (alike & others).any(axis=1)
    return tuple(
        one for one, twin in zip(grid(name), twins, strict=True) if not twin or one[1] in ("pretrain", "train")
    )


def _looks(name: str, tile: Box) -> Float[np.ndarray, "looks rows columns 3"]:
    """Return small crops of a tile: its corners and its middle, also mirrored."""
    left, top, right, _ = tile
    side = int((right - left) * (LEAST + MOST) / 2)
    rest = right - left - side
    corners = [(0, 0), (0, rest), (rest, 0), (rest, rest), (rest // 2, rest // 2)]
    boxes = [(left + dx, top + dy, left + dx + side, top + dy + side) for dx, dy in corners]
    return looks([np.asarray(cut(name, box, _LOOK)) for box in boxes])


@cache
def tiles(name: str, box: Box | None, pool: Pool) -> tuple[Box, ...]:
    """Return the tiles of a photograph that belong to a pool, of all or of those inside a box in pixels."""
    left, top, right, bottom = box or (0, 0, *photograph(name).size)
    return tuple(
        tile
        for tile, owner in _kept(name)
        if owner == pool and left <= tile[0] and top <= tile[1] and tile[2] <= right and tile[3] <= bottom
    )


def cut(name: str, window: Box, size: int) -> Image.Image:
    """Return a window of a photograph at ``size`` x ``size`` pixels, made of the pixels inside the window alone."""
    # Cut first: resizing with a box would look at pixels around it.
    return photograph(name).crop(window).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)


def crop(name: str, box: Box | None, rng: np.random.Generator, pool: Pool, size: int = 32) -> tuple[Image.Image, str]:
    """Return a random ``size`` x ``size`` crop inside one tile of the pool, and the name of its source."""
    own = tiles(name, box, pool)
    x, y, right, _ = own[rng.integers(len(own))]
    side = int((right - x) * rng.uniform(LEAST, MOST))
    dx, dy = (int(v) for v in rng.integers(0, right - x - side + 1, 2))
    image = cut(name, (x + dx, y + dy, x + dx + side, y + dy + side), size)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image, f"{name}@{x},{y}"
