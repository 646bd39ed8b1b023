# SPDX-License-Identifier: MIT
"""Data sets whose own files list the images of a part and their classes: Cars, GTSRB, Pets, Flowers102, Food-101."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from compendium.worlds.clip.local.folders import classes
from compendium.worlds.clip.local.kinds import REMEDY, Photo, lines, of_files
from compendium.worlds.clip.pictures import Part
from compendium.worlds.clip.registry import Task
from tsvlib import files
from tsvlib.errors import InputError


def _cars(_: Task, root: Path, part: Part) -> list[Photo]:
    """List what the development kit annotates; labels of the test lie beside it, or in it in some copies."""
    base = root / "stanford_cars"
    if part == "pool":
        annotations, folder = base / "devkit/cars_train_annos.mat", "cars_train"
    else:
        name, folder = "cars_test_annos_withlabels.mat", "cars_test"
        annotations = next((place for place in (base / name, base / "devkit" / name) if place.exists()), base / name)
    found = matrices(annotations)["annotations"]
    if "class" not in (found.dtype.names or ()):
        raise InputError(f"{annotations}: no classes are in there, as in a test without labels; {REMEDY}.")
    rows = [(row["fname"].item(), row["class"].item() - 1) for row in found.reshape(-1)]
    return [Photo(f"{folder}/{name}", f"stanford_cars/{folder}/{name}", label) for name, label in rows]


def _gtsrb(_: Task, root: Path, part: Part) -> list[Photo]:
    """List folders of classes, whose names are numbers, or for the test what its table says."""
    if part == "pool":
        found = classes(root, "gtsrb/GTSRB/Training", extensions=(".ppm",))
        return [photo._replace(label=int(photo.label)) for photo in found]
    text = "\n".join(lines(root / "gtsrb/GT-final_test.csv"))
    rows = csv.DictReader(io.StringIO(text), delimiter=";", skipinitialspace=True)
    base = "gtsrb/GTSRB/Final_Test/Images"
    return [Photo(row["Filename"], f"{base}/{row['Filename']}", int(row["ClassId"])) for row in rows]


def _pets(_: Task, root: Path, part: Part) -> list[Photo]:
    name = "trainval" if part == "pool" else "test"
    rows = [line.split() for line in lines(root / f"oxford-iiit-pet/annotations/{name}.txt")]
    return [Photo(f"{row[0]}.jpg", f"oxford-iiit-pet/images/{row[0]}.jpg", int(row[1]) - 1) for row in rows]


def _flowers(_: Task, root: Path, part: Part) -> list[Photo]:
    """List the training images alone as the pool; the official validation is left aside, as in the paper."""
    base = root / "flowers-102"
    labels = matrices(base / "imagelabels.mat")["labels"].reshape(-1)
    numbers = matrices(base / "setid.mat")["trnid" if part == "pool" else "tstid"].reshape(-1)
    return [
        Photo(name, f"flowers-102/jpg/{name}", int(labels[number - 1]) - 1)
        for name, number in ((f"image_{number:05d}.jpg", int(number)) for number in numbers)
    ]


def _food(_: Task, root: Path, part: Part) -> list[Photo]:
    with files.opened(root / f"food-101/meta/{'train' if part == 'pool' else 'test'}.json", REMEDY) as stream:
        listed: dict[str, list[str]] = json.load(stream)
    return [
        Photo(f"{name}.jpg", f"food-101/images/{name}.jpg", label) for label, names in listed.items() for name in names
    ]


def matrices(file: Path) -> dict[str, Any]:
    """Return what a MATLAB file holds; InputError when it is missing."""
    from scipy import io as scipy

    with files.opened(file, REMEDY) as stream:
        found: dict[str, Any] = scipy.loadmat(stream)
    return found


LAYOUTS = {
    "Cars": (of_files("stanford_cars", _cars),),
    "GTSRB": (of_files("gtsrb/GTSRB", _gtsrb),),
    "OxfordIIITPet": (of_files("oxford-iiit-pet", _pets),),
    "Flowers102": (of_files("flowers-102", _flowers),),
    "Food101": (of_files("food-101", _food),),
}
"""Layouts by data set."""
