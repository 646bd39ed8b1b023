# SPDX-License-Identifier: MIT
"""Two kinds of layouts: a file for each image, or all images of a part in few files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from compendium.worlds.clip import classnames
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.pictures import Part, Pictures
from compendium.worlds.clip.registry import Task
from tsvlib import files
from tsvlib.errors import InputError

REMEDY = "complete the data set, or move it away and fetch it again"


@dataclass(frozen=True)
class Tally:
    """How many images of a part are here, what the files of the part take, and the first file that is not here."""

    images: int
    bytes: int
    lacking: str | None = None


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on disk, and where: below the folder of all images or one of its own in there.

    ``pictures`` and ``tally`` get that folder. What they raise on damaged files is not only InputError.
    """

    place: str
    pictures: Callable[[Task, Path, Part, Options], Pictures]
    tally: Callable[[Task, Path, Part], Tally]


class Photo(NamedTuple):
    """One image in a file of its own, its path in the folder, and its class, by the data set's name or by number."""

    name: str
    file: str
    label: str | int


class Arrays(NamedTuple):
    """All images of a part, each as ``[height, width]`` or ``[height, width, 3]`` of uint8, and their labels."""

    images: Any
    labels: Int64[np.ndarray, " n"]
    names: Sequence[str]


def of_files(place: str, listing: Callable[[Task, Path, Part], Sequence[Photo]]) -> Layout:
    """Return a layout with a file for each image, which ``listing`` lists in order without opening any."""

    def pictures(task: Task, root: Path, part: Part, _: Options) -> Pictures:
        photos = listing(task, root, part)
        files_of, names = [root / photo.file for photo in photos], [photo.name for photo in photos]
        labels = _labels(task, photos, root / place)
        return Pictures(labels, names, lambda n: decoded(files_of[n]), lambda n: _size(files_of[n]))

    return Layout(place, pictures, lambda task, root, part: _tally(root, [p.file for p in listing(task, root, part)]))


def of_arrays(
    place: str,
    held: Callable[[Task, Path, Part], Sequence[Path]],
    opened: Callable[[Task, Sequence[Path], Part], Arrays],
    quick: Callable[[Sequence[Path], Part], int] | None = None,
) -> Layout:
    """Return a layout whose parts lie in the files ``held``, which ``opened`` opens and ``quick`` counts without."""

    def whole(task: Task, root: Path, part: Part) -> Arrays:
        found = opened(task, held(task, root, part), part)
        if len(found.images) != len(found.labels):
            raise InputError(f"{root / place}: {len(found.images)} images have {len(found.labels)} labels; {REMEDY}.")
        return found

    def pictures(task: Task, root: Path, part: Part, options: Options) -> Pictures:
        images, labels, names = whole(task, root, part)
        turned = task.name == "EMNIST" and options.emnist_upright

        def image(index: int) -> Image.Image:
            found = Image.fromarray(np.ascontiguousarray(images[index])).convert("RGB")
            return found.transpose(Image.Transpose.TRANSPOSE) if turned else found

        size = sum(map(_size, held(task, root, part)))
        return Pictures(classnames.in_order(task, labels, None, root / place), names, image, lambda _: size)

    def tally(task: Task, root: Path, part: Part) -> Tally:
        sources = held(task, root, part)
        total = sum(map(_size, sources))
        return Tally(quick(sources, part) if quick else len(whole(task, root, part).labels), total)

    return Layout(place, pictures, tally)


def decoded(file: Path) -> Image.Image:
    """Return the image in a file in RGB; InputError, which names the file, when it is missing or damaged."""
    with files.opened(file, REMEDY) as stream:
        try:
            with Image.open(stream) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{file}: the image is incomplete or damaged; {REMEDY}.") from error


def numbered(file: Path, count: int) -> list[str]:
    """Return names for the images in a file that holds many."""
    return [f"{file.name}/{number}" for number in range(count)]


def lines(file: Path, remedy: str = REMEDY) -> list[str]:
    """Return the lines of a text file but for empty ones; InputError when it is missing."""
    with files.opened(file, remedy) as stream:
        return [line for line in stream.read().decode().splitlines() if line.strip()]


def _labels(task: Task, photos: Sequence[Photo], place: Path) -> Int64[Tensor, " n"]:
    found = [photo.label for photo in photos]
    names = sorted({label for label in found if isinstance(label, str)})
    known = {name: number for number, name in enumerate(names)}
    numbers = np.array([known[label] if isinstance(label, str) else label for label in found], np.int64)
    return classnames.in_order(task, numbers, names or None, place)


def _tally(root: Path, listed: Sequence[str]) -> Tally:
    """Count which of the listed files are in their folders and not empty; folders are read as a whole, for speed."""
    folders: dict[str, dict[str, int]] = {}
    sizes = []
    for file in listed:
        folder, _, name = file.rpartition("/")
        if folder not in folders:
            folders[folder] = _sizes(root / folder)
        sizes.append(folders[folder].get(name, 0))
    lacking = next((file for file, size in zip(listed, sizes, strict=True) if not size), None)
    return Tally(sum(size > 0 for size in sizes), sum(sizes), lacking)


def _sizes(folder: Path) -> dict[str, int]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}
    except FileNotFoundError:
        return {}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise files.unreadable(file, error, REMEDY) from error
