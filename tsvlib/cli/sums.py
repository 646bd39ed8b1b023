# SPDX-License-Identifier: MIT
"""Models as they are written: base + alpha * update, tensor by tensor, one for each alpha."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, SupportsFloat

import torch
from torch import Tensor

from tsvlib import checkpoints
from tsvlib.checkpoints import Checkpoint, TensorInfo
from tsvlib.checkpoints.writing import Writing
from tsvlib.cli.models import File
from tsvlib.cli.sessions import Session
from tsvlib.errors import InputError, LostUpdate
from tsvlib.precision import Rounding, added, lost, type_name
from tsvlib.selection import Selection, is_whole

AS_BASE = "base"
"""Stands for the types of the base."""

TYPES = {type_name(dtype): dtype for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
Alphas = SupportsFloat | Iterable[SupportsFloat]


def type_of(dtype: str) -> torch.dtype:
    """Return a floating-point type by its name; InputError for other names."""
    if dtype not in TYPES:
        raise InputError(f"`{dtype}` is no type to write numbers in; choose one of {', '.join(TYPES)}.")
    return TYPES[dtype]


def layout_of(base: Checkpoint, dtype: str) -> dict[str, TensorInfo]:
    """Return the layout of a file with the tensors of the base: as they are, or all floating-point ones in one type."""
    if dtype == AS_BASE:
        return base.layout
    chosen, every = type_of(dtype), base.layout.items()
    return {key: info if is_whole(info.dtype) else info._replace(dtype=chosen) for key, info in every}


def numbers(alpha: Alphas) -> tuple[float, ...]:
    """Return alphas as the numbers that recipes record, however they were given; InputError for what is not finite."""
    try:
        given = [*alpha]  # type: ignore[misc]
    except TypeError:
        given = [alpha]
    found = tuple(map(float, given))
    if wrong := [one for one, number in zip(given, found, strict=True) if not math.isfinite(number)]:
        raise InputError(f"alpha is {wrong[0]}; choose a finite number.")
    if not found or len(set(found)) < len(found):
        raise InputError(f"the alphas {', '.join(map(str, found))} do not differ; name each one once.")
    return found


def write(
    places: Mapping[float, File],
    selection: Selection,
    update: Callable[[str], Tensor],
    recipe: Mapping[str, Any],
    session: Session,
    label: str,
) -> dict[Path, str]:
    """Write base + alpha * update for every alpha to its place and return the digests.

    ``update`` is asked for tensors that are merged; the others are as in the base. ``UserWarning`` for each model whose
    types lose much of the update; InputError for values that they cannot hold, and then nothing appears.
    """
    place, merged = next(iter(places.values())), frozenset(selection.merged)
    roundings = {alpha: list[Rounding]() for alpha in places}

    def made(key: str) -> tuple[str, list[tuple[Tensor, Rounding]]]:
        start, dtype = place.base.read(key), place.layout[key].dtype
        if is_whole(dtype):
            return key, [(start, Rounding(0.0, 0.0, dtype))] * len(places)
        # What is tied is computed again, since holding it until its turn may take more memory than all else.
        step = update(selection.tied.get(key, key)) if key in merged else torch.zeros(start.shape)
        return key, [added(key, start, step, alpha, dtype) for alpha in places]

    with ExitStack() as stack:
        files = [each.writer(with_alpha(recipe, alpha)) for alpha, each in places.items()]
        for file in files:
            next(stack.enter_context(closing(file)))
        with session.over(made, place.order, label) as found:
            for _ in place.order:
                # A function call of its own, so that no name here keeps tensors alive while the next ones are made.
                _pass_on(next(found), files, [*roundings.values()])
        digests = {each.path: checkpoints.finished(file) for each, file in zip(places.values(), files, strict=True)}
    for alpha, taken in roundings.items():
        if loss := lost(taken):
            which = f"with alpha {alpha:g}, " if len(places) > 1 else ""
            warnings.warn(f"{which}{loss}; a wider dtype keeps it.", LostUpdate, stacklevel=4)
    return digests


def _pass_on(
    made: tuple[str, list[tuple[Tensor, Rounding]]], files: Sequence[Writing], roundings: Sequence[list[Rounding]]
) -> None:
    key, values = made
    for file, taken, (value, rounding) in zip(files, roundings, values, strict=True):
        taken.append(rounding)
        file.send((key, value))


def with_alpha(recipe: Mapping[str, Any], alpha: float) -> dict[str, object]:
    """Return the recipe of one of several files, which is that of the file made alone."""
    return {**recipe, "arguments": recipe["arguments"] | {"alpha": alpha}}
