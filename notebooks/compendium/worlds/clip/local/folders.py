# SPDX-License-Identifier: MIT
"""Data sets with a folder for each class, in the paper's own layouts and in those of torchvision.

Where the paper had folders of classes, its images were in the order of ImageFolder: by class, then by name of file. The
other layout of the same data set is put in this order, too, so that the rule of the paper keeps the same images apart.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from compendium.worlds.clip.local.kinds import REMEDY, Photo, lines, of_files
from compendium.worlds.clip.pictures import Part
from compendium.worlds.clip.registry import Task
from tsvlib.errors import InputError

PARTITION = "take it from Partitions.zip of SUN397, which has the official partition, and put it there"
LISTS = "take it from the in-domain representations of remote sensing, which published the split, and put it there"


def classes(root: Path, place: str, extensions: Sequence[str] = ()) -> list[Photo]:
    """Return what torchvision's ImageFolder finds in a folder with a folder for each class, in its order.

    Names begin in there. ``extensions`` are those of images, all that torchvision knows where there are none.
    """
    from torchvision.datasets import folder as torchvision  # type: ignore[import-untyped]

    base = root / place
    found = sorted(entry.name for entry in os.scandir(base) if entry.is_dir()) if base.is_dir() else []
    if not found:
        raise InputError(f"{base}: no folders of classes are here; {REMEDY}.")
    numbers = {name: number for number, name in enumerate(found)}
    listed: Sequence[tuple[str, int]] = torchvision.make_dataset(
        str(base), numbers, extensions=tuple(extensions) or torchvision.IMG_EXTENSIONS, allow_empty=True
    )
    names = [(Path(file).relative_to(base).as_posix(), number) for file, number in listed]
    return [Photo(name, f"{place}/{name}", found[number]) for name, number in names]


def _dtd_of_paper(_: Task, root: Path, part: Part) -> list[Photo]:
    return classes(root, f"dtd/{'train' if part == 'pool' else 'val'}")


def _dtd(_: Task, root: Path, part: Part) -> list[Photo]:
    """List the first of the ten official splits; training and validation are one pool, as in the paper."""
    parts = ("train", "val") if part == "pool" else ("test",)
    found = [line.strip() for name in parts for line in lines(root / f"dtd/dtd/labels/{name}1.txt")]
    return [Photo(name, f"dtd/dtd/images/{name}", name.split("/")[0]) for name in sorted(found, key=_by_class)]


def _eurosat_of_paper(_: Task, root: Path, part: Part) -> list[Photo]:
    parts = ("train", "val") if part == "pool" else ("test",)
    return [photo for name in parts for photo in classes(root, f"EuroSAT_splits/{name}")]


def _eurosat(_: Task, root: Path, part: Part) -> list[Photo]:
    """List a part of a split of our own, since the paper's was random and is not published.

    Of each class, a tenth is the test and another one validates: those whose names have the first SHA-256 digests.
    """
    shares: dict[str, list[Photo]] = {"train": [], "val": [], "test": []}
    groups = defaultdict(list)
    for photo in classes(root, "eurosat/2750"):
        groups[photo.label].append(photo)
    for group in groups.values():
        ranked = sorted(group, key=lambda photo: hashlib.sha256(photo.name.encode()).digest())
        tenth = len(ranked) // 10
        test, val = set(ranked[:tenth]), set(ranked[tenth : 2 * tenth])
        for photo in group:
            shares["test" if photo in test else "val" if photo in val else "train"].append(photo)
    return shares["train"] + shares["val"] if part == "pool" else shares["test"]


def _sun397_of_paper(_: Task, root: Path, part: Part) -> list[Photo]:
    """List folders of classes such as ``a_apartment_building_outdoor``, which begin with the first letter once more."""
    found = classes(root, f"sun397/{'train' if part == 'pool' else 'val'}")
    return [photo._replace(label=str(photo.label)[2:]) for photo in found]


def _sun397(_: Task, root: Path, part: Part) -> list[Photo]:
    """List the first official partition of what torchvision downloads, with the names that the paper's folders give."""
    name = "Training_01.txt" if part == "pool" else "Testing_01.txt"
    places = [root / "SUN397" / name, root / "SUN397" / "Partitions" / name]
    found = []
    for line in lines(next((place for place in places if place.exists()), places[0]), PARTITION):
        path = PurePosixPath(line.strip().lstrip("/"))
        flat = "_".join(path.parts[:-1])
        found.append(Photo(f"{flat}/{path.name}", f"SUN397/{path}", flat[2:]))
    return sorted(found, key=lambda photo: _by_class(photo.name))


def _resisc45(_: Task, root: Path, part: Part) -> list[Photo]:
    """List what the published lists name; that of validation is left aside, as in the paper."""
    listed = root / f"resisc45/resisc45-{'train' if part == 'pool' else 'test'}.txt"
    names = [name.strip() for name in lines(listed, LISTS)]
    found = sorted((name.rpartition("_")[0], name) for name in names)
    return [Photo(f"{label}/{name}", f"resisc45/NWPU-RESISC45/{label}/{name}", label) for label, name in found]


def _rendered_sst2(_: Task, root: Path, part: Part) -> list[Photo]:
    """List the training or the test folder; that of validation is left aside, as in the paper."""
    return classes(root, f"rendered-sst2/{'train' if part == 'pool' else 'test'}")


def _by_class(name: str) -> list[str]:
    return name.split("/")


LAYOUTS = {
    "DTD": (of_files("dtd/train", _dtd_of_paper), of_files("dtd/dtd/labels", _dtd)),
    "EuroSAT": (of_files("EuroSAT_splits", _eurosat_of_paper), of_files("eurosat/2750", _eurosat)),
    "SUN397": (of_files("sun397/train", _sun397_of_paper), of_files("SUN397", _sun397)),
    "RESISC45": (of_files("resisc45/NWPU-RESISC45", _resisc45),),
    "RenderedSST2": (of_files("rendered-sst2", _rendered_sst2),),
}
"""Layouts by data set, the one that is preferred first."""
