# SPDX-License-Identifier: MIT
"""Which images of a data set train, validate and test, by the rule of the paper's code; lists by which to check it."""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from compendium.worlds.clip.options import Options
from compendium.worlds.clip.pictures import Part, Pictures
from compendium.worlds.clip.registry import Task
from compendium.worlds.protocol import SplitName
from tsvlib import files
from tsvlib.errors import InputError

SEED = 0

Entry = Mapping[str, str | int]
"""How many images one split of a data set has, and the SHA-256 of their names and of their labels."""

Manifest = Mapping[str, Mapping[str, Entry]]
"""What is known of each split, by data set and split."""

HEADER = """\
# Images of each split: how many, and the SHA-256 of their names and of their labels, one a line, in their order.
"""


def shared_out(task: Task) -> tuple[Int64[Tensor, " train"], Int64[Tensor, " validation"]]:
    """Return which images of the pool train, and which validate: the last ones of a random order of all.

    Where a data set has a validation part of its own, that is the end of the pool, and nothing is drawn.

    >>> from compendium.worlds.clip.registry import tasks
    >>> int(shared_out(tasks()["MNIST"])[0][0])
    36044
    """
    if task.own_validation:
        order = torch.arange(task.pool)
    else:
        order = torch.randperm(task.pool, generator=torch.Generator().manual_seed(SEED))
    return order[: task.pool - task.validation], order[task.pool - task.validation :]


def chosen(task: Task, split: SplitName, options: Options) -> tuple[Part, Int64[Tensor, " n"]]:
    """Return the part of a data set that a split is taken from, and which images of it, in order.

    The test of EuroSAT is its training images where ``options.eurosat_test`` says so.
    """
    if split == "test" and not (task.name == "EuroSAT" and options.eurosat_test == "21600"):
        return "test", torch.arange(task.test)
    train, validation = shared_out(task)
    return "pool", validation if split == "validation" else train


def spread(count: int, most: int) -> Int64[Tensor, " n"]:
    """Return which of ``count`` images to take when ``most`` are wanted: all of them, or some at even distances.

    Many data sets have their images class by class, so that the first ones would be of few classes.

    >>> spread(10, 4).tolist()
    [0, 2, 5, 7]
    """
    wanted = min(count, most)
    return torch.arange(wanted) * count // wanted


def digest(indices: Int64[Tensor, " n"]) -> str:
    """Return the SHA-256 of a list of images, as decimal numbers with a line for each."""
    return _of_lines(indices.tolist())


def manifest(pictures: Pictures, which: Int64[Tensor, " n"]) -> dict[str, str | int]:
    """Return what tells some images of a part, in their order, from others: number, SHA-256 of names and of labels."""
    return {
        "images": len(which),
        "names": _of_lines(pictures.names[index] for index in which.tolist()),
        "labels": _of_lines(pictures.labels[which].tolist()),
    }


def compare(ours: Manifest, theirs: Manifest) -> list[str]:
    """Return a sentence on each split that two manifests know differently, or that only one of them knows."""
    places = [(task, split) for known in (ours, theirs) for task in known for split in known[task]]
    found = (
        (place, _difference(ours.get(place[0], {}).get(place[1]), theirs.get(place[0], {}).get(place[1])))
        for place in dict.fromkeys(places)
    )
    return [f"{task}, {split}: {difference}." for (task, split), difference in found if difference]


def write(file: Path, known: Manifest) -> None:
    """Write a manifest as TOML; InputError when the file cannot be written."""
    with files.replacing(file) as draft:
        draft.write_text(HEADER + "".join(_tables(known)), encoding="utf-8")


def read(file: Path) -> dict[str, dict[str, dict[str, str | int]]]:
    """Return the manifest in a file; InputError when it is missing or no manifest."""
    with files.opened(file) as stream:
        content = stream.read()
    try:
        known: dict[str, dict[str, dict[str, str | int]]] = tomllib.loads(content.decode())
        if all(entry.keys() == {"images", "names", "labels"} for task in known.values() for entry in task.values()):
            return known
    except (ValueError, AttributeError):
        pass
    raise InputError(f"{file}: no manifest of splits, as [TASK.SPLIT] with images, names and labels; write it again.")


def _tables(known: Manifest) -> Iterable[str]:
    for task, splits in known.items():
        for split, entry in splits.items():
            yield f"\n[{task}.{split}]\nimages = {entry['images']}\n"
            yield f'names = "{entry["names"]}"\nlabels = "{entry["labels"]}"\n'


def _difference(ours: Entry | None, theirs: Entry | None) -> str:
    """Return what is different, as the rest of a sentence, or nothing."""
    if ours is None or theirs is None:
        return "known only here" if theirs is None else "known only there"
    if ours["images"] != theirs["images"]:
        return f"{ours['images']} images here, {theirs['images']} there"
    if ours["names"] != theirs["names"]:
        return "as many images, but not the same ones, in another order or by other names"
    return "the same images with other labels" if ours["labels"] != theirs["labels"] else ""


def _of_lines(values: Iterable[object]) -> str:
    return hashlib.sha256("".join(f"{value}\n" for value in values).encode()).hexdigest()
