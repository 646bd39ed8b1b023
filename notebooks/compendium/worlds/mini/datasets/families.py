# SPDX-License-Identifier: MIT
"""Families: what a class name looks like, and how people would caption it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from compendium.worlds.mini.datasets import drawings, glyphs, patterns, photographic
from compendium.worlds.mini.datasets.canvas import Picture
from compendium.worlds.mini.datasets.sources import Pool

Draw = Callable[[str, np.random.Generator, Pool, int], Picture]


@dataclass(frozen=True)
class Family:
    """A kind of image: its class names, its prompt templates and its drawing function."""

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    draw: Draw


def _family(name: str, classes: Iterable[str], draw: Draw, *templates: str) -> Family:
    return Family(name, tuple(classes), templates, draw)


def _any(draw: Callable[[str, np.random.Generator, Pool], Picture]) -> Draw:
    return lambda name, rng, pool, turn: draw(name, rng, pool)


def _typeset(name: str, *templates: str) -> Family:
    characters = glyphs.ALPHABETS[name]
    return _family(name, characters, lambda c, rng, pool, turn: glyphs.draw_glyph(characters[c], rng, pool), *templates)


_DIGIT = ("the digit {}", "a picture of the digit {}", "the number {}")

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _typeset("digit", *_DIGIT),
        _typeset("latin",
                "the letter {}", "a picture of the letter {}", "the latin letter {}"),
        _typeset("greek",
                "the greek letter {}", "a picture of the greek letter {}"),
        _typeset("cyrillic",
                "the cyrillic letter {}", "a picture of the cyrillic letter {}"),
        _typeset("symbol",
                "the symbol {}", "a picture of the {} symbol"),
        _family("shape", drawings.OUTLINES, _any(drawings.draw_shape),
                "a {} shape", "a picture of a {}", "a filled {}"),
        _family("stroke", drawings.CURVES, _any(drawings.draw_stroke),
                "a stroke like a {}", "a {} drawn with a pen"),
        _family("count", glyphs.NUMBERS[1:], _any(drawings.draw_count),
                "{} dots", "a picture of {} dots"),
        _family("clock", drawings.HOURS, _any(drawings.draw_clock),
                "a clock at {}", "a clock that shows {}"),
        _family("texture", patterns.TEXTURES, _any(patterns.draw_texture),
                "a texture of {}", "a pattern of {}"),
        _family("grating", patterns.ANGLES, _any(patterns.draw_grating),
                "a {} grating", "a picture of a {} grating"),
        _family("flag", patterns.FLAGS, _any(patterns.draw_flag),
                "the flag of {}", "a picture of the flag of {}"),
        _family("sign", patterns.SIGNS, _any(patterns.draw_sign),
                "a {} traffic sign", "a picture of a {} sign"),
        _family("scene", photographic.SCENES, _any(photographic.draw_scene),
                "a photo of the {}", "a crop of a photo of the {}"),
        _family("material", photographic.MATERIALS, _any(photographic.draw_material),
                "a surface of {}", "a photo of {} close up"),
        _family("specimen", photographic.SPECIMENS, _any(photographic.draw_specimen),
                "an instrument image of {}", "a scan of {}"),
        _family("degradation", photographic.DEGRADATIONS, _any(photographic.draw_degradation),
                "a {} photo", "a photo that is {}"),
        _family("face", photographic.FACES, photographic.draw_face,
                "a window with a {}", "a gray photo of a {}"),
        _family("mnist", glyphs.NUMBERS, photographic.draw_mnist, *_DIGIT),
        _family("digit-scan", glyphs.NUMBERS, photographic.draw_digit_scan, *_DIGIT),
        _family("mnist-photo", glyphs.NUMBERS, photographic.draw_mnist_photo, *_DIGIT),
    )
}  # fmt: skip
