# SPDX-License-Identifier: MIT
"""What training sees of images: each epoch all of them once, in another order, each time another part of each.

Order and parts depend on a seed, the number of the epoch and the place of an image, and on nothing that came before, so
that any epoch can be had without those before it, and any number of threads may cut at once.
"""

import hashlib
import math
from collections.abc import Generator
from typing import NamedTuple

import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional  # type: ignore[import-untyped]

from compendium.worlds.clip.pictures import Pictures
from tsvlib import devices

SHARES = (0.9, 1.0)
"""Least and largest share of an image's area that a part has, as open_clip trains."""

RATIOS = (3 / 4, 4 / 3)
"""Least and largest ratio of a part's width to its height."""

TRIES = 10
"""Draws of a part, of which the first that fits into the image is taken."""


class Box(NamedTuple):
    """A part of an image in pixels; the first row and column are 0."""

    top: int
    left: int
    rows: int
    columns: int


def epoch(
    pictures: Pictures, chosen: Int64[Tensor, " n"], size: int, seed: int, number: int, workers: int
) -> Generator[tuple[int, UInt8[Tensor, "3 size size"]], None, None]:
    """Yield, for one epoch, the place in ``chosen`` and what is seen of each image, in the order of training.

    ``workers`` threads decode images ahead; how many they are changes nothing.
    """
    order: list[int] = torch.randperm(len(chosen), generator=generator(seed, number)).tolist()

    def seen(place: int) -> tuple[int, UInt8[Tensor, "3 size size"]]:
        image = pictures.image(int(chosen[place]))
        return place, cut(image, size, generator(seed, number, place))

    yield from devices.ordered(seen, order, workers)


def generator(*numbers: int) -> torch.Generator:
    """Return a source of random numbers for just these numbers, unlike that for any others."""
    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))


def cut(image: Image.Image, size: int, random: torch.Generator) -> UInt8[Tensor, "3 size size"]:
    """Return a random part of an image, scaled by bicubic interpolation, as open_clip trains; colours come last."""
    scaled = functional.resized_crop(image, *box(*image.size, random), [size, size], InterpolationMode.BICUBIC)
    found: Tensor = functional.pil_to_tensor(scaled.convert("RGB"))
    return found


def box(width: int, height: int, random: torch.Generator) -> Box:
    """Return a random part of an image of so many pixels, by the very draws of torchvision's RandomResizedCrop.

    Where no draw fits, as in very long images, that is the middle, with a ratio as near as the limits allow.
    """
    logarithms = torch.tensor(RATIOS).log().tolist()
    for _ in range(TRIES):
        area = width * height * float(torch.empty(1).uniform_(*SHARES, generator=random))
        ratio = float(torch.exp(torch.empty(1).uniform_(*logarithms, generator=random)))
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            spare = height - rows, width - columns
            top, left = (int(torch.randint(most + 1, (1,), generator=random)) for most in spare)
            return Box(top, left, rows, columns)
    return _middle(width, height)


def _middle(width: int, height: int) -> Box:
    ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
    rows, columns = min(height, round(width / ratio)), min(width, round(height * ratio))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)
