# SPDX-License-Identifier: MIT
"""Safetensors files of any program, read tensor by tensor through plain reads.

Nothing is mapped into memory, so that what a process occupies does not grow with the files it has read. The header
must be as the format demands: sound JSON, no name twice, and tensors that fill the file without gap or overlap.
Source of the format: the README of the safetensors package.
"""

import hashlib
import json
import math
from functools import partial
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsvlib.checkpoints.layout import DTYPES, NOTES, TensorInfo, memory
from tsvlib.checkpoints.sources import REMEDY, Source
from tsvlib.errors import InputError

# Both limits are the safetensors package's own: longest header, and sizes that fit a machine word.
_LONGEST_HEADER = 100_000_000
_LARGEST_SIZE = 2**63
_CHUNK = 2**22


class _Place(NamedTuple):
    start: int
    end: int


class SafetensorsFile:
    """One safetensors file; ``layout`` is sorted by key. InputError when the header is not sound."""

    def __init__(self, path: Path):
        self.path = path
        self._source = Source(path)
        if self._source.is_zip:
            raise InputError(f"{path}: the file is one of torch.save under another name; rename it to end in .pt.")
        with self._source.open() as file:
            header, size = _header(path, file, self._source.size)
        self._start = self._source.size - size
        self.metadata = _metadata(path, header.pop(NOTES, None))
        entries = {key: _entry(path, key, item) for key, item in sorted(header.items())}
        self.layout = {key: tensor for key, (tensor, _) in entries.items()}
        self._places = dict(sorted(((key, place) for key, (_, place) in entries.items()), key=lambda item: item[1]))
        _check_places(path, self._places, size)

    def read(self, key: str) -> Tensor:
        """Return one tensor in memory of its own; InputError when the file has changed since it was opened."""
        tensor = torch.empty(self.layout[key].shape, dtype=self.layout[key].dtype)
        with self._source.open() as file:
            file.seek(self._start + self._places[key].start)
            self._fill(file, memory(tensor))
        return tensor

    def inspect(self) -> str:
        """Return the SHA-256 of the file; InputError at the first tensor that holds NaN or Inf."""
        state, chunk = hashlib.sha256(), torch.empty(_CHUNK, dtype=torch.uint8)
        with self._source.open() as file:
            state.update(file.read(self._start))
            for key, (start, end) in self._places.items():
                for position in range(start, end, _CHUNK):
                    part = chunk[: min(_CHUNK, end - position)]
                    self._fill(file, memory(part))
                    state.update(memory(part))
                    self._source.check_finite(key, part.view(self.layout[key].dtype))
        return state.hexdigest()

    def _fill(self, file: BufferedReader, view: memoryview) -> None:
        if file.readinto(view) < len(view):
            raise InputError(f"{self.path}: the file is truncated; {REMEDY}.")


def _header(path: Path, file: BufferedReader, size: int) -> tuple[dict[str, Any], int]:
    """Return the header as JSON has it and how many bytes follow it."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise InputError(f"{path}: the file is truncated or not a safetensors file; {REMEDY}.")
    try:
        found = json.loads(file.read(length).decode(), object_pairs_hook=partial(_unique, path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the header is not sound JSON; {REMEDY}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: the header is not a JSON object; {REMEDY}.")
    return found, size - 8 - length


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for (key, _), (following, _) in pairwise(sorted(pairs, key=lambda pair: pair[0])):
        if key == following:
            raise InputError(f"{path}: the header names `{key}` twice; {REMEDY}.")
    found = dict(pairs)
    "".join(found).encode()  # ValueError for names that JSON can escape but no text can hold
    return found


def _metadata(path: Path, found: object) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InputError(f"{path}: the metadata in the header are not texts by name; {REMEDY}.")
    return found


def _entry(path: Path, key: str, item: object) -> tuple[TensorInfo, _Place]:
    match item:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, end]} if _sizes([*shape, start, end]):
            if dtype not in DTYPES:
                raise InputError(f"{path}: `{key}` has the unknown type {dtype}; convert it to {', '.join(DTYPES)}.")
            tensor = TensorInfo(DTYPES[dtype], tuple(shape))
            # The second condition is for tensors without elements, whose other sides could be beyond all numbers.
            if tensor.nbytes == end - start and math.prod(n or 1 for n in shape) < _LARGEST_SIZE:
                return tensor, _Place(start, end)
            raise InputError(f"{path}: shape and offsets of `{key}` do not fit; {REMEDY}.")
    raise InputError(f"{path}: the header lacks a sound type, shape or place of `{key}`; {REMEDY}.")


def _sizes(numbers: list[object]) -> bool:
    # Not by isinstance, because True is an instance of int.
    return all(type(n) is int and n >= 0 for n in numbers)


def _check_places(path: Path, places: dict[str, _Place], size: int) -> None:
    """Raise InputError unless the tensors, in the order of their places, fill ``size`` bytes."""
    position = 0
    for key, (start, end) in places.items():
        if start != position:
            trouble = "overlaps" if start < position else "leaves a gap to"
            raise InputError(f"{path}: `{key}` {trouble} the tensor before it; {REMEDY}.")
        if end > size:
            raise InputError(f"{path}: the file is truncated (`{key}` is not complete); {REMEDY}.")
        position = end
    if position < size:
        raise InputError(f"{path}: the file is {size - position} bytes longer than its header says; {REMEDY}.")
