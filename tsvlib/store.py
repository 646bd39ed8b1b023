# SPDX-License-Identifier: MIT
"""Decompositions of task matrices on disk, so that each is made once for all ranks, suites and methods.

An entry is one file, named after everything that its content depends on. It appears complete or not at all and
carries a digest, so processes may share a folder without locks: what is missing or damaged is made again, and
removing an entry at any moment costs time, never correctness.
"""

import builtins
import logging
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib import checkpoints, linalg
from tsvlib.checkpoints.layout import fingerprint, info, memory
from tsvlib.errors import InputError
from tsvlib.linalg import Factors

_LOG = logging.getLogger(__name__)
_SUFFIX = ".safetensors"
_REMEDY = "its matrix is decomposed again"
_ENTRY = re.compile(rf"[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
# What a killed writer leaves beside an entry, see files.replacing.
_LEFTOVER = re.compile(rf"\.{_ENTRY.pattern}\.[0-9a-f]+\.part")


class Entry(NamedTuple):
    """The factors of one matrix in the store."""

    name: str
    bytes: int
    """Size of the file."""
    shape: tuple[int, int]
    """Rows and columns of the matrix."""
    rank: int
    """Number of singular components that are stored."""
    last_use: datetime
    """When they were last asked for, in UTC."""


class _File(NamedTuple):
    # In the order of use, as such tuples sort.
    last_use: int
    name: str
    bytes: int


class Spectra:
    """A folder of factors by the content of their matrix, for any number of threads and processes at once.

    Results have the bits that ``linalg.leading`` gives: an entry serves the number of components that it was made for.
    With ``whole``, every matrix is decomposed into all its components, and the first of these serve any number: for
    work that asks for many. When the files exceed ``limit`` bytes, those
    that have not been used for longest go. A folder that cannot be written is told once, by a log line, and only
    costs time.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     store = Spectra(Path(folder), whole=True)
    ...     twice = [store.factors(torch.diag(torch.tensor([3.0, 2.0])), k) for k in (1, 2)]
    ...     [entry.rank for entry in store.list()], [factors.s.tolist() for factors in twice]
    ([2], [[3.0], [3.0, 2.0]])
    """

    def __init__(self, folder: Path, limit: int = 50 * 2**30, *, whole: bool = False):
        self.folder = folder
        self.whole = whole
        self.limit = limit
        self._storing = True
        self._lock = Lock()

    def factors(self, delta: Float[Tensor, "rows columns"], k: int) -> Factors:
        """Return the k leading singular components of a matrix, or all of them when there are fewer.

        They come from the store, or from ``linalg.leading`` into the store. Either way the result has the same bits, on
        the device of ``delta``, in memory of its own.

        Raises:
            InputError: k is less than one.
        """
        made = min(delta.shape) if self.whole else min(k, *delta.shape)
        name = _name(delta, made)
        found = self._get(name)
        if found is None:
            found = linalg.leading(delta, made)
            self._put(name, found)
        else:
            _touch(self._path(name))
        # Copies, since slices would keep all components in memory; of one layout in memory, since what is computed
        # with them may depend on it in the last bit.
        own = (part.to(delta.device).clone(memory_format=torch.contiguous_format) for part in linalg.truncate(found, k))
        return Factors(*own)

    def list(self) -> builtins.list[Entry]:
        """Return all entries whose header is sound, the least recently used first; contents stay unchecked."""
        entries = []
        for file in self._files():
            with suppress(InputError, KeyError, ValueError):
                layout = checkpoints.open_checkpoint(self.folder / file.name).layout
                (rows, rank), (_, columns) = layout["u"].shape, layout["vh"].shape
                last_use = datetime.fromtimestamp(file.last_use / 1e9, UTC)
                entries.append(Entry(file.name.removesuffix(_SUFFIX), file.bytes, (rows, columns), rank, last_use))
        return entries

    def clear(self) -> int:
        """Remove all entries and what killed processes left of some, and return how many bytes that freed.

        Other files in the folder stay. Processes that use the store at that moment go on undisturbed.
        """
        return sum(file.bytes for file in self._files() if _removed(self.folder / file.name))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    def _get(self, name: str) -> Factors | None:
        """Return the factors of an intact entry, on the CPU."""
        path = self._path(name)
        try:
            tensors = checkpoints.load(path, _REMEDY)
            if checkpoints.recipe(path, _REMEDY) != _recipe(name):
                raise InputError(f"{path}: the file belongs to something else; {_REMEDY}.")
        except InputError as error:
            # A missing entry is nothing to tell; a folder that cannot be used is told once, by ``_put``.
            if not isinstance(error.__cause__, OSError):
                _LOG.warning("%s", error)
            return None
        return Factors(**tensors)

    def _put(self, name: str, factors: Factors) -> None:
        """Store factors if the folder allows it, and make room."""
        if not self._storing:
            return
        path = self._path(name)
        try:
            # Whoever reads an entry verifies it, so nobody has to wait for the disk.
            checkpoints.save(path, factors._asdict(), _recipe(name), durable=False)
        except InputError as error:
            # Somebody cleared the folder under our hands; the next entry will make it again.
            if not isinstance(error.__cause__, FileNotFoundError):
                self._stop_storing(error)
            return
        _touch(path)
        self._shrink(path)

    def _stop_storing(self, error: InputError) -> None:
        # Trying again with every matrix would fill a full disk to the brim again and again, to others' harm.
        with self._lock:
            first, self._storing = self._storing, False
        if first:
            _LOG.warning("%s The computation goes on without keeping decompositions.", error)

    def _shrink(self, keep: Path) -> None:
        """Remove the least recently used files but ``keep`` until all together are within the limit."""
        found = self._files()
        surplus = sum(file.bytes for file in found) - self.limit
        for file in found:
            if surplus <= 0:
                break
            path = self.folder / file.name
            # Another process may make room at the same time; its work counts too, or both remove twice as much.
            if path != keep and (_removed(path) or not path.exists()):
                surplus -= file.bytes

    def _files(self) -> builtins.list[_File]:
        """Return entries and leftovers, the least recently used first; nothing if the folder cannot be read."""
        found = []
        with suppress(OSError), os.scandir(self.folder) as items:
            for item in items:
                if _ENTRY.fullmatch(item.name) or _LEFTOVER.fullmatch(item.name):
                    # Another process may have removed it since.
                    with suppress(FileNotFoundError):
                        status = item.stat()
                        found.append(_File(status.st_mtime_ns, item.name, status.st_size))
        return sorted(found)


def _name(delta: Tensor, k: int) -> str:
    """Return the SHA-256 of all that factors depend on: matrix, type, number, kind of device and way of decomposing."""
    state = fingerprint({"delta": info(delta)}, f"{linalg.SOLVER} {delta.device.type} {k}", {})
    state.update(memory(delta))
    return state.hexdigest()


def _recipe(name: str) -> dict[str, object]:
    """Return what tells an entry from any other intact file, such as one that was renamed."""
    return {"spectrum": name}


def _touch(path: Path) -> None:
    """Mark a file as used now, unless it is gone or the disk is read-only."""
    # The kernel's own time stamps are milliseconds apart and would leave the order of quick uses open.
    now = time.time_ns()
    with suppress(OSError):
        os.utime(path, ns=(now, now))


def _removed(path: Path) -> bool:
    """Remove a file and tell whether this did it."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
