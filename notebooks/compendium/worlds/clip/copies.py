# SPDX-License-Identifier: MIT
"""Where copies of data sets from the hub lie, and which of their files hold which part; only headers are read."""

import dataclasses
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from compendium.worlds.clip.pictures import Part
from compendium.worlds.clip.registry import Task
from tsvlib.errors import InputError

IMAGES = ("image", "img", "jpg")
LABELS = ("label", "labels", "fine_label", "cls")
"""How copies call the columns of images and of labels."""

CONFIGURATIONS = {"SVHN": "cropped_digits"}
"""Which folder of a copy is meant where it holds several versions of a data set."""

PARTS: tuple[Part, ...] = ("pool", "test")

TESTS = {"Food101": "validation"}
"""The split of a copy that is the test, where it has another name."""


def folder(task: Task, images: Path) -> Path:
    """Return where the copy of a task lies below the folder of all images; InputError for a task that has none."""
    if not task.hub:
        raise InputError(
            f"data set {task.title}: no copy on the hub is known to hold these images; use the original files instead."
        )
    return images / "hub" / task.hub.replace("/", "__")


def split_name(task: Task, part: Part) -> str:
    """Return how the copy of a task calls a part."""
    return "train" if part == "pool" else TESTS.get(task.name, "test")


def as_published(task: Task) -> Task:
    """Return a task with the numbers of images that copies have: they lack validation parts of their own.

    EuroSAT's pool is 21,600 images there, of which a random part validates as in other data sets.
    """
    return dataclasses.replace(task, pool=task.pool - task.own_validation, own_validation=0)


def files_of(task: Task, part: Part, listed: Sequence[str]) -> list[str]:
    """Return which files of a copy, by their paths in it, hold a part, in their order."""
    wanted = split_name(task, part)
    inside = CONFIGURATIONS.get(task.name)
    found = [
        file
        for file in listed
        if _split_of(PurePosixPath(file)) == wanted and (inside is None or file.startswith(f"{inside}/"))
    ]
    return sorted(found, key=lambda file: [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", file)])


def listed(place: Path) -> list[str]:
    """Return all files below a folder by their paths in it, but for hidden ones, such as notes of the hub's library."""
    found = (file.relative_to(place) for file in place.rglob("*") if file.is_file())
    return [file.as_posix() for file in found if not any(name.startswith(".") for name in file.parts)]


def count(file: Path) -> int:
    """Return how many images a file says it holds; InputError when it is damaged or of another kind."""
    import pyarrow
    from pyarrow import parquet

    try:
        if file.suffix == ".tar":
            with tarfile.open(file) as archive:
                return sum(PurePosixPath(name).suffix == ".jpg" for name in archive.getnames())
        found = parquet.read_metadata(file)
        column_of(found.schema.to_arrow_schema().names, IMAGES, file)
        return int(found.num_rows)
    except (OSError, tarfile.TarError, pyarrow.ArrowException) as error:
        raise InputError(f"{file}: damaged or incomplete; fetch the copy again.") from error


def column_of(present: Sequence[str], known: Sequence[str], place: Path) -> str:
    """Return which of the known names of a column is present; InputError when none is."""
    for name in known:
        if name in present:
            return name
    raise InputError(
        f"{place}: no column {' or '.join(map(repr, known))} among {', '.join(present)}; check that this is the copy."
    )


def _split_of(file: PurePosixPath) -> str | None:
    """Return the split that a file of a copy belongs to: ``data/train-00000-of-00002.parquet``, or ``train/0.tar``."""
    if file.suffix not in (".parquet", ".tar"):
        return None
    return file.parent.name if file.stem.isdigit() else file.stem.split("-")[0]
