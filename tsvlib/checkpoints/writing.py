# SPDX-License-Identifier: MIT
"""Safetensors files that carry their recipe and a digest of everything in them.

The same tensors and recipe always give the same bytes, whether they come all at once or one by one.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
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

Writing = Generator[None, tuple[str, Tensor] | None, str]
"""What takes tensors after their names, one by one and None at the end, writes them, and returns their digest."""

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
    file = writer(path, layout, recipe, metadata=metadata, durable=durable)
    with closing(file):
        next(file)
        # Nothing here keeps a tensor alive while the next one is made.
        for _ in map(file.send, tensors):
            pass
        return finished(file)


def writer(
    path: Path,
    layout: Mapping[str, TensorInfo],
    recipe: Mapping[str, object],
    *,
    metadata: Mapping[str, str] = {},
    durable: bool = True,
) -> Writing:
    """Write what ``write`` would write, of tensors that are sent one by one, and return the digest after None.

    So several files can be written side by side. Closed earlier, it leaves nothing behind. Arguments and errors as of
    ``write``.
    """
    check_storable(layout)
    if reserved := metadata.keys() & _RESERVED:
        raise ValueError(f"the metadata of a checkpoint cannot redefine {sorted(reserved)}")
    layout, metadata, text = dict(layout), dict(metadata), canonical(recipe)
    state = fingerprint(layout, text, metadata)
    with files.replacing(path, durable=durable) as temporary, temporary.open("wb") as file:
        file.write(header(layout, Notes(text, _UNKNOWN, metadata)))
        on_disk = 0
        for key in file_order(layout):
            # A function call of its own, so that no name here keeps a tensor alive while the next one is made.
            _append(file, state, key, layout[key], (yield))
            if durable and file.tell() - on_disk >= _STRETCH:
                file.flush()
                os.fsync(file.fileno())
                on_disk = file.tell()
        if (surplus := (yield)) is not None:
            raise ValueError(f"`{surplus[0]}` comes after the last tensor of the layout")
        file.seek(0)
        file.write(header(layout, Notes(text, state.hexdigest(), metadata)))
    return state.hexdigest()


def finished(file: Writing) -> str:
    """Return the digest of what is written, all of whose tensors were sent."""
    try:
        file.send(None)
    except StopIteration as end:
        digest: str = end.value
        return digest
    raise ValueError("the file has room for more tensors than its layout has")


def for_loaders(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what a file made from one with that metadata says to other programs.

    That is what the other one said, and the format, without which some loaders refuse a file that has metadata.
    """
    return {"format": "pt"} | {name: text for name, text in metadata.items() if name not in _RESERVED}


def state_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bytes of a state dict in any key order."""
    return content_digest({key: info(tensor) for key, tensor in tensors.items()}, tensors.__getitem__)


def content_digest(layout: Mapping[str, TensorInfo], read: Callable[[str], Tensor]) -> str:
    """Return the same of tensors that are read one by one, whatever file they are in."""
    check_storable(layout)
    state = fingerprint(layout, "", {})
    for key in file_order(layout):
        state.update(memory(read(key)))
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
