# SPDX-License-Identifier: MIT
"""Textures, gratings, flags and traffic signs: pictures that fill the frame or carry colours of their own."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compendium.worlds.mini.datasets.canvas import (
    COLOURS,
    SIZE,
    Picture,
    Sheet,
    colour_pair,
    ground,
    jittered_centre,
    named_colour,
    to_pixels,
    turned,
)
from compendium.worlds.mini.datasets.drawings import OUTLINES, regular, star
from compendium.worlds.mini.datasets.sources import Pool, parameter

Field = NDArray[np.floating[Any]]
_AXIS = np.linspace(-1, 1, SIZE, dtype=np.float32)
_X, _Y = np.meshgrid(_AXIS, _AXIS)


def _saw(x: Field) -> Field:
    folded: Field = np.abs(x % 1 - np.float32(0.5)) * 2
    return folded


def _bricks(x: Field, y: Field) -> Field:
    row = np.floor(y)
    seam = np.minimum(_saw(y + 0.5), _saw(0.5 * x + 0.5 * (row % 2) + 0.5) * 2)
    return (seam > 0.3).astype(np.float32)


def _honeycomb(x: Field, y: Field) -> Field:
    waves = [np.cos(2 * np.pi * (x * c + y * s)) for c, s in ((1, 0), (-0.5, 0.866), (-0.5, -0.866))]
    return (waves[0] + waves[1] + waves[2] > -0.9).astype(np.float32)


def _crosses(x: Field, y: Field) -> Field:
    across, down = _saw(x), _saw(y)
    return (((across < 0.35) & (down < 0.75)) | ((down < 0.35) & (across < 0.75))).astype(np.float32)


TEXTURES: dict[str, Callable[[Field, Field], Field]] = {
    "dots": lambda x, y: ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.09).astype(np.float32),
    "stripes": lambda x, y: (_saw(x) > 0.5).astype(np.float32),
    "checkers": lambda x, y: ((np.floor(x) + np.floor(y)) % 2).astype(np.float32),
    "waves": lambda x, y: (_saw(y + 0.3 * np.sin(2 * np.pi * 0.5 * x)) > 0.5).astype(np.float32),
    "bricks": _bricks,
    "chevrons": lambda x, y: (_saw(y + _saw(0.5 * x)) > 0.5).astype(np.float32),
    "grid": lambda x, y: ((_saw(x) < 0.3) | (_saw(y) < 0.3)).astype(np.float32),
    "rings": lambda x, y: (_saw(np.sqrt(x**2 + y**2)) > 0.5).astype(np.float32),
    "honeycomb": _honeycomb,
    "rays": lambda x, y: (_saw(np.arctan2(y, x) * (4 / np.pi)) > 0.5).astype(np.float32),
    "crosses": _crosses,
    "gradient": lambda x, y: np.clip((x / np.abs(x).max() + 1) / 2, 0, 1).astype(np.float32),
}  # fmt: skip


def _plane(rng: np.random.Generator, scale: float, angle: float) -> tuple[Field, Field]:
    c, s = np.float32(np.cos(angle) * scale), np.float32(np.sin(angle) * scale)
    dx, dy = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
    return _X * c - _Y * s + dx, _X * s + _Y * c + dy


def _two_tone(field: Field, rng: np.random.Generator, source: str) -> Picture:
    name, front, back = colour_pair(rng)
    alpha = field[:, :, None]
    return Picture(to_pixels(front * alpha + back * (1 - alpha) + rng.normal(0, 5, (SIZE, SIZE, 1))), source, name)


def draw_texture(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a two-coloured texture of the pool's own scales, slightly turned."""
    scale, cell = parameter(rng, pool, 1.8, 3.2)
    x, y = _plane(rng, scale, float(rng.uniform(-0.3, 0.3)))
    return _two_tone(TEXTURES[name](x, y), rng, cell)


ANGLES = {name: np.pi * i / 8 for i, name in enumerate(
    ("upright", "steep", "rising", "gentle", "level", "sinking", "falling", "plunging"))}  # fmt: skip


def draw_grating(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a sinusoidal grating at one of eight orientations, of the pool's own frequencies."""
    scale, cell = parameter(rng, pool, 1.3, 2.6)
    x, _ = _plane(rng, scale, ANGLES[name] + float(rng.uniform(-0.08, 0.08)))
    return _two_tone((np.sin(2 * np.pi * x) + 1) / 2, rng, cell)


# Each flag: bands across ("v"), bands down ("h"), a disc or a cross on a field.
FLAGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "france": ("v", ("blue", "white", "red")), "italy": ("v", ("green", "white", "red")),
    "belgium": ("v", ("black", "yellow", "red")), "germany": ("h", ("black", "red", "yellow")),
    "netherlands": ("h", ("red", "white", "blue")), "austria": ("h", ("red", "white", "red")),
    "poland": ("h", ("white", "red")), "ukraine": ("h", ("blue", "yellow")), "japan": ("disc", ("white", "red")),
    "sweden": ("nordic", ("blue", "yellow")), "denmark": ("nordic", ("red", "white")),
    "switzerland": ("cross", ("red", "white")), "hungary": ("h", ("red", "white", "green")),
    "nigeria": ("v", ("green", "white", "green")), "finland": ("nordic", ("white", "blue")),
    "bangladesh": ("disc", ("green", "red")),
}  # fmt: skip

