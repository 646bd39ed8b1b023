# SPDX-License-Identifier: MIT
"""How much memory and disk there is for a command."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_SYSTEM = Path("/proc/meminfo")
_PROCESS = Path("/proc/self/status")
_GROUP = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Return how many bytes this process may take yet, or None where the system does not tell.

    That is the least of what the system has, what is left to the container, and what is left under ``ulimit -v``.
    """
    return min(_limits(), default=None)


def free_disk(folder: Path) -> int:
    """Return how many bytes may be written to a folder, or to the nearest one above it that exists."""
    place = folder.absolute()
    return shutil.disk_usage(next(each for each in (place, *place.parents) if each.exists())).free


def _limits() -> Iterator[int]:
    if (available := _table(_SYSTEM).get("MemAvailable")) is not None:
        yield 1024 * available
    with suppress(OSError, ValueError):
        # What is kept of files goes when memory is needed.
        taken = int((_GROUP / "memory.current").read_text()) - _table(_GROUP / "memory.stat").get("file", 0)
        yield max(0, int((_GROUP / "memory.max").read_text()) - taken)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield max(0, limit - 1024 * _table(_PROCESS).get("VmSize", 0))


def _table(file: Path) -> dict[str, int]:
    """Return the whole numbers of a file of the system that has a name and a number in each line."""
    try:
        rows = [line.replace(":", " ").split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}
