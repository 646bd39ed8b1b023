# SPDX-License-Identifier: MIT
"""Pickled batches of CIFAR: their pixels and labels are read, and nothing that a pickle names is run."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from compendium.worlds.clip.local.kinds import REMEDY
from tsvlib import files
from tsvlib.errors import InputError

ARRAY = {("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct")}
"""What the pickles name as they were published, by Python 2."""


def read_batch(file: Path) -> tuple[UInt8[np.ndarray, "n 32 32 3"], list[int]]:
    """Return the images of a batch, and their labels, of CIFAR-100 the fine ones.

    Raises:
        InputError: the file is missing, damaged, or names anything but an array.
    """
    with files.opened(file, REMEDY) as stream:
        try:
            batch = _Reader(stream, encoding="bytes").load()
            *_, (count, width), _, _, pixels = batch[b"data"].state
            labels = batch[b"labels"] if b"labels" in batch else batch[b"fine_labels"]
            images = np.frombuffer(pixels, np.uint8).reshape(count, 3, 32, width // 96)
        except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
            raise InputError(f"{file}: no readable batch of CIFAR; {REMEDY}.") from error
    return images.transpose(0, 2, 3, 1), labels


class _Held:
    """What stands for an array or its type: what it holds."""

    state: tuple[Any, ...]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for an array; ValueError for all else that a pickle names."""
        if (module, name) not in ARRAY:
            raise ValueError(f"{module}.{name}")
        return _held


def _held(*_: object) -> _Held:
    return _Held()
