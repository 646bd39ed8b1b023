# SPDX-License-Identifier: MIT
"""Whole modules as ``torch.save`` pickled them: their tensors are read, and nothing that a pickle names is run.

Task Arithmetic published its checkpoints in this form. A pickle is a program that may import and call anything, so
``inert`` decides what its names stand for. The numbers lie beside it, uncompressed, and are read when asked for.
"""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from compendium.worlds.clip import inert
from compendium.worlds.clip.inert import Record, View
from tsvlib.checkpoints.layout import TensorInfo, memory
from tsvlib.checkpoints.sources import Source
from tsvlib.errors import InputError

LARGEST_PICKLE = 2**22
"""Bytes, some twenty times as many as of the largest encoder."""

MOST_PARTS = 10_000
"""Modules and tensors; the largest encoder has some hundred of each."""

LONGEST_NAME = 1000

CHUNK = 2**22

DAMAGED = "no readable module of torch.save, perhaps because it is damaged; download it again"


class Module:
    """A pickled module, read tensor by tensor; ``layout`` has the names that its state dict would have, sorted.

    InputError when the file is missing, damaged, older than the zip format of PyTorch 1.6, or holds no module.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source = Source(path)
        if not self._source.is_zip:
            older = "load it where you trust it and save it anew with a later torch.save"
            raise InputError(f"{path}: the file is no zip file of PyTorch 1.6 or later; download it again, or {older}.")
        with self._opened() as archive:
            self._root = _root(path, archive)
            self._views = dict(sorted(_views(path, _unpickled(path, archive, self._root))))
            self._check(archive)
        if not self._views:
            raise InputError(f"{path}: the pickle holds no module with parameters; choose another file.")
        self.layout = {key: TensorInfo(view.storage.dtype, view.size) for key, view in self._views.items()}

    def read(self, key: str) -> Tensor:
        """Return one tensor in memory of its own.

        KeyError for a name that is not in ``layout``; InputError when the file is damaged or has changed meanwhile.
        """
        view = self._views[key]
        numbers = torch.empty(view.storage.length, dtype=view.storage.dtype)
        with self._opened() as archive:
            _fill(self.path, archive, self._place(view), memory(numbers))
        shown = torch.as_strided(numbers, view.size, view.stride, view.offset)
        return shown.clone(memory_format=torch.contiguous_format)

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        with self._source.open() as file:
            try:
                archive = zipfile.ZipFile(file)
            except Exception as error:  # damaged files raise whatever their bytes happen to mean
                raise InputError(f"{self.path}: {DAMAGED}.") from error
            with archive:
                yield archive

    def _check(self, archive: zipfile.ZipFile) -> None:
        """Raise InputError when a tensor leaves its storage, or the file holds another number of numbers."""
        for key, view in self._views.items():
            wrong = inert.fault(view)
            if not wrong and not _is_stored(
                archive, self._place(view), view.storage.length * view.storage.dtype.itemsize
            ):
                wrong = "its numbers are not beside the pickle, or not as many as that says"
            if wrong:
                raise InputError(f"{self.path}: `{key}` is damaged: {wrong}; download the file again.")

    def _place(self, view: View) -> str:
        return f"{self._root}data/{view.storage.key}"


def _root(path: Path, archive: zipfile.ZipFile) -> str:
    """Return the folder of everything in the archive; InputError when there is none, or numbers in another order."""
    found = {name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")}
    if len(found) != 1:
        raise InputError(f"{path}: {DAMAGED}.")
    root = found.pop()
    if f"{root}byteorder" in archive.namelist() and _content(path, archive, f"{root}byteorder", 16) != b"little":
        raise InputError(f"{path}: the numbers are not in little-endian order; save it anew on a common machine.")
    return root


def _unpickled(path: Path, archive: zipfile.ZipFile, root: str) -> object:
    pickled = _content(path, archive, f"{root}data.pkl", LARGEST_PICKLE)
    try:
        return inert.load(pickled)
    except Exception as error:  # as above
        raise InputError(f"{path}: {DAMAGED}.") from error


def _content(path: Path, archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > most or not _is_stored(archive, name, size):
        raise InputError(f"{path}: {name} is larger or packed more tightly than torch.save would; download it again.")
    content = bytearray(size)
    _fill(path, archive, name, memoryview(content))
    return bytes(content)


def _is_stored(archive: zipfile.ZipFile, name: str, size: int) -> bool:
    """Tell whether a part of the archive has that size and is not packed, so that no small file becomes a large one."""
    try:
        part = archive.getinfo(name)
    except KeyError:
        return False
    return part.compress_type == zipfile.ZIP_STORED and part.file_size == part.compress_size == size


def _fill(path: Path, archive: zipfile.ZipFile, name: str, view: memoryview) -> None:
    """Read a part of the archive, whose checksum is compared at its end."""
    filled = 0
    try:
        with archive.open(name) as part:
            while chunk := part.read(min(CHUNK, len(view) - filled)):
                view[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
    except Exception as error:  # as above
        raise InputError(f"{path}: {DAMAGED}.") from error
    if filled != len(view):
        raise InputError(f"{path}: {DAMAGED}.")


def _views(path: Path, module: object) -> Iterator[tuple[str, View]]:
    """Yield the parameters and lasting buffers of a module and of all inside of it."""
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, current = waiting.pop()
        held = vars(current) if isinstance(current, Record) else {}
        tensors = (*_named(held, "_parameters"), *_named(held, "_buffers"))
        inside = _named(held, "_modules")
        seen += len(tensors) + len(inside)
        # A pickle can hold a module inside of itself.
        if seen > MOST_PARTS or len(prefix) > LONGEST_NAME:
            raise InputError(f"{path}: the pickle holds more modules than any encoder; choose another file.")
        passing = held.get("_non_persistent_buffers_set")
        for name, value in tensors:
            if isinstance(value, View) and not (isinstance(passing, set) and name in passing):
                yield f"{prefix}{name}", value
        waiting += [(f"{prefix}{name}.", inner) for name, inner in inside]


def _named(held: Mapping[str, object], kind: str) -> list[tuple[str, object]]:
    found = held.get(kind)
    return [(name, value) for name, value in found.items() if isinstance(name, str)] if isinstance(found, dict) else []
