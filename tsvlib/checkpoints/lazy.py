# SPDX-License-Identifier: MIT
"""Checkpoints of any program, known from their headers and read tensor by tensor."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePath

from torch import Tensor

from tsvlib import files
from tsvlib.checkpoints import choosing, downloads, hub
from tsvlib.checkpoints.layout import TensorInfo
from tsvlib.checkpoints.safetensorsfiles import SafetensorsFile
from tsvlib.checkpoints.sources import REMEDY, Inspection
from tsvlib.checkpoints.torchfiles import TorchFile
from tsvlib.errors import InputError

_Shard = SafetensorsFile | TorchFile
_FORMATS: dict[str, type[_Shard]] = dict.fromkeys(choosing.FORMATS, TorchFile) | {".safetensors": SafetensorsFile}
ADAPTER = "adapter_config.json"
"""The file that makes a folder one of an adapter."""

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
"""The files that have the tensors of an adapter."""


class Checkpoint:
    """A state dict on disk, read tensor by tensor.

    ``path`` is what the user named, a file or a folder; ``files`` hold the tensors, and ``index`` says in which of
    several they are; ``nbytes`` is the size of all files. ``layout`` is sorted by key and known from headers alone.
    ``notes`` are sentences about what was chosen of several things.
    """

    def __init__(self, path: Path, shards: Sequence[_Shard], index: Path | None = None, note: str = ""):
        self.path = path
        self.files = tuple(shard.path for shard in shards)
        self.index = index
        self.nbytes = sum(shard.path.stat().st_size for shard in shards)
        self.notes = tuple(text for text in (note, *(text for shard in shards for text in shard.notes)) if text)
        self._shards = tuple(shards)
        self._homes = {key: shard for shard in shards for key in shard.layout}
        self.layout: dict[str, TensorInfo] = {key: self._homes[key].layout[key] for key in sorted(self._homes)}

    @property
    def name(self) -> str:
        """Return what it is called, without the folders that it lies in: as on the hub if it lies in a hub's cache."""
        place = Path(os.path.abspath(self.path))  # noqa: PTH100  (links keep their names)
        return hub.repository(place) or place.name

    @property
    def metadata(self) -> dict[str, str]:
        """Return what the headers of all its safetensors files say alike."""
        first, *others = (shard.metadata for shard in self._shards)
        return {name: text for name, text in first.items() if all(text == each.get(name) for each in others)}

    def home(self, key: str) -> tuple[Path, dict[str, str]]:
        """Return the file that holds a tensor, and the metadata in its header."""
        return self._homes[key].path, dict(self._homes[key].metadata)

    @property
    def owner(self) -> str:
        """Return what sentences call it."""
        return str(self.path)

    @property
    def label(self) -> str:
        """Return how sentences about it begin."""
        return f"{self.path}: the checkpoint"

    @cached_property
    def shared(self) -> Mapping[str, str]:
        """Return, for tensors that are the same memory as others, the first name of these."""
        return {key: first for shard in self._shards for key, first in shard.shared.items()}

    def read(self, key: str) -> Tensor:
        """Return one tensor in memory of its own; threads may read at once.

        KeyError for a key that is not in ``layout``; InputError when the file has changed since it was opened.
        """
        return self._homes[key].read(key)

    def glimpse(self, key: str) -> Tensor:
        """Return the first numbers of a tensor."""
        return self._homes[key].glimpse(key)

    def inspect(self) -> Inspection:
        """Return the SHA-256 of the file, or of several files' hexadecimal SHA-256 in their order.

        Takes one pass over all bytes, which tells as well which tensors hold NaN or Inf.
        """
        found = [shard.inspect() for shard in self._shards]
        unsound = frozenset().union(*(each.unsound for each in found))
        return Inspection(combined([each.sha256 for each in found]), unsound)


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a .safetensors, .pt, .pth, .bin or .ckpt file, the index of several, or a folder as model hubs lay it out.

    A model on the hub is named ``hf://OWNER/NAME``, see ``downloads``; one in the hub's cache by its folder there.
    Only headers are read, and code in pickles is never run. InputError when a file is missing, truncated or not a
    plain state dict, or when index and shards disagree.
    """
    place = located(path)
    file, note = _chosen(place)
    if choosing.is_index(file.name):
        return Checkpoint(place, _sharded(file), file, note)
    return Checkpoint(place, [_file(file)], note=note)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that hold the tensors of a checkpoint, of which none is opened; InputError as above."""
    file, _ = _chosen(located(path))
    if not choosing.is_index(file.name):
        return (file,)
    return tuple(_beside(file, name) for name in sorted(set(_weight_map(file).values())))


