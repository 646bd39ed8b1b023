# SPDX-License-Identifier: MIT
"""Where a result may be written: never at the cost of what is read, of another model or of anything but a file."""

import os
from collections.abc import Sequence
from pathlib import Path

from tsvlib import checkpoints, files
from tsvlib.cli import planning, room
from tsvlib.errors import InputError

WEIGHTS = ".safetensors"
TABLE = ".csv"
_FORMATS = {WEIGHTS: "weights are written in the safetensors format", TABLE: "tables are written as CSV"}


def check(out: Path, suffix: str, read: Sequence[Path], store: Path | None = None, needed: int = 0) -> None:
    """Raise InputError, before any work, unless a file of ``needed`` bytes may be written to ``out``.

    There must be a regular file or nothing, none of the files of ``read`` by whatever name, and no link that leads
    nowhere; ``suffix`` is how the name must end. No model beside it may be read otherwise for it, and the folder of
    ``store`` is no place for it.
    """
    target = files.destination(out)
    _check_link(out)
    if target.exists() and any(path.samefile(target) for path in read):
        raise InputError(f"{out}: this is one of the files to read, which would be lost; choose another name.")
    _check_room(out, target, needed)
    _check_store(out, target, store)
    # What is written through a link stands under the name of the link as well.
    for name in (out, target):
        if name.suffix.lower() != suffix:
            raise InputError(f"{name}: {_FORMATS[suffix]}; choose a name that ends in {suffix}.")
    _check_neighbours(out, target, read)


def check_folder(out: Path, read: Sequence[Path], store: Path | None = None, needed: int = 0) -> None:
    """Raise InputError, before any work, unless a folder of ``needed`` bytes may be made at ``out``.

    There must be an empty folder or nothing; otherwise as ``check``.
    """
    target = files.folder_destination(out)
    _check_link(out)
    _check_room(out, target, needed)
    _check_store(out, target, store)
    _check_neighbours(out, target, read)


def described(out: Path) -> str:
    """Return how much was written to ``out``, a file or a folder."""
    held = [file.stat().st_size for file in out.rglob("*") if file.is_file()] if out.is_dir() else []
    return f"{len(held)} files, {sum(held):,} bytes" if held else f"{out.stat().st_size:,} bytes"


def _check_link(out: Path) -> None:
    """Raise InputError for a link that leads nowhere, whose end is a place that the user may not have in mind."""
    if dangling := [place for place in (out, *out.parents) if place.is_symlink() and not place.exists()]:
        raise InputError(f"{out}: the link {dangling[0]} leads to nothing; remove it or choose another name.")


def _check_room(out: Path, target: Path, needed: int) -> None:
    """Raise InputError unless the folder, or the nearest one that exists, can take what is to be written."""
    folder = next(parent for parent in target.parents if parent.exists())
    longest = os.pathconf(folder, "PC_NAME_MAX")
    if any(len(os.fsencode(part)) > longest for part in target.parts):
        raise InputError(f"{out}: the name is longer than the file system allows; choose a shorter one.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{out}: the folder {folder} cannot be written to; choose another one or change permissions.")
    if (free := room.free_disk(folder)) < needed:
        sizes = f"{planning.prefixed(needed, 'B')} are needed and {planning.prefixed(free, 'B')} are free"
        raise InputError(f"{out}: {sizes}; free some space.")


def _check_store(out: Path, target: Path, store: Path | None) -> None:
    """Raise InputError for what a store of decompositions may take for its own, or could not be made beside."""
    folder = Path(os.path.realpath(store)) if store else None
    if folder and (folder in (target, *target.parents) or target in folder.parents):
        raise InputError(f"{out}: the store {store} is for decompositions; choose another place.")


def _check_neighbours(out: Path, target: Path, read: Sequence[Path]) -> None:
    """Raise InputError for a file that would be taken for a part of the model beside it, or be read in its place."""
    everywhere = [*read, *(Path(os.path.realpath(path)) for path in read)]
    # So would a folder of such a name that is made for the file.
    made = [folder for folder in target.parents if not folder.exists()]
    for place in (Path(os.path.realpath(out.parent)) / out.name, target, *made):
        if found := checkpoints.neighbour(place, everywhere):
            role = "would be read in place of it or as a part of it"
            raise InputError(f"{out}: a file of that name beside {found} {role}; choose another name or folder.")
