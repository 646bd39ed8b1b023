# SPDX-License-Identifier: MIT
"""A file that must stay the same while it is read in pieces."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from tsvlib import files
from tsvlib.errors import InputError

REMEDY = "download or make it again"


class Inspection(NamedTuple):
    """What one look at all bytes tells: their SHA-256, and the tensors that hold NaN or Inf."""

    sha256: str
    unsound: frozenset[str]


class Source:
    """A file as it was when this object was made: its ``size`` in bytes, and the first twelve of them as ``head``.

    InputError when it cannot be read.
    """

    def __init__(self, path: Path):
        self._path = path
        self._stamp: tuple[int, ...] = ()
        with self.open() as file:
            self._stamp = _stamp(file)
            self.size = os.fstat(file.fileno()).st_size
            self.head = file.read(12)
            if self.head == b"version http":
                raise InputError(f"{path}: this is the pointer of a Git LFS file; fetch the file with `git lfs pull`.")

    @property
    def is_zip(self) -> bool:
        """Tell whether the file begins as a zip file does, which is what ``torch.save`` writes."""
        return self.head.startswith(b"PK") and not self.is_safetensors

    @property
    def is_safetensors(self) -> bool:
        """Tell whether the file begins as a safetensors file does, with the length of a JSON object and its brace."""
        return self.head[8:9] == b"{" and int.from_bytes(self.head[:8], "little") <= self.size - 8

    @contextmanager
    def open(self) -> Iterator[BufferedReader]:
        """Open the file from its begin; InputError when it cannot be read or has changed.

        Each reader has a handle of its own, so threads do not disturb each other.
        """
        try:
            with files.opened(self._path) as file:
                if self._stamp and _stamp(file) != self._stamp:
                    raise InputError(f"{self._path}: the file has changed since it was opened; run the command again.")
                yield file
        except OSError as error:
            raise files.unreadable(self._path, error) from error


def _stamp(file: BufferedReader) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
