# SPDX-License-Identifier: MIT
"""Checkpoints of any program, known from their headers and read tensor by tensor."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from torch import Tensor

from tsvlib import files
from tsvlib.checkpoints.layout import TensorInfo
from tsvlib.checkpoints.safetensorsfiles import SafetensorsFile
from tsvlib.checkpoints.sources import REMEDY
from tsvlib.checkpoints.torchfiles import TorchFile
from tsvlib.errors import InputError

_Shard = SafetensorsFile | TorchFile
_FORMATS: dict[str, type[_Shard]] = {
    ".safetensors": SafetensorsFile,
    ".pt": TorchFile,
    ".pth": TorchFile,
    ".bin": TorchFile,
}
_INDEX = ".index.json"
# What model hubs name their files; safetensors before pickles.
_HUB = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)


class Checkpoint:
    """A state dict on disk, read tensor by tensor.

    ``path`` is what the user named, a file or a folder; ``files`` hold the tensors, and ``index`` says in which of
    several they are. ``layout`` is sorted by key and known from headers alone. ``metadata`` is that of a single
    safetensors file, and otherwise empty.
    """

    def __init__(self, path: Path, shards: Sequence[_Shard], index: Path | None = None):
        self.path = path
        self.files = tuple(shard.path for shard in shards)
        self.index = index
        self.metadata: dict[str, str] = dict(shards[0].metadata) if len(shards) == 1 else {}
        self._shards = tuple(shards)
        self._homes = {key: shard for shard in shards for key in shard.layout}
        self.layout: dict[str, TensorInfo] = {key: self._homes[key].layout[key] for key in sorted(self._homes)}

    def read(self, key: str) -> Tensor:
        """Return one tensor in memory of its own; threads may read at once.

        KeyError for a key that is not in ``layout``; InputError when the file has changed since it was opened.
        """
        return self._homes[key].read(key)

    def inspect(self) -> str:
        """Return the SHA-256 of the file, or of several files' hexadecimal SHA-256 in their order.

        Takes one pass over all bytes; InputError, naming file and key, at the first NaN or Inf of a floating-point
        tensor.
        """
        digests = [shard.inspect() for shard in self._shards]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a .safetensors, .pt, .pth or .bin file, the index of several, or a folder as model hubs lay it out.

    Only headers are read, and code in pickles is never run. InputError when a file is missing, truncated or not a
    plain state dict, or when index and shards disagree.
    """
    file = _chosen(path)
    if file.name.endswith(_INDEX):
        return Checkpoint(path, _sharded(file), file)
    return Checkpoint(path, [_file(file)])


def neighbour(file: Path, read: Iterable[Path]) -> Path | None:
    """Return what ``file``, written anew, would be taken for a part of, or be read in place of.

    That is an index that names it as a shard, or, if its name is one that folders are read by, any other model in its
    folder and any file of ``read`` there.
    """
    if not file.parent.is_dir():
        return None
    indexes = sorted(file.parent.glob(f"*{_INDEX}"))
    for index in indexes:
        # What is no index names no shards.
        with suppress(InputError):
            if _folded(file.name) in {_folded(name) for name in _weight_map(index).values()}:
                return index
    if _folded(file.name) not in _HUB:
        return None
    models = [file.parent / name for name in _HUB if name != _folded(file.name)]
    beside = [path for path in read if path.parent.samefile(file.parent)]
    return next((path for path in (*indexes, *models, *beside) if path.exists()), None)


def _folded(name: str) -> str:
    """Return a name as file systems compare it that do not tell capitals from small letters."""
    return str(PurePath(name)).casefold()


def _chosen(path: Path) -> Path:
    """Return the file itself, or the one that a folder is read by."""
    try:
        if not path.is_dir():
            return path
        found = [path / name for name in _HUB if (path / name).exists()]
    except OSError as error:
        raise files.unreadable(path, error) from error
    if not found:
        raise InputError(f"{path}: the folder holds no checkpoint; put one there, named {' or '.join(_HUB)}.")
    return found[0]


def _file(path: Path) -> _Shard:
    if path.suffix.lower() not in _FORMATS:
        known = ", ".join([*_FORMATS, _INDEX])
        raise InputError(f"{path}: the name ends in none of {known}; choose another file or rename it.")
    return _FORMATS[path.suffix.lower()](path)


def _sharded(index: Path) -> list[_Shard]:
    homes = _weight_map(index)
    shards = [_file(_beside(index, name)) for name in sorted(set(homes.values()))]
    for shard in shards:
        named = {key for key, name in homes.items() if index.parent / name == shard.path}
        if lacking := sorted(named - shard.layout.keys()):
            raise InputError(f"{shard.path}: the file lacks `{lacking[0]}`, which {index} places there; {REMEDY}.")
        # Read silently or left out silently, such a tensor could be the wrong one.
        if surplus := sorted(shard.layout.keys() - named):
            raise InputError(f"{shard.path}: the file holds `{surplus[0]}`, which {index} does not; {REMEDY}.")
    return shards


def _beside(index: Path, name: str) -> Path:
    """Return the shard that an index names; InputError when name or links lead out of the folder of the index."""
    folder, shard = Path(os.path.realpath(index.parent)), index.parent / name
    with suppress(ValueError):
        found = Path(os.path.realpath(shard))
        inside = folder in found.parents or found.parent == _blobs(folder)
        if inside and not PurePath(name).is_absolute() and ".." not in PurePath(name).parts:
            return shard
    raise InputError(f"{index}: the shard {name!r} does not lie in the folder of the index; put it there.")


def _blobs(folder: Path) -> Path | None:
    """Return where the links in a folder of a hub's cache lead, which is laid out as ``snapshots/REVISION``."""
    for snapshot in (folder, *folder.parents):
        if snapshot.parent.name == "snapshots":
            return snapshot.parent.parent / "blobs"
    return None


def _weight_map(index: Path) -> dict[str, str]:
    """Return the file name of each key."""
    try:
        with files.opened(index) as file:
            found = json.loads(file.read().decode())
    except OSError as error:
        raise files.unreadable(index, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{index}: the index is not sound JSON; {REMEDY}.") from error
    match found:
        case {"weight_map": dict(homes)} if homes and all(isinstance(name, str) for name in homes.values()):
            return homes
    raise InputError(f"{index}: the index has no `weight_map` from keys to file names; {REMEDY}.")
