# SPDX-License-Identifier: MIT
"""Shapes, strokes, counted dots and clocks, drawn as masks and laid on a ground."""

from collections.abc import Callable, Sequence

import numpy as np

from compendium.worlds.mini.datasets.canvas import Picture, Point, Sheet, jittered_centre, paint, turned
from compendium.worlds.mini.datasets.glyphs import NUMBERS
from compendium.worlds.mini.datasets.sources import Pool, parameter

Curve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def regular(corners: int, start: float = -np.pi / 2) -> list[Point]:
    """Return the corners of a regular polygon on the unit circle."""
    angles = start + 2 * np.pi * np.arange(corners) / corners
    return [(float(np.cos(a)), float(np.sin(a))) for a in angles]


def star(points: int, inner: float) -> list[Point]:
    """Return the corners of a star on the unit circle."""
    outer, notch = regular(points), regular(points, -np.pi / 2 + np.pi / points)
    return [p for o, (x, y) in zip(outer, notch, strict=True) for p in (o, (x * inner, y * inner))]


def _outline(xs: np.ndarray, ys: np.ndarray) -> list[Point]:
    return [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]


def _heart() -> list[Point]:
    t = np.linspace(0, 2 * np.pi, 40)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return _outline(x / 17, y / 17)


def _crescent() -> list[Point]:
    outer, inner = np.linspace(0.6, 2 * np.pi - 0.6, 30), np.linspace(2 * np.pi - 1.0, 1.0, 30)
    x = np.concatenate([np.cos(outer), 0.28 + 0.78 * np.cos(inner)])
    y = np.concatenate([np.sin(outer), 0.78 * np.sin(inner)])
    return _outline(x, y)


def _semicircle() -> list[Point]:
    t = np.linspace(0, np.pi, 25)
    return _outline(np.cos(t), np.sin(t) - 0.4)


_CROSS = [
    (-0.3, -1.0), (0.3, -1.0), (0.3, -0.3), (1.0, -0.3), (1.0, 0.3), (0.3, 0.3),
    (0.3, 1.0), (-0.3, 1.0), (-0.3, 0.3), (-1.0, 0.3), (-1.0, -0.3), (-0.3, -0.3),
]  # fmt: skip
_ARROW = [(-1.0, -0.25), (0.1, -0.25), (0.1, -0.7), (1.0, 0.0), (0.1, 0.7), (0.1, 0.25), (-1.0, 0.25)]

OUTLINES: dict[str, Sequence[Point]] = {
    "circle": regular(40), "triangle": regular(3), "square": regular(4, -np.pi / 4), "pentagon": regular(5),
    "hexagon": regular(6), "star": star(5, 0.42), "cross": _CROSS, "ring": regular(40), "heart": _heart(),
    "crescent": _crescent(), "diamond": [(0.0, -1.0), (0.55, 0.0), (0.0, 1.0), (-0.55, 0.0)], "pointer": _ARROW,
    "semicircle": _semicircle(), "trapezoid": [(-0.5, -0.6), (0.5, -0.6), (1.0, 0.6), (-1.0, 0.6)],
}  # fmt: skip


def draw_shape(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a filled outline of the pool's own sizes, slightly turned."""
    radius, cell = parameter(rng, pool, 0.26, 0.42)
    sheet, centre = Sheet(), jittered_centre(rng)
    sheet.polygon(turned(OUTLINES[name], centre, radius, float(rng.uniform(-0.3, 0.3))))
    if name == "ring":
        sheet.disc(centre, radius * 0.55, fill=0)
    return paint(sheet.mask(), rng, pool, cell)


CURVES: dict[str, Curve] = {
    "line": lambda t: (2 * t - 1, 0 * t),
    "zigzag": lambda t: (2 * t - 1, 0.5 * (2 * np.abs((3 * t) % 2 - 1) - 1)),
    "spiral": lambda t: (t * np.cos(13 * t), t * np.sin(13 * t)),
    "wave": lambda t: (2 * t - 1, 0.45 * np.sin(4 * np.pi * t)),
    "arc": lambda t: (0.95 * np.cos(np.pi * (1 + t)), 0.4 + 0.95 * np.sin(np.pi * (1 + t))),
    "loop": lambda t: (1.4 * (t - 0.5) + 0.6 * np.sin(2 * np.pi * t), 0.7 * np.cos(2 * np.pi * t)),
    "corner": lambda t: (np.minimum(2 * t, 1) * 1.4 - 0.7, np.maximum(2 * t - 1, 0) * 1.4 - 0.7),
    "hook": lambda t: (np.where(t < 0.5, 0.5, 0.5 * np.cos(2 * np.pi * (t - 0.5))),
                       np.where(t < 0.5, 2.4 * t - 1, 0.2 + 0.6 * np.sin(2 * np.pi * (t - 0.5)))),
    "eight": lambda t: (0.55 * np.sin(4 * np.pi * t), np.cos(2 * np.pi * t)),
    "bracket": lambda t: (np.where((t > 0.25) & (t < 0.75), -0.5, 0.3),
                          np.clip((t - 0.25) * 2, 0, 1) * 1.8 - 0.9),
}  # fmt: skip


def draw_stroke(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a pen stroke along a curve, of the pool's own sizes."""
    radius, cell = parameter(rng, pool, 0.3, 0.42)
    t = np.linspace(0, 1, 49)
    points = turned(_outline(*CURVES[name](t)), jittered_centre(rng), radius, float(rng.uniform(-0.4, 0.4)))
    sheet = Sheet()
    sheet.line(points, width=float(rng.uniform(0.05, 0.09)))
    return paint(sheet.mask(), rng, pool, cell)


def draw_count(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return as many dots as the number says, scattered over a grid, of the pool's own sizes."""
    radius, cell = parameter(rng, pool, 0.07, 0.11)
    places = rng.permutation(9)[: NUMBERS.index(name)]
    sheet = Sheet()
    for place in places:
        x, y = (0.2 + 0.3 * v for v in divmod(int(place), 3))
        shift = rng.uniform(-0.03, 0.03, 2)
        sheet.disc((x + float(shift[0]), y + float(shift[1])), radius)
    return paint(sheet.mask(), rng, pool, cell)


HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def draw_clock(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a clock face whose single hand shows a full hour, of the pool's own sizes."""
    radius, cell = parameter(rng, pool, 0.36, 0.46)
    sheet, centre = Sheet(), jittered_centre(rng, 0.03)
    sheet.disc(centre, radius)
    sheet.disc(centre, radius - 0.06, fill=0)
    sheet.disc(turned([(0.0, -1.0)], centre, radius * 0.98, 0.0)[0], 0.06)
    angle = 2 * np.pi * (HOURS.index(name) + 1) / 12 + float(rng.uniform(-0.06, 0.06))
    sheet.line([centre, turned([(0.0, -1.0)], centre, radius * 0.78, angle)[0]], width=0.09)
    return paint(sheet.mask(), rng, pool, cell)
