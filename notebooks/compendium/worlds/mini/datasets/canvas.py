# SPDX-License-Identifier: MIT
"""Colours, grounds and the step from a mask to a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from compendium.worlds.mini.datasets.photographs import crop
from compendium.worlds.mini.datasets.sources import Pool

SIZE = 32
OVERSAMPLING = 4
Pixels = NDArray[np.uint8]
Mask = NDArray[np.float32]
Point = tuple[float, float]
Ink = int | tuple[int, ...]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 200), "yellow": (235, 210, 50),
    "orange": (240, 140, 30), "purple": (130, 50, 160), "pink": (240, 150, 185), "brown": (120, 75, 40),
    "cyan": (60, 195, 210), "black": (20, 20, 20), "white": (240, 240, 240), "gray": (125, 125, 125),
}  # fmt: skip

GROUNDS = (
    "coffee.png", "rocket.jpg", "motorcycle_left.png", "china.jpg", "flower.jpg", "chelsea.png",
    "brick.png", "grass.png", "gravel.png", "astronaut.png",
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """One image (uint8, 32 x 32 x 3), the source it came from, and the colour a caption may name."""

    image: Pixels
    source: str
    colour: str | None = None


def named_colour(rng: np.random.Generator) -> tuple[str, NDArray[np.float32]]:
    """Return a colour's name and a jittered RGB value (float32, 0 to 255)."""
    name = list(COLOURS)[rng.integers(len(COLOURS))]
    return name, np.clip(np.array(COLOURS[name]) + rng.normal(0, 12, 3), 0, 255).astype(np.float32)


def colour_pair(rng: np.random.Generator) -> tuple[str, NDArray[np.float32], NDArray[np.float32]]:
    """Return a foreground's name and value and a ground's value that differ visibly in brightness."""
    weights = np.array([0.3, 0.59, 0.11], dtype=np.float32)
    while True:
        name, front = named_colour(rng)
        _, back = named_colour(rng)
        if abs(float(((front - back) * weights).sum())) > 70:
            return name, front, back


def ground(rng: np.random.Generator, pool: Pool, colour: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a ground around a colour: plain, a gradient, or a photograph of the pool veiled by the colour."""
    kind = rng.random()
    plain = np.broadcast_to(colour, (SIZE, SIZE, 3)).astype(np.float32)
    if kind < 0.5:
        return plain
    if kind < 0.7:
        ramp = np.linspace(-30, 30, SIZE, dtype=np.float32)
        slope = ramp[:, None, None] if rng.random() < 0.5 else ramp[None, :, None]
        return plain + slope
    photo, _ = crop(GROUNDS[rng.integers(len(GROUNDS))], None, rng, pool)
    veil = np.float32(rng.uniform(0.5, 0.75))
    return plain * veil + np.asarray(photo, dtype=np.float32) * (1 - veil)


def to_pixels(values: NDArray[np.floating[Any]]) -> Pixels:
    """Round float values of 0 to 255 to bytes."""
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


def paint(mask: Mask, rng: np.random.Generator, pool: Pool, source: str) -> Picture:
    """Lay a coloured mask (0 to 1) on a ground."""
    name, front, back = colour_pair(rng)
    alpha = mask[:, :, None]
    return Picture(to_pixels(ground(rng, pool, back) * (1 - alpha) + front * alpha), source, name)


class Sheet:
    """A drawing surface in units of 0 to 1, oversampled four times and averaged down."""

    def __init__(self, mode: str = "L", colour: Ink = 0) -> None:
        self.side = SIZE * OVERSAMPLING
        self.image = Image.new(mode, (self.side, self.side), colour)
        self.draw = ImageDraw.Draw(self.image)

    def _scale(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.side, y * self.side) for x, y in points]

    def polygon(self, points: Sequence[Point], fill: Ink = 255) -> None:
        """Fill a polygon."""
        self.draw.polygon(self._scale(points), fill=fill)

    def disc(self, centre: Point, radius: float, fill: Ink = 255) -> None:
        """Fill a disc."""
        (x, y) = centre
        self.draw.ellipse(self._scale([(x - radius, y - radius), (x + radius, y + radius)]), fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Ink = 255) -> None:
        """Draw a polyline with round joints."""
        self.draw.line(self._scale(points), fill=fill, width=max(int(width * self.side), 1), joint="curve")

    def mask(self) -> Mask:
        """Return the averaged sheet as a mask of 0 to 1."""
        return np.asarray(self.image.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)

    def pixels(self) -> NDArray[np.float32]:
        """Return the averaged colour sheet as float values of 0 to 255."""
        return np.asarray(self.image.reduce(OVERSAMPLING), dtype=np.float32)


def turned(points: Sequence[Point], centre: Point, radius: float, angle: float) -> list[Point]:
    """Place unit-circle coordinates around a centre, scaled by a radius and turned by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return [(centre[0] + radius * float(x * c - y * s), centre[1] + radius * float(x * s + y * c)) for x, y in points]


def jittered_centre(rng: np.random.Generator, spread: float = 0.06) -> Point:
    """Return a point near the middle of the sheet."""
    return (0.5 + float(rng.uniform(-spread, spread)), 0.5 + float(rng.uniform(-spread, spread)))
