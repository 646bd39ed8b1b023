# SPDX-License-Identifier: MIT
"""SHA-256 of checkpoints, which are large: a file is read once, and again only when it may have become another one."""

import hashlib
import json
import time
from pathlib import Path

from compendium import paths
from tsvlib import files

SETTLED = 2.0
"""Seconds after a change during which another one might leave a file's times as they are."""


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, from a note in the cache where the file is still as it was then.

    A file counts as the same while path, size and both times are: when its content changed, and when it was put there.

    Raises:
        InputError: it is missing or cannot be read.
    """
    note, before = _note(file), _state(file)
    if before is None or (known := _known(note, before)) is None:
        known = files.sha256(file)
        if before is not None and before == _state(file) and time.time() - max(before[1:]) / 1e9 > SETTLED:
            with files.replacing(note, durable=False) as draft:
                draft.write_text(json.dumps({"file": str(file), "sha256": known, "state": before}), encoding="utf-8")
    return known


def _note(file: Path) -> Path:
    """Return where the digest of a file is noted; a file for each, since processes write them at the same time."""
    name = hashlib.sha256(str(file.absolute()).encode()).hexdigest()
    return paths.cache("clip") / "digests" / f"{name[:32]}.json"


def _state(file: Path) -> list[int] | None:
    """Return size and times of a file, or None where nothing can be told of it."""
    try:
        found = file.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _known(note: Path, state: list[int]) -> str | None:
    """Return the digest that was noted of a file in that state; None where there is no such note, or a damaged one."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("state") != state or not isinstance(found.get("sha256"), str):
        return None
    return str(found["sha256"])
