# SPDX-License-Identifier: MIT
"""Where a model is written: into one file, or into a folder like that of the base."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tsvlib import checkpoints
from tsvlib.checkpoints import Checkpoint, TensorInfo
from tsvlib.cli import outputs

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class File:
    """One safetensors file for a model with the tensors of ``layout``, made from ``base``."""

    path: Path
    base: Checkpoint
    layout: Mapping[str, TensorInfo]

    @property
    def order(self) -> tuple[str, ...]:
        """Return the keys in the order in which tensors are to come."""
        return checkpoints.file_order(self.layout)

    @property
    def nbytes(self) -> int:
        """Return the size of all tensors."""
        return sum(info.nbytes for info in self.layout.values())

    def check(self, read: Sequence[Path], store: Path | None) -> None:
        """Raise InputError, before any work, unless the model may be written here; see ``outputs``."""
        outputs.check(self.path, outputs.WEIGHTS, read, store, self.nbytes)

    def write(self, recipe: Mapping[str, object], tensors: Iterable[tuple[str, Tensor]]) -> str:
        """Write the model, with the base's metadata beside the recipe, and return the digest; all or nothing."""
        notes = checkpoints.for_loaders(self.base.metadata)
        return checkpoints.write(self.path, self.layout, recipe, tensors, metadata=notes)


@dataclass(frozen=True)
class Folder(File):
    """A folder for it, with shards, index and configuration like those of the base, which names ``dtype`` if given."""

    dtype: str | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """Return the keys shard by shard."""
        return tuple(key for shard in checkpoints.shards(self.base, self.layout) for key in shard.keys)

    def check(self, read: Sequence[Path], store: Path | None) -> None:
        """Raise InputError, before any work, unless the folder may be made; see ``outputs``."""
        outputs.check_folder(self.path, read, store, self.nbytes)

    def write(self, recipe: Mapping[str, object], tensors: Iterable[tuple[str, Tensor]]) -> str:
        """Write the folder, each shard with the base's metadata beside the recipe, and return the digest of all."""
        return checkpoints.write_folder(self.path, self.base, self.layout, recipe, tensors, self.dtype)


def at(out: PathLike, base: Checkpoint, layout: Mapping[str, TensorInfo], dtype: str | None = None) -> File:
    """Return the place that a name means; ``dtype`` is the type of all weights, if that is not the base's.

    A name that ends in a slash means a folder, and so does that of an existing one, unless it ends in .safetensors.
    """
    names = (Path(out), Path(os.path.realpath(out)))
    there = os.path.isdir(out) and not any(name.suffix.lower() == outputs.WEIGHTS for name in names)  # noqa: PTH112
    if there or os.fspath(out).endswith(os.sep):
        return Folder(Path(out), base, layout, dtype)
    return File(Path(out), base, layout)
