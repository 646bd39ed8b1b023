# SPDX-License-Identifier: MIT
"""Images as CLIP sees them, decoded once: files of bytes of which any range is read without the others."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional  # type: ignore[import-untyped]

from compendium import engine
from compendium.engine import Unit
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.pictures import Part, Pictures
from compendium.worlds.clip.registry import Task
from tsvlib import files, progress
from tsvlib.errors import InputError

SIZE = 224
"""Rows and columns of what the published models see."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue in the images that CLIP was trained on; values lie in [0, 1]."""

PART = 2000
"""Images in one file, which one unit of work decodes."""

WORTH_A_POOL = 500
"""Images below which starting worker processes takes longer than they save."""


@dataclass(frozen=True)
class Request:
    """What to open: a part of a task as a reader finds it below the folder of images, and how large to make images."""

    task: Task
    reader: Literal["local", "hub"]
    images: Path
    part: Part
    options: Options
    size: int = SIZE

    def open(self) -> Pictures:
        """Return labels, names and the original images; InputError where these are missing or not as they should be."""
        if self.reader == "hub":
            from compendium.worlds.clip import hub

            return hub.open_part(self.task, self.images, self.part, self.options)
        from compendium.worlds.clip import local

        return local.open_part(self.task, self.images, self.part, self.options)


def preprocess(image: Image.Image, size: int = SIZE) -> UInt8[Tensor, "3 size size"]:
    """Return an image of any mode as the published models were evaluated on it, but for what :func:`normalise` does.

    The shorter side is scaled to ``size`` by bicubic interpolation, then the middle is cut out; these are the steps of
    open_clip in its order, in which colours come last.
    """
    scaled = functional.resize(image, size, InterpolationMode.BICUBIC)
    found: Tensor = functional.pil_to_tensor(functional.center_crop(scaled, [size, size]).convert("RGB"))
    return found


def normalise(
    images: UInt8[Tensor, "n 3 size size"], device: torch.device | str = "cpu"
) -> Float[Tensor, "n 3 size size"]:
    """Return images on a device with the mean and the deviation of CLIP's training images taken out."""
    mean, deviation = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return images.to(device).to(torch.float32).div_(255).sub_(mean).div_(deviation)


