# SPDX-License-Identifier: MIT
"""Our own files, read back: no damage goes unnoticed.

Each is read through one handle, so that another process may put a new file in its place meanwhile.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsvlib import files
from tsvlib.checkpoints.layout import DTYPES, NOTES, Notes, TensorInfo, file_order, fingerprint, header, memory
from tsvlib.errors import InputError

REMEDY = "make it again"


class _Opened(NamedTuple):
    """A file that stands at its first tensor."""

    file: BufferedReader
    layout: dict[str, TensorInfo]
    notes: Notes


def load(path: Path, remedy: str = REMEDY) -> dict[str, Tensor]:
    """Return the tensors of a file that ``save`` wrote, after checking each of its bytes against the digest.

    InputError, ending in ``remedy``, when the file is missing, truncated or differs from what was written.
    """
    with _opened(path, remedy) as (file, layout, notes):
        state, tensors = fingerprint(layout, notes.recipe, notes.metadata), {}
        for key in file_order(layout):
            tensors[key] = torch.empty(layout[key].shape, dtype=layout[key].dtype)
            file.readinto(memory(tensors[key]))
            state.update(memory(tensors[key]))
    if state.hexdigest() != notes.digest:
        raise InputError(f"{path}: the file is damaged (its digest does not match); {remedy}.")
    return dict(sorted(tensors.items()))


def verify(path: Path, remedy: str = REMEDY) -> None:
    """Raise InputError unless the file is complete and each byte is as ``save`` wrote it."""
    load(path, remedy)


def recipe(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """Return the recipe of a file, read from its header alone; tensor bytes stay unchecked."""
    with _opened(path, remedy) as opened:
        try:
            result = json.loads(opened.notes.recipe)
        except (ValueError, TypeError, RecursionError):
            result = None
        if not isinstance(result, dict):
            raise InputError(f"{path}: its recipe is no sound JSON object; {remedy}.")
        return result


def digest(path: Path, remedy: str = REMEDY) -> str:
    """Return what ``save`` returned, read from the header alone; tensor bytes stay unchecked."""
    with _opened(path, remedy) as opened:
        return opened.notes.digest


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[_Opened]:
    """Open a file, and insist that its header is just what ``save`` would write."""
    try:
        with files.opened(path, remedy) as file:
            size, start = os.fstat(file.fileno()).st_size, file.read(8)
            length = 8 + int.from_bytes(start, "little")
            layout, notes = _parsed(path, start + file.read(max(0, min(length, size) - 8)), remedy)
            if size != length + sum(tensor.nbytes for tensor in layout.values()):
                raise InputError(f"{path}: the file is truncated or too long; {remedy}.")
            yield _Opened(file, layout, notes)
    except OSError as error:
        raise files.unreadable(path, error, remedy) from error


def _parsed(path: Path, content: bytes, remedy: str) -> tuple[dict[str, TensorInfo], Notes]:
    try:
        found = json.loads(content[8:])
        metadata = found.pop(NOTES)
        notes = Notes(metadata.pop("recipe"), metadata.pop("digest"), metadata)
        layout = {key: TensorInfo(DTYPES[item["dtype"]], tuple(item["shape"])) for key, item in found.items()}
        sizes = [size for tensor in layout.values() for size in tensor.shape]
        if content != header(layout, notes) or not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise ValueError("not what this content is written as")
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: the header is damaged or of another program; {remedy}.") from error
    return layout, notes
