# SPDX-License-Identifier: MIT
"""Safetensors files of any program, read tensor by tensor through plain reads.

The safetensors package reads the header and refuses what is not sound. Tensors are not mapped into memory, as it would,
so that what a process occupies does not grow with the files it has read.
"""

import hashlib
import math
from io import BufferedReader
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tsvlib.checkpoints.layout import DTYPES, TensorInfo, memory
from tsvlib.checkpoints.sources import REMEDY, Inspection, Source
from tsvlib.errors import InputError
from tsvlib.precision import is_finite
from tsvlib.selection.sources import GLIMPSE

_CHUNK = 2**22


class SafetensorsFile:
    """One safetensors file; ``layout`` is sorted by key. InputError when its header is not sound."""

    def __init__(self, path: Path):
        self.path = path
        self._source = Source(path)
        if self._source.is_zip:
            raise InputError(f"{path}: the file is one of torch.save under another name; rename it to end in .pt.")
        self.metadata, in_order = _header(path)
        self.layout = dict(sorted(in_order.items()))
        # A sound header leaves neither gaps nor overlaps.
        sizes = [tensor.nbytes for tensor in in_order.values()]
        self._start = self._source.size - sum(sizes)
        self._places = dict(zip(in_order, pairwise(accumulate(sizes, initial=self._start)), strict=True))

    @property
    def notes(self) -> tuple[str, ...]:
        """Return nothing: these files hold one model."""
        return ()

    @property
    def shared(self) -> dict[str, str]:
        """Return nothing: each tensor has bytes of its own."""
        return {}

    def read(self, key: str) -> Tensor:
        """Return one tensor in memory of its own; InputError when the file has changed since it was opened."""
        return self._read(key, self.layout[key].shape)

    def glimpse(self, key: str) -> Tensor:
        """Return the first numbers of a tensor, at most ``GLIMPSE``."""
        return self._read(key, (min(GLIMPSE, math.prod(self.layout[key].shape)),))

    def inspect(self) -> Inspection:
        """Return the SHA-256 of the file, and which of its tensors hold NaN or Inf."""
        state, chunk, unsound = hashlib.sha256(), torch.empty(_CHUNK, dtype=torch.uint8), set()
        with self._source.open() as file:
            state.update(file.read(self._start))
            for key, (start, end) in self._places.items():
                dtype = self.layout[key].dtype
                for position in range(start, end, _CHUNK):
                    part = chunk[: min(_CHUNK, end - position)]
                    self._fill(file, memory(part))
                    state.update(memory(part))
                    if dtype.is_floating_point and not is_finite(part.view(dtype)):
                        unsound.add(key)
        return Inspection(state.hexdigest(), frozenset(unsound))

    def _read(self, key: str, shape: tuple[int, ...]) -> Tensor:
        tensor = torch.empty(shape, dtype=self.layout[key].dtype)
        with self._source.open() as file:
            file.seek(self._places[key][0])
            self._fill(file, memory(tensor))
        return tensor

    def _fill(self, file: BufferedReader, view: memoryview) -> None:
        if file.readinto(view) < len(view):
            raise InputError(f"{self.path}: the file is truncated; {REMEDY}.")


def _header(path: Path) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    """Return the metadata, and what the header tells of each tensor in the order of the file."""
    try:
        # For NumPy the file is mapped once, for PyTorch twice, which counts where the address space is limited.
        with safe_open(path, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.offset_keys()}
            found = {key: (part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()}
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise InputError(f"{path}: the file is no complete and sound safetensors file ({reason}); {REMEDY}.") from error
    for key, (dtype, _) in found.items():
        if dtype not in DTYPES:
            raise InputError(f"{path}: `{key}` has the unknown type {dtype}; convert it to {', '.join(DTYPES)}.")
    return metadata, {key: TensorInfo(DTYPES[dtype], shape) for key, (dtype, shape) in found.items()}