@dataclass(frozen=True)
class Decoded:
    """Images in files of ``PART`` each, all but the last; what is asked for is read, and no more.

    ``digest`` is the SHA-256 of those of the files, one a line.
    """

    files: tuple[Path, ...]
    count: int
    size: int
    digest: str

    def __len__(self) -> int:
        """Return how many images there are."""
        return self.count

    def __getitem__(self, chosen: "slice | Int64[Tensor, ' n']") -> UInt8[Tensor, "n 3 size size"]:
        """Return copies of some images, of a range or in any order; IndexError where there is none of that number."""
        numbers = np.arange(self.count)[chosen if isinstance(chosen, slice) else chosen.numpy()]
        found = np.empty((len(numbers), 3, self.size, self.size), np.uint8)
        for part in np.unique(numbers // PART):
            # Opened anew, since threads and processes share this object, and a system has only so many open files.
            held = _mapped(self.files[part], self.size)
            for place in np.flatnonzero(numbers // PART == part):
                found[place] = held[numbers[place] % PART]
        return torch.from_numpy(found)


def decoded(request: Request, chosen: Int64[Tensor, " n"], folder: Path) -> Decoded:
    """Return some images of a part of a data set, decoded into files of a folder as far as these are not there yet.

    An interrupted run leaves whole files behind, and the next one continues. Files that are damaged, or that other
    images, labels or options gave, are made again. Other images are noticed by their names and by the bytes of the
    original files, and not by times, so that the data set may be copied; a file that was replaced by another one of
    the same name, label and length in bytes goes unnoticed.

    Raises:
        InputError: the data set cannot be opened, an image is missing or damaged, or the disk is too small.
    """
    pictures = request.open()
    parts = [chosen[start : start + PART].tolist() for start in range(0, len(chosen), PART)]
    targets = [folder / f"{number:04}.images" for number in range(len(parts))]
    recipes = [_recipe(request, pictures, part) for part in parts]
    missing = [
        Unit(decode_part, (request, tuple(part), recipe, target))
        for part, recipe, target in zip(parts, recipes, targets, strict=True)
        if _known(target, recipe) is None
    ]
    _check_room(folder, sum(len(unit.arguments[1]) for unit in missing) * 3 * request.size**2)
    # What was opened before may have been replaced since.
    _opened.cache_clear()
    _complete(missing, f"decoding {request.task.name} {request.part}")
    shas = "".join(f"{_record(target)['sha256']}\n" for target in targets)
    return Decoded(tuple(targets), len(chosen), request.size, hashlib.sha256(shas.encode()).hexdigest())


def decode_part(request: Request, chosen: Sequence[int], recipe: str, target: Path) -> None:
    """Decode some images, one after the other, into a file, and say in a second one what they are: a unit of work."""
    image, content = _opened(request).image, hashlib.sha256()
    with files.replacing(target) as draft, draft.open("wb") as stream:
        for index in chosen:
            pixels = preprocess(image(index), request.size).numpy().tobytes()
            content.update(pixels)
            stream.write(pixels)
    _note(target, {"images": len(chosen), "recipe": recipe, "sha256": content.hexdigest()})


@lru_cache(maxsize=1)
def _opened(request: Request) -> Pictures:
    """Return what a request opens, once for all units that ask for it in a row."""
    return request.open()


def _complete(units: Sequence[Unit], label: str) -> None:
    if not units:
        return
    worth = sum(len(unit.arguments[1]) for unit in units) > WORTH_A_POOL
    with progress.track(len(units), label) as bar:
        for _ in engine.complete(units, processes=worth):
            bar.update()


def _recipe(request: Request, pictures: Pictures, chosen: Sequence[int]) -> str:
    """Return the SHA-256 of what decides a file: images by name, label and bytes, their size, who reads them, and how.

    Bytes are those of the original files as they lie on disk, where the reader knows them.
    """
    upright = request.task.name == "EMNIST" and request.options.emnist_upright
    names, labels = [pictures.names[n] for n in chosen], pictures.labels[list(chosen)].tolist()
    held = [pictures.size(n) for n in chosen] if pictures.size else None
    parts = [request.task.title, request.reader, request.part, request.size, upright, names, labels, held]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _known(target: Path, recipe: str) -> str | None:
    """Return the SHA-256 of a file of images, or None where it is to be made (again).

    A file is hashed where it is another than when that was last done, by its time and size.
    """
    record = _record(target)
    if not target.is_file() or record.get("recipe") != recipe:
        return None
    state = target.stat()
    if [record.get("time"), record.get("bytes")] != [state.st_mtime_ns, state.st_size]:
        if files.sha256(target) != record.get("sha256"):
            return None
        _note(target, record)
    return str(record["sha256"])


def _record(target: Path) -> dict[str, object]:
    """Return what is noted of a file of images; nothing where that is missing or damaged."""
    try:
        found = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(target: Path, record: dict[str, object]) -> None:
    state = target.stat()
    text = json.dumps(record | {"time": state.st_mtime_ns, "bytes": state.st_size}, indent=1, sort_keys=True)
    with files.replacing(target.with_suffix(".json")) as draft:
        draft.write_text(f"{text}\n", encoding="utf-8")


def _check_room(folder: Path, needed: int) -> None:
    near = next(place for place in (folder, *folder.parents) if place.exists())
    if (free := shutil.disk_usage(near).free) < needed:
        raise InputError(
            f"{folder}: decoded images need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; free some space."
        )


def _mapped(file: Path, size: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Return the images in a file without reading them; InputError when it is gone."""
    try:
        return np.memmap(file, np.uint8, "r").reshape(-1, 3, size, size)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file}: decoded images are gone or damaged; run the command again to decode them."
        ) from error
