# SPDX-License-Identifier: MIT
"""In which type and at which scale numbers are computed with, so that none is lost on the way."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from tsvlib.errors import InputError

SQUARED = (1e-10, 1e15)
"""Norms between which squares neither overflow nor vanish beside the largest one, even in float32."""


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
