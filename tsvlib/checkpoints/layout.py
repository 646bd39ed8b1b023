# SPDX-License-Identifier: MIT
"""What a header tells of the tensors behind it, and the one header that our own files have.

That header is a function of the content, so the same content always gives the same bytes, and one changed byte
in it, padding included, is noticed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsvlib.errors import InputError

DTYPES = {
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
NAMES = {dtype: name for name, dtype in DTYPES.items()}
NOTES = "__metadata__"


class TensorInfo(NamedTuple):
    """What a header tells of one tensor.

    >>> TensorInfo(torch.bfloat16, (2, 3)).nbytes
    12
    """

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Return the size of the tensor in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Notes(NamedTuple):
    """What our own files say beside their tensors; ``metadata`` is for other programs."""

    recipe: str
    digest: str
    metadata: Mapping[str, str]


def info(tensor: Tensor) -> TensorInfo:
    """Return what a header would tell of a tensor."""
    return TensorInfo(tensor.dtype, tuple(tensor.shape))


def memory(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor in the order of a file: its own memory, or a copy where that lies otherwise."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def file_order(layout: Mapping[str, TensorInfo]) -> tuple[str, ...]:
    """Return the keys in the order in which our own files hold the tensors.

    >>> one, two = TensorInfo(torch.float32, (1,)), TensorInfo(torch.float64, (1,))
    >>> file_order({"b": one, "a": one, "c": two})
    ('c', 'a', 'b')
    """
    # Wide types first: other safetensors readers need each tensor aligned to its own item size.
    return tuple(sorted(layout, key=lambda key: (-layout[key].dtype.itemsize, key)))


def check_storable(layout: Mapping[str, TensorInfo]) -> None:
    """Raise InputError, naming the key, when safetensors cannot hold a tensor of that name or type."""
    for key, tensor in layout.items():
        if tensor.dtype not in NAMES:
            raise InputError(f"`{key}`: checkpoints cannot hold type {tensor.dtype}; convert the tensor first.")
        if key == NOTES:
            raise InputError(f"`{key}`: checkpoints keep that name for themselves; rename the tensor.")


def canonical(value: object) -> str:
    """Return the one JSON text of a value; ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(layout: Mapping[str, TensorInfo], recipe: str, metadata: Mapping[str, str]) -> "hashlib._Hash":
    """Return a SHA-256 of all but the tensors' bytes, to be updated with those in file order."""
    entries = [(key, NAMES[layout[key].dtype], layout[key].shape) for key in file_order(layout)]
    return hashlib.sha256(canonical([entries, recipe, *([metadata] if metadata else [])]).encode())


def header(layout: Mapping[str, TensorInfo], notes: Notes) -> bytes:
    """Return the bytes of our own files up to the first tensor, a multiple of eight."""
    written: dict[str, Any] = {NOTES: {**notes.metadata, "digest": notes.digest, "recipe": notes.recipe}}
    start = 0
    for key in file_order(layout):
        dtype, shape = layout[key]
        end = start + layout[key].nbytes
        written[key] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = canonical(written).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
