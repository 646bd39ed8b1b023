# SPDX-License-Identifier: MIT
"""State dicts on disk: safetensors files that carry their recipe and a digest of everything in them.

The same tensors and recipe always give the same bytes. The header is a function of the content, so that
one changed byte anywhere, padding included, is noticed.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsvlib import files
from tsvlib.errors import InputError

REMEDY = "delete it and make it again"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class _Entry(NamedTuple):
    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


class _Header(NamedTuple):
    entries: tuple[_Entry, ...]
    recipe: str
    digest: str
    length: int


def save(path: Path, tensors: Mapping[str, Tensor], recipe: Mapping[str, object]) -> str:
    """Write tensors and the recipe that made them, and return the digest of both.

    ``recipe`` holds what JSON can hold. The file appears complete or not at all; InputError when it cannot be
    written.
    """
    entries, text = _entries(tensors), _canonical(recipe)
    digest = _digest(entries, text, (_bytes(tensors[entry.key]) for entry in entries))
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_header_bytes(entries, text, digest))
        for entry in entries:
            file.write(_bytes(tensors[entry.key]))
    return digest


def load(path: Path, remedy: str = REMEDY) -> dict[str, Tensor]:
    """Return the tensors of a file that ``save`` wrote, after checking each of its bytes against the digest.

    InputError, ending in ``remedy``, when the file is missing, truncated or differs from what was written.
    """
    data = _content(path, remedy)
    header = _parsed(path, memoryview(data), len(data), remedy)
    if _digest(header.entries, header.recipe, [memoryview(data)[header.length :]]) != header.digest:
        raise InputError(f"{path}: the file is damaged (its digest does not match); {remedy}.")
    return _tensors(header, data)


def verify(path: Path, remedy: str = REMEDY) -> None:
    """Raise InputError unless the file is complete and each byte is as ``save`` wrote it."""
    load(path, remedy)


def recipe(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """Return the recipe of a file, read from its header alone; tensor bytes stay unchecked."""
    result: dict[str, Any] = json.loads(_header(path, remedy).recipe)
    return result


def digest(path: Path, remedy: str = REMEDY) -> str:
    """Return what ``save`` returned, read from the header alone; tensor bytes stay unchecked."""
    return _header(path, remedy).digest


def state_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bytes of a state dict in any key order."""
    entries = _entries(tensors)
    return _digest(entries, "", (_bytes(tensors[entry.key]) for entry in entries))


def _entries(tensors: Mapping[str, Tensor]) -> tuple[_Entry, ...]:
    for key, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise InputError(f"`{key}`: checkpoints cannot hold type {tensor.dtype}; convert the tensor first.")
    return _ordered(_Entry(key, _NAMES[tensor.dtype], tuple(tensor.shape)) for key, tensor in tensors.items())


def _ordered(entries: Iterable[_Entry]) -> tuple[_Entry, ...]:
    # Wide types first: other safetensors readers need each tensor aligned to its own item size.
    return tuple(sorted(entries, key=lambda entry: (-_DTYPES[entry.dtype].itemsize, entry.key)))


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(entries: tuple[_Entry, ...], recipe_text: str, content: Iterable[memoryview]) -> str:
    state = hashlib.sha256(_canonical([entries, recipe_text]).encode())
    for chunk in content:
        state.update(chunk)
    return state.hexdigest()


def _header_bytes(entries: tuple[_Entry, ...], recipe_text: str, hexdigest: str) -> bytes:
    header: dict[str, object] = {"__metadata__": {"digest": hexdigest, "recipe": recipe_text}}
    start = 0
    for entry in entries:
        end = start + entry.size
        header[entry.key] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [start, end]}
        start = end
    text = _canonical(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _header(path: Path, remedy: str) -> _Header:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            file.seek(0)
            return _parsed(path, memoryview(file.read(min(8 + length, size))), size, remedy)
    except OSError as error:
        raise files.unreadable(path, error, remedy) from error


def _content(path: Path, remedy: str) -> bytearray:
    try:
        with path.open("rb") as file:
            data = bytearray(os.fstat(file.fileno()).st_size)
            del data[file.readinto(data) :]
            return data
    except OSError as error:
        raise files.unreadable(path, error, remedy) from error


def _parsed(path: Path, view: memoryview, file_size: int, remedy: str) -> _Header:
    """Read the header that ``view`` starts with, and insist that it is just what ``save`` would write."""
    length = 8 + int.from_bytes(view[:8], "little")
    if file_size < max(length, 10):
        raise InputError(f"{path}: the file is truncated or not a checkpoint; {remedy}.")
    try:
        found = json.loads(bytes(view[8:length]))
        metadata = found.pop("__metadata__")
        entries = _ordered(_Entry(key, item["dtype"], tuple(item["shape"])) for key, item in found.items())
        if view[:length] != _header_bytes(entries, metadata["recipe"], metadata["digest"]):
            raise ValueError("not what this content is written as")
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: the header is damaged or of another program; {remedy}.") from error
    if file_size != length + sum(entry.size for entry in entries):
        raise InputError(f"{path}: the file is truncated or too long; {remedy}.")
    return _Header(entries, metadata["recipe"], metadata["digest"], length)


def _tensors(header: _Header, data: bytearray) -> dict[str, Tensor]:
    whole = torch.frombuffer(data, dtype=torch.uint8)
    tensors, start = {}, header.length
    for entry in header.entries:
        # A copy in torch's own memory: results of CPU kernels may depend on how a tensor is aligned.
        content = whole[start : start + entry.size].clone()
        tensors[entry.key] = content.view(_DTYPES[entry.dtype]).reshape(entry.shape)
        start += entry.size
    return dict(sorted(tensors.items()))
