# SPDX-License-Identifier: MIT
"""Pickles of ``torch.save`` in which every name is inert: nothing is imported, called, or read from outside.

Objects become records of what they held, and tensors become views that say which numbers they would be of. A pickle
can also exhaust memory or stack by what it asks for alone; what no module of that size asks for is refused beforehand.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MOST_NAMES = 2000
"""Each costs a class; a pickled encoder has some dozens."""

MOST_TUPLES = 20_000
"""Hashing tuples within tuples takes stack, without a limit of Python's own; a pickled ViT-L/14 has 3,000 in all."""


class Storage(NamedTuple):
    """Numbers beside a pickle: their type, the name of their file, how many there are."""

    dtype: torch.dtype
    key: str
    length: int


class View(NamedTuple):
    """A tensor that is not read yet; whether it lies inside of its storage is for ``fault`` to say."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Record:
    """What stands for an object of a class that is never imported: what it holds, not how it was to be made."""

    def __init__(self, *_: object, **__: object) -> None:
        """Forget how it was to be made."""

    def __setstate__(self, state: object) -> None:
        """Keep what it held, as far as that has names."""
        if isinstance(state, Mapping):
            self.__dict__.update({name: value for name, value in state.items() if isinstance(name, str)})

    def append(self, item: object) -> None:
        """Forget an item, as of a list."""

    def extend(self, items: object) -> None:
        """Forget items, as of a list."""

    def __setitem__(self, key: object, value: object) -> None:
        """Forget an entry, as of a dictionary."""


def load(pickled: bytes) -> object:
    """Return what a pickle holds, of records, views and Python's own collections.

    ValueError when it asks for more than a module does; other exceptions by whatever damaged bytes happen to mean.
    """
    _check(pickled)
    return _Unpickler(pickled).load()


def fault(view: View) -> str:
    """Return what is wrong with a view by itself, or nothing: it must lie in its storage, and show no number twice."""
    counts = (view.offset, view.storage.length, *view.size, *view.stride)
    if len(view.size) != len(view.stride) or not all(type(count) is int and 0 <= count < 2**48 for count in counts):
        return "its shape is no shape"
    numbers, last = 1, view.offset
    for size, stride in zip(view.size, view.stride, strict=True):
        numbers, last = numbers * size, last + (size - 1) * stride
    if numbers and (last >= view.storage.length or numbers > view.storage.length):
        return "it is larger than its storage"
    return ""


def _check(pickled: bytes) -> None:
    """Raise ValueError for a pickle that fills memory or stack by its opcodes, whatever these are to make."""
    tuples = 0
    for opcode, argument, _ in pickletools.genops(pickled):
        tuples += opcode.name.startswith("TUPLE")
        # Numbers of extensions are looked up in a table that all of Python shares.
        refused = opcode.name.startswith("EXT")
        # The memo is an array as long as its largest number.
        far = isinstance(argument, int) and opcode.name.endswith("PUT") and argument > len(pickled)
        if refused or far or tuples > MOST_TUPLES:
            raise ValueError(f"a module has no such {opcode.name}")


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled), encoding="utf-8")
        self._named: dict[tuple[str, str], Any] = dict(KNOWN)

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the pickle stands for here; nothing is imported."""
        if (module, name) not in self._named:
            if len(self._named) > MOST_NAMES:
                raise ValueError("a module has fewer names")
            # A class of its own for each name, because pickles make objects of classes in more than one way.
            self._named[module, name] = type("Record", (Record,), {"named": f"{module}.{name}"})
        return self._named[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """Return which numbers beside the pickle are meant."""
        _, kind, key, _, length = pid
        return Storage(DTYPES[kind], str(key), length)


class _Rebuild:
    """Stands for a function that makes a tensor; no pickle can change it, as it has no attributes to set."""

    __slots__ = ()

    def __call__(self, storage: object, offset: Any, size: Any, stride: Any, *_: object) -> View:
        if not isinstance(storage, Storage):
            raise TypeError("a tensor without a storage")
        return View(storage, offset, tuple(size), tuple(stride))


class _First:
    """Stands for a function that makes a parameter of a tensor, as above."""

    __slots__ = ()

    def __call__(self, tensor: object, *_: object) -> object:
        return tensor


KNOWN: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _First(),
    **{("torch", kind): kind for kind in DTYPES},
}
