# SPDX-License-Identifier: MIT
"""In which type and at which scale numbers are computed with, and what is lost where they are written in another."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from tsvlib.errors import InputError

SQUARED = (1e-10, 1e15)
"""Norms between which squares neither overflow nor vanish beside the largest one, even in float32."""

NOTABLE = 0.1
"""The share of an update that rounding may take without a word; in float16 and bfloat16 some is always lost."""

_BLOCK = 2**17
"""How many numbers are worked on at once where one step follows another: few enough to stay in a core's own memory."""

_REMEDIES = {
    torch.float16: " or the dtype float32",
    torch.bfloat16: " or the dtype float32",
    torch.float32: " or the dtype float64",
}


class Rounding(NamedTuple):
    """Squared norms of an update and of what is missing of it in the sum with the base, rounded to ``dtype``."""

    wanted: float
    missed: float
    dtype: torch.dtype


def wider(*dtypes: torch.dtype) -> torch.dtype:
    """Return the type to compute in: float64 if one of these is, float32 if all of them are narrower.

    >>> wider(torch.bfloat16, torch.float16), wider(torch.float32, torch.float64)
    (torch.float32, torch.float64)
    """
    widest = torch.float32
    for dtype in dtypes:
        widest = torch.promote_types(widest, dtype)
    return widest


def plain(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the numbers alone: in a type to compute in, without a graph, in one order in memory."""
    return x.detach().to(wider(x.dtype)).contiguous()


def scaled(
    x: Float[Tensor, "*stack rows columns"],
) -> tuple[Float[Tensor, "*stack rows columns"], Int32[Tensor, "*stack 1 1"] | None]:
    """Return x / 2ⁿ, which can be squared, and n for each matrix, or None if x can be squared as it is.

    Exact, but for numbers that are nothing beside the largest one. InputError for NaN and Inf.

    >>> scaled(torch.tensor([[1e-40, 3e-40]]))[1], scaled(torch.tensor([[3.0, 4.0]]))[1]
    (tensor([[-131]], dtype=torch.int32), None)
    """
    if not x.numel() or (x.ndim == 2 and SQUARED[0] < float(torch.linalg.vector_norm(x)) < SQUARED[1]):
        return x, None
    largest = x.abs().amax((-2, -1), keepdim=True)
    if not bool(largest.isfinite().all()):
        raise InputError("a matrix holds NaN or Inf, and has no decomposition; take it out or train its expert again.")
    exponent = torch.frexp(largest).exponent
    return unscaled(x, -exponent), exponent


def unscaled(
    x: Float[Tensor, "*stack rows columns"], exponent: Int32[Tensor, "*stack 1 1"] | None
) -> Float[Tensor, "*stack rows columns"]:
    """Return x times two to the power of each exponent, and x itself for None."""
    if exponent is None:
        return x
    # In two steps, because two to the power of some exponents is no float32.
    half = exponent // 2
    return torch.ldexp(torch.ldexp(x, half), exponent - half)


def added(
    key: str, start: Tensor, update: Tensor, alpha: float, dtype: torch.dtype | None = None
) -> tuple[Tensor, Rounding]:
    """Return start + alpha * update in ``dtype``, that of ``start`` by default, and what rounding took from the update.

    The sum is computed in the widest type of all and rounded once. Where the update is zero, ``start`` stays as it is,
    whatever it holds. InputError, naming ``key``, for values beyond the largest one of ``dtype``, and for a change of
    NaN or Inf.
    """
    start, dtype = start.detach(), dtype or start.dtype
    changed = bool(alpha and update.any())
    if not changed and dtype == start.dtype:
        return start.clone(), Rounding(0.0, 0.0, dtype)
    value = start.new_empty(start.shape, dtype=dtype)
    wide, wanted, missed = wider(start.dtype, update.dtype, dtype), 0.0, 0.0
    blocks = map(_blocks, (start, plain(update), value))
    for old, step, new in zip(*blocks, strict=True):
        exact, change = old.to(wide), alpha * step.to(wide)
        torch.add(exact, change, out=new)
        if not is_finite(new) and (changed or bool((new.isinf() & old.isfinite()).any())):
            raise InputError(_beyond(key, start, alpha * update.double(), dtype))
        wanted += _square(change)
        missed += _square(torch.sub(new, exact).sub_(change))
    return value, Rounding(wanted, missed, dtype)


def lost(roundings: Iterable[Rounding]) -> str:
    """Say which share of an update, in norm over all tensors, rounding took; nothing if that is not ``NOTABLE``."""
    every = [rounding for rounding in roundings if rounding.wanted]
    share = math.sqrt(sum(one.missed for one in every) / sum(one.wanted for one in every)) if every else 0.0
    if share <= NOTABLE:
        return ""
    types = " and ".join(sorted({type_name(one.dtype) for one in every if one.missed}))
    return f"rounding to {types} lost {100 * share:.0f} % of the update"


def is_finite(x: Tensor) -> bool:
    """Tell whether a tensor holds neither NaN nor Inf."""
    # The extremes take no memory, and NaN is one of them wherever it stands.
    return not x.numel() or all(math.isfinite(extreme.item()) for extreme in torch.aminmax(x))


def check_held(key: str, x: Tensor) -> None:
    """Raise InputError, naming ``key``, where what was computed from finite changes is beyond all numbers."""
    if not is_finite(x):
        trouble = f"the weights have exploded, and what follows is beyond what {type_name(x.dtype)} can hold"
        raise InputError(f"`{key}`: {trouble}; train those experts again.")


def type_name(dtype: torch.dtype) -> str:
    """Return the name of a type as users write it.

    >>> type_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def _blocks(x: Tensor) -> Sequence[Tensor]:
    flat = x.reshape(-1)
    # Of models with many small tensors, splitting them would be a large part of the work.
    return (flat,) if flat.numel() <= _BLOCK else torch.split(flat, _BLOCK)


def _beyond(key: str, start: Float[Tensor, "..."], change: Float[Tensor, "..."], dtype: torch.dtype) -> str:
    if not is_finite(start):
        return f"`{key}` of the base holds NaN or Inf, and would change; download that checkpoint again."
    reached, most = float((start.double() + change).abs().max()), torch.finfo(dtype).max
    remedy = f"choose a smaller alpha{_REMEDIES.get(dtype, '')}"
    return f"`{key}` would reach {reached:.3g}, and {type_name(dtype)} ends at {most:.3g}; {remedy}."


def _square(x: Float[Tensor, "..."]) -> float:
    """Return the squared norm, in float64 where float32 has no room for it."""
    flat = x.reshape(-1)
    found = float(flat.dot(flat))
    return found if 1e-20 < found < 1e30 else float(flat.double().square().sum())
