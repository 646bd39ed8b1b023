# SPDX-License-Identifier: MIT
"""Whole modules as ``torch.save`` pickled them: their parameters are read, and nothing that a pickle names is run.

Task Arithmetic published its checkpoints in this form. A pickle is a program that may import and call anything. Here
whatever it names is an inert record, but for dictionaries, sets and what rebuilds a tensor, which are functions of this file.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsvlib.errors import InputError

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class Record:
    """What stands for an object of a class that is never imported: what it was made of, and what it holds."""

    def __init__(self, *_: object, **__: object) -> None:
        """Forget how it was to be made."""

    def __setstate__(self, state: object) -> None:
        """Keep what it held, as far as that has names."""
        if isinstance(state, Mapping):
            self.__dict__.update({str(name): value for name, value in state.items()})

    def append(self, item: object) -> None:
        """Forget an item, as of a list."""

    def extend(self, items: object) -> None:
        """Forget items, as of a list."""

    def __setitem__(self, key: object, value: object) -> None:
        """Forget an entry, as of a dictionary."""


def read_module(file: Path) -> dict[str, Tensor]:
    """Return the parameters and buffers of a pickled module by the names that its state dict would have.

    Raises:
        InputError: the file is damaged, older than the zip format of PyTorch 1.6, or holds no module.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            module = _Reader(archive).load()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the path.") from error
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        raise InputError(
            f"{file}: no readable module of torch.save, perhaps because it is damaged; download it again."
        ) from error
    found = dict(_tensors(module, ""))
    if not found:
        raise InputError(f"{file}: the pickle holds no module with parameters; choose another file.")
    return found


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        (self._root,) = {name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")}
        self._storages: dict[str, Tensor] = {}
        super().__init__(archive.open(f"{self._root}data.pkl"), encoding="utf-8")

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the pickle stands for here; nothing is imported."""
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("__builtin__", "set"): set,
            ("builtins", "set"): set,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("torch._utils", "_rebuild_parameter"): _first,
            **{("torch", storage): storage for storage in DTYPES},
        }
        # A class of its own for each name, because pickles make objects of classes in more than one way.
        return known.get((module, name)) or type("Record", (Record,), {"named": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the numbers of a storage, which lie beside the pickle."""
        _, kind, key, _, count = pid
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._storages[key] = torch.frombuffer(content, dtype=DTYPES[kind], count=count)
        return self._storages[key]


def _rebuilt(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return torch.as_strided(storage, size, stride, offset).clone(memory_format=torch.contiguous_format)


def _first(tensor: Tensor, *_: object) -> Tensor:
    return tensor


def _tensors(module: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    held = vars(module) if isinstance(module, Record) else {}
    passing = held.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, value in (held.get(kind) or {}).items():
            if isinstance(value, Tensor) and name not in passing:
                yield f"{prefix}{name}", value
    for name, inner in (held.get("_modules") or {}).items():
        yield from _tensors(inner, f"{prefix}{name}.")
