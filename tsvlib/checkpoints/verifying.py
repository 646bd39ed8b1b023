# SPDX-License-Identifier: MIT
"""Our own files, read back: no damage goes unnoticed."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsvlib import files
from tsvlib.checkpoints.layout import DTYPES, NOTES, Notes, TensorInfo, file_order, fingerprint, header
from tsvlib.errors import InputError

REMEDY = "delete it and make it again"


class _Header(NamedTuple):
    layout: dict[str, TensorInfo]
    notes: Notes
    length: int


def load(path: Path, remedy: str = REMEDY) -> dict[str, Tensor]:
    """Return the tensors of a file that ``save`` wrote, after checking each of its bytes against the digest.

    InputError, ending in ``remedy``, when the file is missing, truncated or differs from what was written.
    """
    data = _content(path, remedy)
    found = _parsed(path, memoryview(data), len(data), remedy)
    state = fingerprint(found.layout, found.notes.recipe, found.notes.metadata)
    state.update(memoryview(data)[found.length :])
    if state.hexdigest() != found.notes.digest:
        raise InputError(f"{path}: the file is damaged (its digest does not match); {remedy}.")
    return _tensors(found, data)


def verify(path: Path, remedy: str = REMEDY) -> None:
    """Raise InputError unless the file is complete and each byte is as ``save`` wrote it."""
    load(path, remedy)


def recipe(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """Return the recipe of a file, read from its header alone; tensor bytes stay unchecked."""
    result: dict[str, Any] = json.loads(_header(path, remedy).notes.recipe)
    return result


def digest(path: Path, remedy: str = REMEDY) -> str:
    """Return what ``save`` returned, read from the header alone; tensor bytes stay unchecked."""
    return _header(path, remedy).notes.digest


def _header(path: Path, remedy: str) -> _Header:
    try:
        with files.opened(path, remedy) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            file.seek(0)
            return _parsed(path, memoryview(file.read(min(8 + length, size))), size, remedy)
    except OSError as error:
        raise files.unreadable(path, error, remedy) from error


def _content(path: Path, remedy: str) -> bytearray:
    try:
        with files.opened(path, remedy) as file:
            data = bytearray(os.fstat(file.fileno()).st_size)
            del data[file.readinto(data) :]
            return data
    except OSError as error:
        raise files.unreadable(path, error, remedy) from error


def _parsed(path: Path, view: memoryview, file_size: int, remedy: str) -> _Header:
    """Read the header that ``view`` starts with, and insist that it is just what ``save`` would write."""
    length = 8 + int.from_bytes(view[:8], "little")
    if file_size < length:
        raise InputError(f"{path}: the file is truncated or not a checkpoint; {remedy}.")
    try:
        found = json.loads(bytes(view[8:length]))
        metadata = found.pop(NOTES)
        notes = Notes(metadata.pop("recipe"), metadata.pop("digest"), metadata)
        layout = {key: TensorInfo(DTYPES[item["dtype"]], tuple(item["shape"])) for key, item in found.items()}
        if view[:length] != header(layout, notes):
            raise ValueError("not what this content is written as")
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: the header is damaged or of another program; {remedy}.") from error
    if file_size != length + sum(tensor.nbytes for tensor in layout.values()):
        raise InputError(f"{path}: the file is truncated or too long; {remedy}.")
    return _Header(layout, notes, length)


def _tensors(found: _Header, data: bytearray) -> dict[str, Tensor]:
    whole = torch.frombuffer(data, dtype=torch.uint8)
    tensors, start = {}, found.length
    for key in file_order(found.layout):
        tensor = found.layout[key]
        # A copy in torch's own memory: results of CPU kernels may depend on how a tensor is aligned.
        content = whole[start : start + tensor.nbytes].clone()
        tensors[key] = content.view(tensor.dtype).reshape(tensor.shape)
        start += tensor.nbytes
    return dict(sorted(tensors.items()))
