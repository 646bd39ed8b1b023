# SPDX-License-Identifier: MIT
"""Tied tensors: one tensor under several names, such as an embedding that is the output layer too."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable

import torch
from torch import Tensor

from tsvlib.selection.sources import Source


def twins(source: Source, keys: Collection[str], among: Iterable[str]) -> dict[str, str]:
    """Return, for those of ``keys`` that are tied to another tensor of ``among``, the name of that one.

    Such are tensors of the same memory, and of the same numbers if these are not all one, as those of a new bias are.
    Only tensors that begin alike are read.
    """
    kinds = {_kind(source, key) for key in keys}
    alike: dict[Hashable, list[str]] = defaultdict(list)
    for other in among:
        if _kind(source, other) in kinds:
            alike[_beginning(source, other)].append(other)
    found = {}
    for key in keys:
        others = (other for other in alike.get(_beginning(source, key), ()) if other != key)
        if (twin := next((other for other in others if _tied(source, key, other)), None)) is not None:
            found[key] = twin
    return found


def _tied(source: Source, one: str, other: str) -> bool:
    if one in source.shared and source.shared[one] == source.shared.get(other):
        return True
    numbers = source.read(one)
    return not _is_one_number(numbers) and torch.equal(numbers, source.read(other))


def _kind(source: Source, key: str) -> Hashable:
    info = source.layout[key]
    return info.dtype, tuple(info.shape)


def _beginning(source: Source, key: str) -> Hashable:
    return _kind(source, key), source.glimpse(key).contiguous().view(torch.uint8).numpy(force=True).tobytes()


def _is_one_number(numbers: Tensor) -> bool:
    flat = numbers.reshape(-1)
    return not flat.numel() or bool((flat == flat[0]).all())
