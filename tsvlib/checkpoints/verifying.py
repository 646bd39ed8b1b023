# SPDX-License-Identifier: MIT
"""Our own files, read back: no damage goes unnoticed."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from tsvlib.checkpoints.layout import Notes, file_order, fingerprint, header, memory
from tsvlib.checkpoints.safetensorsfiles import SafetensorsFile
from tsvlib.errors import InputError

REMEDY = "make it again"


def load(path: Path, remedy: str = REMEDY) -> dict[str, Tensor]:
    """Return the tensors of a file that ``save`` wrote, after checking each of its bytes against the digest.

    InputError, ending in ``remedy``, when the file is missing, truncated or differs from what was written.
    """
    file, notes = _opened(path, remedy)
    state, tensors = fingerprint(file.layout, notes.recipe, notes.metadata), {}
    for key in file_order(file.layout):
        tensors[key] = file.read(key)
        state.update(memory(tensors[key]))
    if state.hexdigest() != notes.digest:
        raise InputError(f"{path}: the file is damaged (its digest does not match); {remedy}.")
    return dict(sorted(tensors.items()))


def verify(path: Path, remedy: str = REMEDY) -> None:
    """Raise InputError unless the file is complete and each byte is as ``save`` wrote it."""
    load(path, remedy)


def recipe(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """Return the recipe of a file, read from its header alone; tensor bytes stay unchecked."""
    result: dict[str, Any] = json.loads(_opened(path, remedy)[1].recipe)
    return result


def digest(path: Path, remedy: str = REMEDY) -> str:
    """Return what ``save`` returned, read from the header alone; tensor bytes stay unchecked."""
    return _opened(path, remedy)[1].digest


def _opened(path: Path, remedy: str) -> tuple[SafetensorsFile, Notes]:
    """Open a file, and insist that its header is just what ``save`` would write."""
    file = SafetensorsFile(path, remedy)
    metadata = dict(file.metadata)
    notes = Notes(metadata.pop("recipe", ""), metadata.pop("digest", ""), metadata)
    if file.header() != header(file.layout, notes):
        raise InputError(f"{path}: the header is damaged or of another program; {remedy}.")
    return file, notes
