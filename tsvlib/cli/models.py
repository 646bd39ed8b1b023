# SPDX-License-Identifier: MIT
"""Where a model is written: into one file, or into a folder like that of the base."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tsvlib import checkpoints
from tsvlib.checkpoints import Checkpoint, TensorInfo
from tsvlib.checkpoints.writing import Writing
from tsvlib.cli import outputs
from tsvlib.errors import InputError

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

    def check(self, read: Sequence[Path], store: Path | None, needed: int) -> None:
        """Raise InputError, before any work, unless the model may be written here; see ``outputs``."""
        outputs.check(self.path, outputs.WEIGHTS, read, store, needed)

    def writer(self, recipe: Mapping[str, object]) -> Writing:
        """Write the tensors that are sent, with the base's metadata beside the recipe; all or nothing."""
        return checkpoints.writer(self.path, self.layout, recipe, metadata=checkpoints.for_loaders(self.base.metadata))


@dataclass(frozen=True)
class Folder(File):
    """A folder for it, with shards, index and configuration like those of the base, which names ``dtype`` if given."""

    dtype: str | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """Return the keys shard by shard."""
        return tuple(key for shard in checkpoints.shards(self.base, self.layout) for key in shard.keys)

    def check(self, read: Sequence[Path], store: Path | None, needed: int) -> None:
        """Raise InputError, before any work, unless the folder may be made; see ``outputs``."""
        outputs.check_folder(self.path, read, store, needed)

    def writer(self, recipe: Mapping[str, object]) -> Writing:
        """Write the tensors that are sent to shards, each with the base's metadata beside the recipe."""
        return checkpoints.folder_writer(self.path, self.base, self.layout, recipe, self.dtype)


def places(
    out: PathLike, alphas: Sequence[float], base: Checkpoint, layout: Mapping[str, TensorInfo], dtype: str | None = None
) -> dict[float, File]:
    """Return where the model of each alpha is written: to ``out``, or beside it where there are several.

    A name that ends in a slash means a folder, and so does that of an existing one, unless it ends in .safetensors;
    any other means a file. ``dtype`` is the type of all weights, if that is not the base's. InputError for no name.
    """
    is_folder = _is_folder(out)
    every = paths(Path(out), alphas, is_folder)
    kind = partial(Folder, dtype=dtype) if is_folder else File
    return {alpha: kind(each, base, layout) for alpha, each in every.items()}


def paths(out: Path, alphas: Sequence[float], is_folder: bool) -> dict[float, Path]:
    """Return the name of the file or folder of each alpha, which is ``out`` itself where there is one.

    >>> [path.name for path in paths(Path("m.safetensors"), [0.5, 1.0], is_folder=False).values()]
    ['m-alpha-0.5.safetensors', 'm-alpha-1.safetensors']
    """
    if len(alphas) == 1:
        return {alphas[0]: out}
    if not out.name:
        raise InputError(f"{out}: this is no name that alphas could stand behind; choose one.")
    stem, suffix = (out.name, "") if is_folder else (out.stem, out.suffix)
    return {alpha: out.with_name(f"{stem}-alpha-{_short(alpha)}{suffix}") for alpha in alphas}


def _is_folder(out: PathLike) -> bool:
    names = (Path(out), Path(os.path.realpath(out)))
    there = os.path.isdir(out) and not any(name.suffix.lower() == outputs.WEIGHTS for name in names)  # noqa: PTH112
    return there or os.fspath(out).endswith(os.sep)


def _short(number: float) -> str:
    """Return the shortest text that means this number."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)
