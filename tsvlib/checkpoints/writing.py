# SPDX-License-Identifier: MIT
"""Safetensors files that carry their recipe and a digest of everything in them.

The same tensors and recipe always give the same bytes, whether they come all at once or one by one.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from tsvlib import files
from tsvlib.checkpoints.layout import (
    Notes,
    TensorInfo,
    canonical,
    check_storable,
    file_order,
    fingerprint,
    header,
    info,
    memory,
)

_RESERVED = {"digest", "recipe"}
_UNKNOWN = "0" * hashlib.sha256().digest_size * 2
_STRETCH = 2**26
"""Bytes after which the disk has to catch up, while others make the next tensors: so little is left for the end."""


def save(
    path: Path,
    tensors: Mapping[str, Tensor],
    recipe: Mapping[str, object],
    *,
    metadata: Mapping[str, str] = {},
    durable: bool = True,
) -> str:
    """Write tensors and the recipe that made them, and return the digest of both.

    ``recipe`` holds what JSON can hold, ``metadata`` texts for other programs, as in ``write``. The file appears
    complete or not at all, after a power cut only if ``durable``; InputError when it cannot be written.
    """
    layout = {key: info(tensor) for key, tensor in tensors.items()}
    every = ((key, tensors[key]) for key in file_order(layout))
    return write(path, layout, recipe, every, metadata=metadata, durable=durable)


def write(
    path: Path,
    layout: Mapping[str, TensorInfo],
    recipe: Mapping[str, object],
    tensors: Iterable[tuple[str, Tensor]],
    *,
    metadata: Mapping[str, str] = {},
    durable: bool = True,
) -> str:
    """Write what ``save`` would write, holding one tensor at a time, and return the digest.

    ``tensors`` yields what ``layout`` announces in ``file_order(layout)``; ValueError as soon as it does not.
    ``metadata`` is for other programs, beside the recipe; the digest covers it. The file appears complete or not at
    all; InputError when it cannot be written.
    """
    check_storable(layout)
    if reserved := metadata.keys() & _RESERVED:
        raise ValueError(f"the metadata of a checkpoint cannot redefine {sorted(reserved)}")
    layout, metadata, text = dict(layout), dict(metadata), canonical(recipe)
    state = fingerprint(layout, text, metadata)
    with files.replacing(path, durable=durable) as temporary, temporary.open("wb") as file:
        file.write(header(layout, Notes(text, _UNKNOWN, metadata)))
        source, on_disk = iter(tensors), 0
        for key in file_order(layout):
            # A function call of its own, so that no name here keeps a tensor alive while the next one is made.
            _append(file, state, key, layout[key], next(source, None))
            if durable and file.tell() - on_disk >= _STRETCH:
                file.flush()
                os.fsync(file.fileno())
                on_disk = file.tell()
        if (surplus := next(source, None)) is not None:
            raise ValueError(f"`{surplus[0]}` comes after the last tensor of the layout")
        file.seek(0)
        file.write(header(layout, Notes(text, state.hexdigest(), metadata)))
    return state.hexdigest()


def state_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bytes of a state dict in any key order."""
    layout = {key: info(tensor) for key, tensor in tensors.items()}
    check_storable(layout)
    state = fingerprint(layout, "", {})
    for key in file_order(layout):
        state.update(memory(tensors[key]))
    return state.hexdigest()


def _append(
    file: BinaryIO, state: "hashlib._Hash", key: str, expected: TensorInfo, found: tuple[str, Tensor] | None
) -> None:
    if found is None:
        raise ValueError(f"the tensors end before `{key}`")
    name, tensor = found
    if name != key:
        raise ValueError(f"`{name}` comes where the order of the file has `{key}`")
    if info(tensor) != expected:
        raise ValueError(f"`{key}` is {info(tensor)}, but the layout announces {expected}")
    content = memory(tensor)
    file.write(content)
    state.update(content)
