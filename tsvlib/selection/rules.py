# SPDX-License-Identifier: MIT
"""The part that each tensor of a model has in a merge.

| tensor | part |
|---|---|
| what a user leaves out | as in the base; absent where the base lacks it |
| whole numbers and flags | as in the base, whatever experts hold; absent where the base lacks them |
| floating-point numbers that the base and all experts have in one shape | merged, unless nobody changed them |
| the same, but an expert stores it only under another name that it is tied to | merged, from that name |
| the same, but the base lacks it, and experts tie it to what the base has | absent |
| anything else | refused |
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from tsvlib.errors import InputError
from tsvlib.selection import names, patterns, ties
from tsvlib.selection.sources import Source

_REMEDY = "use checkpoints of one architecture"
# How quantised models call the whole numbers that stand for their weights.
_QUANTISED = re.compile(r"(.*\.)?(q?weight[^.]*|[^.]*_packed|[^.]*_blocks)\Z")


@dataclass(frozen=True)
class Selection:
    """The names of all tensors by the part that they have; ``own`` has, for each expert, its names of those merged."""

    merged: tuple[str, ...]
    whole: tuple[str, ...]
    """Whole numbers and flags."""
    left_out: Mapping[str, str]
    """What a user left out, each with the pattern that says so."""
    absent: tuple[str, ...]
    """What experts hold and nobody writes, because the base lacks it."""
    tied: Mapping[str, str]
    """What is one with another tensor in all models, and is merged as that one."""
    own: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]
    """Sentences about names that were read as others."""


def is_whole(dtype: torch.dtype) -> bool:
    """Tell whether a type is one of whole numbers or flags, of which nothing is merged."""
    return not (dtype.is_floating_point or dtype.is_complex)


def select(base: Source, experts: Sequence[Source], leave_out: Sequence[str] = ()) -> Selection:
    """Return the part of each tensor; of tensors, nothing is read but what may be tied.

    InputError, naming model, tensor and what helps, for experts that do not fit the base.
    """
    own = [names.aligned(expert.layout.keys(), base.layout.keys()) for expert in experts]
    every = dict.fromkeys((*base.layout, *(key for mine in own for key in mine)))
    whose = f"{base.owner} and its experts" if experts else base.owner
    out = patterns.matched(leave_out, every, whose)
    whole = tuple(key for key, info in base.layout.items() if key not in out and is_whole(info.dtype))
    unmerged = {*out, *whole}
    merged = tuple(key for key in base.layout if key not in unmerged)
    _check_types(base, merged, whole if experts else ())
    fitting = [_fitted(base, expert, mine, merged, out) for expert, mine in zip(experts, own, strict=True)]
    told = [f"{expert.owner}: {text}." for expert, mine in zip(experts, own, strict=True) if (text := names.told(mine))]
    return Selection(
        merged=merged,
        whole=whole,
        left_out={key: pattern for key, pattern in out.items() if key in base.layout},
        absent=tuple(key for key in every if key not in base.layout),
        tied=_tied(base, experts, fitting),
        own=tuple(mine for mine, _ in fitting),
        notes=tuple(told),
    )


def _fitted(
    base: Source, expert: Source, own: Mapping[str, str], merged: Sequence[str], out: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return an expert's own names of what is merged, and of that which it lacks, what it is tied to in the base.

    InputError unless it has all of that and nothing else.
    """
    found, tied = {key: own[key] for key in merged if key in own}, {}
    if lacking := [key for key in merged if key not in found]:
        tied = ties.twins(base, lacking, [*found])
        found |= {key: found[twin] for key, twin in tied.items()}
        _check_none(expert.label, base.owner, [key for key in lacking if key not in found], found)
    odd = {key: name for key, name in own.items() if key not in base.layout and key not in out}
    if surplus := {key: name for key, name in odd.items() if not is_whole(expert.layout[name].dtype)}:
        known = ties.twins(expert, surplus.values(), found.values())
        _check_none(base.label, expert.owner, [key for key, name in surplus.items() if name not in known], found)
    for key in merged:
        _check_alike(base, expert, key, found[key])
    return found, tied


def _tied(
    base: Source, experts: Sequence[Source], fitting: Sequence[tuple[Mapping[str, str], Mapping[str, str]]]
) -> dict[str, str]:
    """Return what is one with another tensor in the base and in every expert, with the name of that one."""
    lacking = {key: twin for _, tied in fitting for key, twin in tied.items()}
    # Two that each lack another one of a pair would each follow the other.
    one_way = {key: twin for key, twin in lacking.items() if lacking.get(twin) != key or twin < key}
    first = {key: base.shared.get(twin, twin) for key, twin in (*base.shared.items(), *one_way.items())}
    found = {key: other for key, other in first.items() if key != other}
    for expert, (own, _) in zip(experts, fitting, strict=True):
        places = {key: expert.shared.get(name, name) for key, name in own.items()} if found else {}
        found = {key: other for key, other in found.items() if key in places and places[key] == places.get(other)}
    return found if experts else {}


def _check_types(base: Source, merged: Sequence[str], whole: Sequence[str]) -> None:
    for key in merged:
        if base.layout[key].dtype.is_complex:
            trouble = f"`{key}` is of type {base.layout[key].dtype}, which no method merges"
            raise InputError(f"{base.label}: {trouble}; {patterns.left_out([key])}.")
    for key in whole:
        info = base.layout[key]
        if info.dtype != torch.bool and len(info.shape) > 1 and _QUANTISED.match(key):
            trouble = f"`{key}` holds whole numbers of type {info.dtype}, as quantised weights do"
            remedy = f"use the model before it was quantised, or {patterns.left_out([key])}"
            raise InputError(f"{base.owner}: {trouble}; {remedy}.")


def _check_none(lacking_in: str, held_by: str, keys: Sequence[str], others: Collection[str]) -> None:
    if keys:
        more = len(keys) - 1
        rest = f" and {more} more key{'s' * (more > 1)}" if more else ""
        remedy = f"{_REMEDY}, or {patterns.left_out(keys, others)}"
        raise InputError(f"{lacking_in} lacks `{min(keys)}`{rest} of {held_by}; {remedy}.")


def _check_alike(base: Source, expert: Source, key: str, name: str) -> None:
    start, end = base.layout[key], expert.layout[name]
    if tuple(end.shape) != tuple(start.shape):
        trouble, remedy = f"has shape {tuple(end.shape)}, but {tuple(start.shape)}", _REMEDY
    elif not end.dtype.is_floating_point:
        trouble, remedy = f"is of type {end.dtype}, but {start.dtype}", "convert one of the two"
    else:
        return
    remedy += f", or {patterns.left_out([key])}"
    raise InputError(f"{expert.owner}: `{name}` {trouble} in {base.owner}; {remedy}.")
