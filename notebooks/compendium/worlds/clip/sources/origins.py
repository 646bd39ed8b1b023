# SPDX-License-Identifier: MIT
"""Which file an expert was read from, so that another file in its place is noticed, and results say what they rest on.

Checkpoints of the paper were replaced on the hub when it turned out that the expert of DTD had seen its test images.
Files have no name for that: whoever knows which ones theirs are says so in ``data/clip/local.toml``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compendium.worlds.clip.sources import digests
from compendium.worlds.clip.sources.protocol import Source
from tsvlib.errors import InputError

Generation = Literal["old", "clean", "unknown"]
"""Whether an expert of DTD is one that saw its test images (``old``) or not (``clean``)."""


@dataclass(frozen=True)
class Origin:
    """A file that was read: its source, its path below the folder of that source, its SHA-256, what its user says."""

    source: str
    file: str
    sha256: str
    generation: Generation


def origin(source: Source, folder: Path, backbone: str, task: str | None, generation: Generation = "unknown") -> Origin:
    """Return where a checkpoint comes from; the file is read where that was not done. InputError when it is missing."""
    file = source.files(folder, backbone, task)
    return Origin(source.name, file.relative_to(folder).as_posix(), digests.sha256(file), generation)


def check(origin: Origin, folder: Path) -> None:
    """Raise InputError when the file is missing or no longer what it was."""
    file = folder / origin.file
    if digests.sha256(file) != origin.sha256:
        raise InputError(
            f"{file}: the file is not the one that was read before (its SHA-256 began with {origin.sha256[:12]}); "
            "put that one back, or read all experts of this folder anew."
        )


def generation(word: object, where: str) -> Generation:
    """Return what a user says of checkpoints; InputError, beginning with ``where``, for any other word.

    >>> generation("clean", "local.toml, tall-masks")
    'clean'
    """
    match word:
        case "old" | "clean" | "unknown":
            return word
    raise InputError(f'{where}: generation is {word!r}; write "old", "clean" or "unknown".')
