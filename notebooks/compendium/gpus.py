# SPDX-License-Identifier: MIT
"""GPUs of this machine, one for each unit of work at a time."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch

from tsvlib import devices
from tsvlib.errors import InputError

LOOK = 1
"""Seconds after which it is looked again for a GPU that is free."""


def count(name: str) -> int:
    """Return how many GPUs the device that a profile names stands for; 0 on a CPU."""
    return torch.cuda.device_count() if devices.choose(name).type == "cuda" else 0


@contextmanager
def one(name: str) -> Iterator[torch.device]:
    """Yield a GPU that no other unit of this user has, waiting for it; the CPU where a profile's device is that."""
    if not (present := count(name)):
        yield torch.device("cpu")
        return
    with held([_lock(number) for number in range(present)]) as number, torch.cuda.device(number):
        yield torch.device("cuda", number)


@contextmanager
def held(locks: list[Path]) -> Iterator[int]:
    """Yield the place of a file that nobody else holds while the block runs, and wait until there is one.

    The system frees it when its process ends, however that comes about.
    """
    while True:
        for place, lock in enumerate(locks):
            with lock.open("a") as file:
                if _is_taken(file):
                    yield place
                    return
        time.sleep(LOOK)


@contextmanager
def memory() -> Iterator[None]:
    """Say in one sentence, as an InputError, that what the block does takes more memory than a GPU has left."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the memory of the GPU is full; stop what else runs there, or set 'device' in the profile to \"cpu\"."
        ) from error


def _is_taken(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(number: int) -> Path:
    """Return the file for a GPU, which has the same name whatever number processes know it by."""
    name = f"tsv-{os.getuid()}-{torch.cuda.get_device_properties(number).uuid}.lock"
    return Path(tempfile.gettempdir()) / name
