# SPDX-License-Identifier: MIT
"""Safetensors files that carry their recipe and a digest of everything in them.

The same tensors and recipe always give the same bytes, whether they come all at once or one by one.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
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
    source = iter(tensors)
    with writing(path, layout, recipe, metadata=metadata, durable=durable) as file:
        for _ in layout:
            # A function call of its own, so that no name here keeps a tensor alive while the next one is made.
            _pass_on(file, source)
        if (surplus := next(source, None)) is not None:
            raise ValueError(f"`{surplus[0]}` comes after the last tensor of the layout")
    return file.digest


class Writer:
    """A file that is being written, tensor by tensor; ``digest`` is that of the whole file once it is closed."""

    def __init__(
        self,
        file: BinaryIO,
        layout: Mapping[str, TensorInfo],
        recipe: str,
        metadata: Mapping[str, str],
        *,
        durable: bool,
    ) -> None:
        self.digest = ""
        self._file, self._layout, self._recipe, self._metadata = file, layout, recipe, metadata
        self._state = fingerprint(layout, recipe, metadata)
        self._expected = iter(file_order(layout))
        self._durable, self._on_disk = durable, 0
        file.write(header(layout, Notes(recipe, _UNKNOWN, metadata)))

    def put(self, key: str, tensor: Tensor) -> None:
        """Write the next tensor; ValueError unless it is what the layout announces."""
        expected = next(self._expected, None)
        if key != expected:
            raise ValueError(f"`{key}` comes where the order of the file has `{expected}`")
        if info(tensor) != self._layout[key]:
            raise ValueError(f"`{key}` is {info(tensor)}, but the layout announces {self._layout[key]}")
        content = memory(tensor)
        self._file.write(content)
        self._state.update(content)
        if self._durable and self._file.tell() - self._on_disk >= _STRETCH:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._on_disk = self._file.tell()

    def close(self) -> None:
        """Write the digest; ValueError when tensors are missing."""
        if (missing := next(self._expected, None)) is not None:
            raise ValueError(f"the tensors end before `{missing}`")
        self.digest = self._state.hexdigest()
        self._file.seek(0)
        self._file.write(header(self._layout, Notes(self._recipe, self.digest, self._metadata)))


@contextmanager
def writing(
    path: Path,
    layout: Mapping[str, TensorInfo],
    recipe: Mapping[str, object],
    *,
    metadata: Mapping[str, str] = {},
    durable: bool = True,
) -> Generator[Writer, None, None]:
    """Provide what takes the tensors of a file one by one, so that several files can be written side by side.

    The tensors are those that ``layout`` announces, in ``file_order(layout)``; the file appears when the block ends
    with all of them, and else not at all. Other arguments and errors as of ``write``.
    """
    check_storable(layout)
    if reserved := metadata.keys() & _RESERVED:
        raise ValueError(f"the metadata of a checkpoint cannot redefine {sorted(reserved)}")
    content = dict(layout), canonical(recipe), dict(metadata)
    with files.replacing(path, durable=durable) as temporary, temporary.open("wb") as file:
        writer = Writer(file, *content, durable=durable)
        yield writer
        writer.close()


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


def _pass_on(file: Writer, source: Iterator[tuple[str, Tensor]]) -> None:
    for key, tensor in source:
        file.put(key, tensor)
        return
    file.close()
