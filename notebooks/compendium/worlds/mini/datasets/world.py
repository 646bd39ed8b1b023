# SPDX-License-Identifier: MIT
"""The captioned world that the base models learn from: broader than the tasks, and without their domain shifts."""

from collections.abc import Iterator

import numpy as np

from compendium.worlds.mini.datasets.canvas import COLOURS, Pixels, to_pixels
from compendium.worlds.mini.datasets.families import FAMILIES, Family

# Families that only tasks show: the base meets handwriting for the first time in zero-shot evaluation.
_UNSEEN = ("mnist", "digit-scan", "mnist-photo")

# How often a class is shown: faces have only two classes, glyphs and drawings are harder than whole pictures.
_WEIGHT = {"face": 5.0, "scene": 1.0, "material": 1.0, "specimen": 1.0, "sign": 1.0, "texture": 1.0}
_USUAL_WEIGHT = 1.5


def world_families() -> tuple[Family, ...]:
    """Return the families that the base models see."""
    return tuple(family for name, family in FAMILIES.items() if name not in _UNSEEN)


def concepts() -> tuple[tuple[str, str], ...]:
    """Return every (family, class) of the world."""
    return tuple((family.name, name) for family in world_families() for name in family.classes)


def texts() -> tuple[str, ...]:
    """Return texts that together hold every word of a caption or a prompt."""
    prompts = [t.format(c) for family in FAMILIES.values() for t in family.templates for c in family.classes]
    return (*prompts, *(f"in {colour}" for colour in COLOURS))


def caption(family: Family, name: str, colour: str | None, rng: np.random.Generator) -> str:
    """Return one of the family's captions, sometimes with the colour named."""
    text = family.templates[rng.integers(len(family.templates))].format(name)
    return f"{text} in {colour}" if colour and rng.random() < 0.3 else text


def photometric(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Vary light, contrast and tint of one image, as cameras do."""
    gain = rng.uniform(0.7, 1.15) * rng.uniform(0.9, 1.1, 3)
    return to_pixels((128 + (image.astype(np.float32) - 128) * gain + rng.uniform(-25, 25)).astype(np.float32))


def captioned(seed: int, count: int) -> Iterator[tuple[Pixels, str, int]]:
    """Yield ``count`` images (uint8, 32 x 32 x 3) with a caption and the index of their concept."""
    rng = np.random.default_rng([7, seed])
    known = concepts()
    weights = np.array([_WEIGHT.get(family, _USUAL_WEIGHT) for family, _ in known])
    for index in rng.choice(len(known), size=count, p=weights / weights.sum()):
        family, name = FAMILIES[known[index][0]], known[index][1]
        picture = family.draw(name, rng, "pretrain", int(rng.integers(1000)))
        yield photometric(picture.image, rng), caption(family, name, picture.colour, rng), int(index)
