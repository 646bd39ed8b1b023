# SPDX-License-Identifier: MIT
"""Digits, letters of three alphabets and symbols, rendered from Matplotlib's fonts."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from compendium.worlds.mini.datasets.canvas import SIZE, Mask, Picture, paint
from compendium.worlds.mini.datasets.sources import Pool, faces, font

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = dict(zip(NUMBERS, "0123456789", strict=True))
LATIN = {letter.lower(): letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ",
    "lambda": "λ", "mu": "μ", "xi": "ξ", "pi": "π", "sigma": "σ", "phi": "φ", "psi": "ψ", "omega": "ω",
}  # fmt: skip
CYRILLIC = {
    "be": "Б", "ge": "Г", "de": "Д", "zhe": "Ж", "ze": "З", "ii": "И", "el": "Л", "pe": "П", "fe": "Ф", "tse": "Ц",
    "che": "Ч", "sha": "Ш", "yery": "Ы", "e": "Э", "yu": "Ю", "ya": "Я",
}  # fmt: skip
SYMBOLS = {
    "plus": "+", "equals": "=", "percent": "%", "ampersand": "&", "at": "@", "hash": "#", "dollar": "$",
    "question": "?", "exclamation": "!", "asterisk": "*", "infinity": "∞", "root": "√", "integral": "∫", "sum": "∑",
    "arrow": "→", "section": "§", "pound": "£", "yen": "¥", "euro": "€", "paragraph": "¶",
}  # fmt: skip

ALPHABETS = {"digit": DIGITS, "latin": LATIN, "greek": GREEK, "cyrillic": CYRILLIC, "symbol": SYMBOLS}
"""The character of every class, by family."""

_INK = 48


@cache
def _ink(face: str, character: str) -> Image.Image:
    """Return the character's ink, centred in a square with its longer side at a fixed length."""
    typeface = font(face, 2 * _INK)
    left, top, right, bottom = (int(v) for v in typeface.getbbox(character))
    side = max(right - left, bottom - top) + 4
    image = Image.new("L", (side, side))
    origin = ((side - right - left) // 2, (side - bottom - top) // 2)
    ImageDraw.Draw(image).text(origin, character, fill=255, font=typeface)
    return image.resize((_INK, _INK), Image.Resampling.BILINEAR, reducing_gap=2.0)


def glyph_mask(character: str, rng: np.random.Generator, pool: Pool) -> tuple[Mask, str]:
    """Return a slightly turned, scaled and shifted character as a mask, and its font face."""
    own = faces(character, pool)
    face = own[rng.integers(len(own))]
    angle, extent = rng.uniform(-0.2, 0.2), rng.uniform(19, 26)
    scale = _INK / extent
    c, s = float(np.cos(angle) * scale), float(np.sin(angle) * scale)
    x, y = (float(SIZE / 2 - 0.5 + v) for v in rng.uniform(-2, 2, 2))
    matrix = (c, -s, _INK / 2 - c * x + s * y, s, c, _INK / 2 - s * x - c * y)
    ink = _ink(face, character).transform((SIZE, SIZE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(ink, dtype=np.float32) / np.float32(255), face


def draw_glyph(character: str, rng: np.random.Generator, pool: Pool) -> Picture:
    """Return a coloured character on a ground."""
    mask, face = glyph_mask(character, rng, pool)
    return paint(mask, rng, pool, face)