def is_named_so(name: str) -> bool:
    """Tell whether a file has the name of a checkpoint or of an index."""
    return choosing.is_index(name) or PurePath(name).suffix.lower() in _FORMATS


def combined(digests: Sequence[str]) -> str:
    """Return the SHA-256 of several files from that of each, in their order, or that of one file itself."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def located(path: Path) -> Path:
    """Return where a path leads: to a snapshot, where it names a model of the hub or is one's folder in the cache.

    InputError where that cannot be had.
    """
    if model := downloads.named(path):
        return downloads.fetched(model, (*choosing.HUB, *ADAPTERS), lambda index: _weight_map(index).values())
    try:
        return hub.snapshot(path) or path
    except OSError as error:
        raise files.unreadable(path, error) from error


def is_adapter(path: Path) -> bool:
    """Tell whether a path is a folder of an adapter, with no model beside it; InputError when it cannot be read."""
    try:
        return path.is_dir() and (path / ADAPTER).exists() and not any(choosing.beside(path))
    except OSError as error:
        raise files.unreadable(path, error) from error


def neighbour(file: Path, read: Iterable[Path]) -> Path | None:
    """Return what ``file``, written anew, would be taken for a part of, or be read in place of.

    That is an index that names it as a shard, or, if its name is one that folders are read by, any other model in its
    folder and any file of ``read`` there.
    """
    if not file.parent.is_dir():
        return None
    indexes = choosing.indexes(file.parent)
    for index in indexes:
        # What is no index names no shards.
        with suppress(InputError):
            if _folded(file.name) in {_folded(name) for name in _weight_map(index).values()}:
                return index
    if not choosing.is_read_by(_folded(file.name)):
        return None
    models = [path for path in choosing.beside(file.parent) if _folded(path.name) != _folded(file.name)]
    beside = [path for path in read if path.parent.samefile(file.parent)]
    return next((path for path in (*indexes, *models, *beside) if path.exists()), None)


def _folded(name: str) -> str:
    """Return a name as file systems compare it that do not tell capitals from small letters."""
    return str(PurePath(name)).casefold()


def _chosen(path: Path) -> tuple[Path, str]:
    """Return the file itself, or the one that a folder is read by and what is to be known of it."""
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise files.unreadable(path, error) from error
    if is_adapter(path):
        raise InputError(
            f"{path}: the folder holds an adapter, which changes a model and is none; name it as an expert."
        )
    return choosing.chosen(path) if is_folder else (path, "")


def _file(path: Path) -> _Shard:
    if path.suffix.lower() not in _FORMATS:
        known = ", ".join([*_FORMATS, choosing.INDEX])
        raise InputError(f"{path}: the name ends in none of {known}; choose another file or rename it.")
    return _FORMATS[path.suffix.lower()](path)


def _sharded(index: Path) -> list[_Shard]:
    homes = _weight_map(index)
    shards = [_file(shard) for shard in files_of(index)]
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
    shard = index.parent / name
    if hub.holds(index.parent, shard) and not PurePath(name).is_absolute() and ".." not in PurePath(name).parts:
        return shard
    raise InputError(f"{index}: the shard {name!r} does not lie in the folder of the index; put it there.")


def _weight_map(index: Path) -> dict[str, str]:
    """Return the file name of each key."""
    try:
        with files.opened(index) as file:
            found = json.loads(file.read().decode("utf-8-sig"))
    except OSError as error:
        raise files.unreadable(index, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{index}: the index is not sound JSON; {REMEDY}.") from error
    match found:
        case {"weight_map": dict(homes)} if homes and all(isinstance(name, str) for name in homes.values()):
            return homes
    raise InputError(f"{index}: the index has no `weight_map` from keys to file names; {REMEDY}.")
