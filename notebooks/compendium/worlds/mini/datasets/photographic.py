# SPDX-License-Identifier: MIT
"""Real images: crops of photographs, damaged photographs, faces and handwritten digits."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from compendium.worlds.mini.datasets.canvas import SIZE, Mask, Picture, Pixels, ground, named_colour, paint, to_pixels
from compendium.worlds.mini.datasets.glyphs import NUMBERS
from compendium.worlds.mini.datasets.photographs import Box, crop
from compendium.worlds.mini.datasets.sources import Pool, scans

Region = tuple[str, Box | None]

SCENES: dict[str, Region] = {
    "astronaut": ("astronaut.png", None), "cat": ("chelsea.png", None), "coffee": ("coffee.png", None),
    "rocket": ("rocket.jpg", None), "motorcycle": ("motorcycle_left.png", None), "temple": ("china.jpg", None),
    "flower": ("flower.jpg", None), "officer": ("grace_hopper.jpg", None), "photographer": ("camera.png", None),
}  # fmt: skip
MATERIALS: dict[str, Region] = {
    "brick": ("brick.png", None), "grass": ("grass.png", None), "gravel": ("gravel.png", None),
    "fur": ("chelsea.png", (0, 150, 180, 300)), "wood": ("coffee.png", (480, 0, 600, 400)),
    "petals": ("flower.jpg", (168, 84, 462, 378)),
}  # fmt: skip
SPECIMENS: dict[str, Region] = {
    "retina": ("retina.jpg", None), "tissue": ("ihc.png", None),
    "galaxies": ("hubble_deep_field.jpg", None), "moon": ("moon.png", None), "coins": ("coins.png", None),
    "page": ("page.png", None), "blackboard": ("text.png", None),
}  # fmt: skip

# Damage shows only where there is detail: plain sky looks the same clean and blurred.
DETAILED = ("motorcycle_left.png", "china.jpg", "gravel.png", "brick.png", "grass.png", "ihc.png", "chelsea.png")


def _draw_region(region: Region, rng: np.random.Generator, pool: Pool) -> Picture:
    image, source = crop(*region, rng, pool)
    light = np.float32(rng.uniform(0.8, 1.2))
    return Picture(to_pixels(np.asarray(image, dtype=np.float32) * light), source)


def draw_scene(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a crop of the photograph that shows a thing."""
    return _draw_region(SCENES[name], rng, pool)


def draw_material(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a crop of a surface."""
    return _draw_region(MATERIALS[name], rng, pool)


def draw_specimen(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a crop of a picture taken by an instrument."""
    return _draw_region(SPECIMENS[name], rng, pool)


def _noisy(image: Image.Image, rng: np.random.Generator) -> Pixels:
    return to_pixels(np.asarray(image, dtype=np.float32) + rng.normal(0, 35, (SIZE, SIZE, 3)).astype(np.float32))


def _speckled(image: Image.Image, rng: np.random.Generator) -> Pixels:
    pixels, hit = np.array(image), rng.random((SIZE, SIZE))
    pixels[hit < 0.07], pixels[hit > 0.93] = 0, 255
    return pixels


def _smeared(image: Image.Image) -> Pixels:
    pixels = np.asarray(image, dtype=np.float32)
    return to_pixels(np.mean([np.roll(pixels, s, axis=1) for s in range(-4, 5)], axis=0, dtype=np.float32))


def _compressed(image: Image.Image, rng: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(4, 9)))
    return np.array(Image.open(buffer).convert("RGB"))


DEGRADATIONS: dict[str, Callable[[Image.Image, np.random.Generator], Pixels]] = {
    "clean": lambda image, rng: np.array(image),
    "blurred": lambda image, rng: np.array(image.filter(ImageFilter.GaussianBlur(2.2))),
    "noisy": _noisy,
    "pixelated": lambda image, rng: np.array(
        image.resize((6, 6), Image.Resampling.BOX).resize((SIZE, SIZE), Image.Resampling.NEAREST)),
    "smeared": lambda image, rng: _smeared(image),
    "speckled": _speckled,
    "posterised": lambda image, rng: np.asarray(image) // 86 * 110 + 15,
    "compressed": _compressed,
    "solarised": lambda image, rng: np.where(np.asarray(image) > 120, 255 - np.asarray(image), np.asarray(image)),
}  # fmt: skip


def draw_degradation(name: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a damaged crop of a photograph."""
    image, source = crop(DETAILED[rng.integers(len(DETAILED))], None, rng, pool)
    return Picture(DEGRADATIONS[name](image, rng).astype(np.uint8), source)


FACES = ("background", "face")


def _scan_mask(collection: str, name: str, rng: np.random.Generator, pool: Pool, turn: int) -> tuple[Mask, str]:
    own = scans(collection, NUMBERS.index(name), pool)
    pixels, source = own[turn % len(own)]
    side = int(rng.integers(24, 29))
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
    sheet = Image.new("L", (SIZE, SIZE))
    x, y = (SIZE - side) // 2 + rng.integers(-1, 2, 2)
    sheet.paste(image, (int(x), int(y)))
    return np.asarray(sheet, dtype=np.float32) / np.float32(255), source


def draw_face(name: str, rng: np.random.Generator, pool: Pool, turn: int) -> Picture:
    """Return a window of Labeled Faces in the Wild with or without a face, shifted, mirrored and tinted."""
    own = scans("lfw", 1 - FACES.index(name), pool)
    pixels, source = own[turn % len(own)]
    dx, dy = (int(v) for v in rng.integers(0, 3, 2))
    image = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(dx, dy, dx + 23, dy + 23))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tint = rng.uniform(0.8, 1.15, 3).astype(np.float32)
    return Picture(to_pixels(np.asarray(image, dtype=np.float32)[:, :, None] * tint), source)


def draw_mnist(name: str, rng: np.random.Generator, pool: Pool, turn: int) -> Picture:
    """Return a handwritten digit of MNIST, white on black."""
    mask, source = _scan_mask("mnist", name, rng, pool, turn)
    return Picture(to_pixels(np.repeat(mask[:, :, None] * 255, 3, axis=2)), source)


def draw_digit_scan(name: str, rng: np.random.Generator, pool: Pool, turn: int) -> Picture:
    """Return a handwritten digit of the UCI optical recognition set, in colour on a plain or photographic ground."""
    mask, source = _scan_mask("digits", name, rng, pool, turn)
    return paint(mask, rng, pool, source)


def draw_mnist_photo(name: str, rng: np.random.Generator, pool: Pool, turn: int) -> Picture:
    """Return a handwritten digit of MNIST that lightens or darkens the photograph under it."""
    mask, source = _scan_mask("mnist-second-half", name, rng, pool, turn)
    _, veil = named_colour(rng)
    back = ground(rng, pool, veil)
    alpha = mask[:, :, None]
    swing = np.float32(120) if back.mean() < 128 else np.float32(-120)
    return Picture(to_pixels(back + swing * alpha), source)
