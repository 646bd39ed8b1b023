# SPDX-License-Identifier: MIT
"""What a run finds on this machine: processor, memory, a GPU, room on a disk."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from compendium import provenance
from tsvlib import devices


@dataclass(frozen=True)
class Machine:
    """Where a run computes; ``gpu`` is the name of the GPU that it uses, None where it uses none. Memory in bytes."""

    processor: str
    cores: int
    memory: int
    available: int
    gpu: str | None = None
    gpu_memory: int = 0


def found(device: str) -> Machine:
    """Return this machine as a run on a device sees it, which is the name that ``tsvlib.devices`` has for it."""
    import torch

    environment = provenance.record()["environment"]
    processor = environment.get("processor") if isinstance(environment, dict) else None
    chosen, memory = devices.choose(device), _memory()
    cores = devices.default_workers(torch.device("cpu"))
    common = Machine(str(processor or "a CPU"), cores, memory, min(memory, _available(memory)))
    if chosen.type != "cuda":
        return common
    card = torch.cuda.get_device_properties(chosen)
    return Machine(common.processor, cores, memory, common.available, card.name, card.total_memory)


def room(folder: Path) -> int:
    """Return how many bytes are free where a folder is, or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def held(folder: Path) -> int:
    """Return how many bytes the files below a folder take; 0 where there is no folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _available(memory: int) -> int:
    """Return the memory that programs may still have, where the system tells it, and else all of it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return memory
    rows = dict(line.split(":", 1) for line in lines)
    return 1024 * int(rows["MemAvailable"].split()[0]) if "MemAvailable" in rows else memory
