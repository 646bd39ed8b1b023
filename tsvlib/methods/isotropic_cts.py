# SPDX-License-Identifier: MIT
"""Iso-CTS (Marczak et al., *No Task Left Behind*, arXiv 2502.04959, 2025): a flat spectrum with room for each task.

For T task matrices with r singular values each, of which j = (r - ⌊0.8 r⌋) / T, rounded, are the room of one task:

1. The r - T j leading components of the sum of the task matrices are common, with left singular vectors U_c.
2. Each task adds the j leading components of (I - U_c U_cᵀ) times its matrix: what is common is taken out on the left.
3. All left vectors side by side are made orthonormal together, and so are all right ones.
4. Every singular value becomes the mean of all r that were taken.

So in the authors' code, where 0.5 rounds to 0, and 1.5 to 2. Without room (j = 0) this is Iso-C. Components that a
task does not have, or that only rounding error fills, count as zeros in the mean, and their directions are left out,
since they are arbitrary; the code takes what the decomposition puts there. What is no matrix is averaged.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib import eigen, linalg
from tsvlib.layers import Layer
from tsvlib.linalg import STEEP, Factors
from tsvlib.methods import isotropic, tsv
from tsvlib.precision import check_held, wider

COMMON = 0.8
"""The share of all directions that are common, before the rest is divided among the tasks."""


def iso_cts(layer: Layer) -> Tensor:
    """Return Iso-CTS, computed in float64, since the weakest directions count as much as the strongest."""
    rank, own = (min(layer.shape), own_rank(min(layer.shape), layer.n_tasks)) if layer.is_matrix else (0, 0)
    if not own:
        return isotropic.iso_c(layer)
    total, dtype = _sum(layer)
    check_held(layer.key, total.to(dtype))
    eps = max(layer.shape) * torch.finfo(dtype).eps
    largest = [float(factors.s[0]) for factors in layer.factors(1)]
    whole = linalg.svd(total)
    # Relative to the tasks as well: where these cancel, all of the sum is rounding error.
    common = _clear(whole, rank - layer.n_tasks * own, eps * max(float(whole.s[0]), *largest, 0.0))
    parts = [common]
    for change, size in zip(layer.changes(), largest, strict=True):
        wide = change.double()
        rest = wide - common.u @ (common.u.mT @ wide)
        parts.append(_clear(_leading(rest, own, dtype), own, eps * size))
    u, s, vh = tsv.together(parts)
    return (s.sum() / rank * _orthonormal(u, dtype) @ _orthonormal(vh.mT, dtype).mT).to(dtype)


def own_rank(rank: int, n_tasks: int) -> int:
    """Return how many of ``rank`` directions each task has for itself, beside those that are common.

    >>> own_rank(768, 8), own_rank(768, 20), own_rank(50, 20), own_rank(7, 3)
    (19, 8, 0, 1)
    """
    return round((rank - int(COMMON * rank)) / n_tasks)


def _sum(layer: Layer) -> tuple[Float64[Tensor, "rows columns"], torch.dtype]:
    """Return the sum of all changes, and the type that they are rounded to."""
    total, dtype = torch.zeros(layer.shape, dtype=torch.float64, device=layer.device), torch.float32
    for change in layer.changes():
        total += change
        dtype = wider(dtype, change.dtype)
    return total, dtype


def _clear(found: Factors, count: int, noise: float) -> Factors:
    """Return the ``count`` leading components, without those that are no more than noise: it may leave none."""
    kept = min(count, int((found.s > noise).sum()))
    return Factors(found.u[:, :kept], found.s[:kept], found.vh[:kept])


def _leading(rest: Float64[Tensor, "rows columns"], k: int, dtype: torch.dtype) -> Factors:
    """Return the k leading components in float64: from its Gram matrix where that is exact to float32."""
    if len(rest) < rest.shape[1]:
        u, s, vh = _leading(rest.mT, k, dtype)
        return Factors(vh.mT, s, u.mT)
    if dtype == torch.float32:
        values, v = eigen.largest_eigenpairs(linalg.gram(rest), k)
        s, v = values.flip(-1).clamp_min(0).sqrt(), v.flip(-1)
        if s[-1] > STEEP[torch.float64] * s[0]:
            return Factors(rest @ (v / s), s, v.mT)
    return linalg.truncate(linalg.svd(rest), k)


def _orthonormal(x: Float64[Tensor, "rows columns"], dtype: torch.dtype) -> Float64[Tensor, "rows columns"]:
    """Return what ``linalg.orthogonalise`` does in float64, for columns that are only as exact as ``dtype``."""
    p, d, qh = linalg.svd(x)
    kept = int((d > 4 * torch.finfo(dtype).eps * d[:1]).sum())
    return p[:, :kept] @ qh[:kept]
