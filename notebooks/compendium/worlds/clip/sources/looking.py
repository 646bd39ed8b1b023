# SPDX-License-Identifier: MIT
"""What looking for a checkpoint gives, said the same way for all sources."""

from collections.abc import Callable
from pathlib import Path

from compendium.worlds.clip.sources.protocol import Source
from compendium.worlds.findings import Finding
from tsvlib.errors import InputError

MEGABYTE = 10**6


def look(
    source: Source, folder: Path, backbone: str, task: str | None, size: int, check: Callable[[Path, str], object]
) -> Finding:
    """Return what is known of a checkpoint without reading its numbers.

    ``size`` is that of a download in bytes; ``check`` takes file and backbone, and raises InputError for a wrong file.
    """
    file = source.files(folder, backbone, task)
    if not file.is_file():
        offer = source.offer(folder, backbone, task)
        way = f"fetch it from {offer.repository} on the hub" if offer else source.by_hand(folder, backbone, task)
        return Finding("missing", f"{file}: the file is missing; {way} ({megabytes(size)}).", size)
    there = file.stat().st_size
    try:
        check(file, backbone)
    except InputError as error:
        return Finding("wrong", str(error), there)
    return Finding("present", f"{file}: {megabytes(there)}.", there)


def megabytes(size: int) -> str:
    """Return a size in bytes in words.

    >>> megabytes(453_800_000), megabytes(1200)
    ('454 MB', '0 MB')
    """
    return f"{size / MEGABYTE:,.0f} MB"