Band = tuple[float, float, float, float]


def _flag_bands(layout: str, count: int) -> list[Band]:
    edges = [i / count for i in range(count + 1)]
    if layout == "v":
        return [(a, 0.0, b, 1.0) for a, b in pairwise(edges)]
    if layout == "h":
        return [(0.0, a, 1.0, b) for a, b in pairwise(edges)]
    if layout == "nordic":
        return [(0.0, 0.0, 1.0, 1.0), (0.3, 0.0, 0.44, 1.0), (0.0, 0.4, 1.0, 0.6)]
    if layout == "cross":
        return [(0.0, 0.0, 1.0, 1.0), (0.42, 0.2, 0.58, 0.8), (0.25, 0.4, 0.75, 0.6)]
    return [(0.0, 0.0, 1.0, 1.0)]


def draw_flag(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a flag with faded colours on a ground, of the pool's own sizes."""
    height, cell = parameter(rng, pool, 0.45, 0.75)
    layout, names = FLAGS[name]
    _, back = named_colour(rng)
    fade = rng.normal(0, 14, 3)
    colours = [tuple(int(v) for v in np.clip(np.array(COLOURS[c]) + fade, 0, 255)) for c in names]
    sheet, (cx, cy) = Sheet("RGB", tuple(int(v) for v in back)), jittered_centre(rng, 0.03)
    width, angle = min(height * 1.45, 0.96), float(rng.uniform(-0.12, 0.12))

    def place(x: float, y: float) -> tuple[float, float]:
        return turned([((x - 0.5) * width, (y - 0.5) * height)], (cx, cy), 1.0, angle)[0]

    for i, (x0, y0, x1, y1) in enumerate(_flag_bands(layout, len(names))):
        colour = colours[min(i, len(colours) - 1)]
        sheet.polygon([place(x0, y0), place(x1, y0), place(x1, y1), place(x0, y1)], fill=colour)
    if layout == "disc":
        sheet.disc((cx, cy), height * 0.3, fill=colours[1])
    return Picture(to_pixels(sheet.pixels()), cell)


# Each sign: outline, rim colour, field colour, and what stands on it.
SIGNS: dict[str, tuple[str, str, str, str]] = {
    "stop": ("octagon", "red", "red", "bar"), "yield": ("wedge", "red", "white", ""),
    "priority": ("rhombus", "white", "yellow", ""), "forbidden": ("disc", "red", "red", "bar"),
    "ahead": ("disc", "blue", "blue", "arrow"), "warning": ("triangle", "red", "white", "post"),
    "closed": ("disc", "red", "white", ""), "parking": ("square", "blue", "blue", "ring"),
    "crossing": ("triangle", "red", "white", "cross"), "clearway": ("disc", "red", "blue", "slash"),
    "unlimited": ("disc", "black", "white", "slash"), "hospital": ("square", "blue", "white", "redcross"),
    "roundabout": ("disc", "blue", "blue", "ring"), "sight": ("square", "brown", "brown", "star"),
}  # fmt: skip
_PLATES = {
    "octagon": regular(8, np.pi / 8), "wedge": regular(3, np.pi / 2), "rhombus": regular(4),
    "disc": regular(40), "triangle": regular(3), "square": regular(4, np.pi / 4),
}  # fmt: skip


def _emblem(sheet: Sheet, kind: str, centre: tuple[float, float], r: float, ink: tuple[int, ...]) -> None:
    if kind in ("bar", "post", "slash"):
        angle = {"bar": 0.0, "post": np.pi / 2, "slash": -np.pi / 4}[kind]
        sheet.line(turned([(-0.55, 0.0), (0.55, 0.0)], centre, r, angle), width=0.32 * r, fill=ink)
    elif kind == "ring":
        sheet.disc(centre, 0.5 * r, fill=ink)
        sheet.disc(centre, 0.25 * r, fill=COLOURS["blue"])
    elif kind == "star":
        sheet.polygon(turned(star(5, 0.42), centre, 0.6 * r, 0.0), fill=ink)
    elif kind:
        outline, angle = (OUTLINES["pointer"], -np.pi / 2) if kind == "arrow" else (OUTLINES["cross"], 0.0)
        sheet.polygon(turned(outline, centre, 0.5 * r, angle), fill=ink)


def draw_sign(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a traffic sign before a ground, of the pool's own sizes."""
    radius, cell = parameter(rng, pool, 0.3, 0.44)
    plate, rim, field, emblem = SIGNS[name]
    centre, angle = jittered_centre(rng), float(rng.uniform(-0.1, 0.1))
    sheet, cover = Sheet("RGB"), Sheet()
    cover.polygon(turned(_PLATES[plate], centre, radius, angle))
    sheet.polygon(turned(_PLATES[plate], centre, radius * 1.1, angle), fill=COLOURS[rim])
    sheet.polygon(turned(_PLATES[plate], centre, radius * 0.72, angle), fill=COLOURS[field])
    ink = COLOURS["red"] if emblem == "redcross" else COLOURS["black" if field == "white" else "white"]
    _emblem(sheet, emblem, centre, radius, ink)
    alpha = cover.mask()[:, :, None]
    _, back = named_colour(rng)
    light = np.float32(rng.uniform(0.75, 1.1))
    return Picture(to_pixels(sheet.pixels() * light * alpha + ground(rng, pool, back) * (1 - alpha)), cell)
