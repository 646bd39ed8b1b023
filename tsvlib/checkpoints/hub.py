# SPDX-License-Identifier: MIT
"""Folders of the cache in which the hub's library keeps what it has downloaded, known by their layout.

A model is ``models--OWNER--NAME`` there: ``snapshots/REVISION`` hold its files, as links to ``blobs``, and ``refs``
tell which revision a branch is at.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from tsvlib import files
from tsvlib.errors import InputError

_MODEL = "models--"
MAIN = "main"
"""The branch that is meant where none is named."""


def repository(folder: Path) -> str | None:
    """Return ``OWNER/NAME`` for a model's folder in a cache or one of its snapshots, and None for any other folder.

    >>> repository(Path("hub/models--org--name/snapshots/0a1b")), repository(Path("models/name"))
    ('org/name', None)
    """
    place = folder.parent.parent if folder.parent.name == "snapshots" else folder
    return place.name.removeprefix(_MODEL).replace("--", "/", 1) if place.name.startswith(_MODEL) else None


def snapshot(folder: Path, revision: str = MAIN) -> Path | None:
    """Return the snapshot of a model's folder in a cache, and None for any other folder.

    InputError when there is no snapshot of that branch or commit.
    """
    place = folder.parent if folder.name == "snapshots" else folder
    if not (place.name.startswith(_MODEL) and (place / "snapshots").is_dir()):
        return None
    held = sorted(each for each in (place / "snapshots").iterdir() if each.is_dir())
    wanted = {revision, _commit(place / "refs" / revision)}
    found = [each for each in held if each.name in wanted]
    if not found and revision == MAIN:
        found = held
    if len(found) != 1:
        which = f"has several snapshots; name one of {', '.join(each.name for each in held)}"
        lacking = f"holds no snapshot of {revision}; download it again"
        raise InputError(f"{folder}: this folder of the hub's cache {which if found else lacking}.")
    return found[0]


def cached(repository: str) -> Path:
    """Return the folder that the hub's library keeps a model in on this machine, whether it is there or not."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{caches}/huggingface"
    cache = os.environ.get("HF_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(cache)).expanduser() / f"{_MODEL}{repository.replace('/', '--')}"


def holds(folder: Path, file: Path) -> bool:
    """Tell whether a file lies in a folder, or in the blobs that links in a folder of a hub's cache lead to."""
    with suppress(ValueError):
        real, found = Path(os.path.realpath(folder)), Path(os.path.realpath(file))
        return real in found.parents or found.parent == _blobs(real)
    return False


def _blobs(folder: Path) -> Path | None:
    """Return where the links in a snapshot, or in a folder of one, lead."""
    for each in (folder, *folder.parents):
        if each.parent.name == "snapshots":
            return each.parent.parent / "blobs"
    return None


def _commit(ref: Path) -> str | None:
    with suppress(InputError, OSError), files.opened(ref) as file:
        return re.sub(r"\W", "", file.read(100).decode("ascii", "replace"))
    return None
