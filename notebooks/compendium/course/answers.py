# SPDX-License-Identifier: MIT
"""What the exercises ask for, in float64, and with switches for the mistakes that are often made.

Written for the course alone: neither tsvlib nor a student's function can make an answer here agree with its own error.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor


def polar(x: Float[Tensor, "rows columns"]) -> Float64[Tensor, "rows columns"]:
    """Return P Qᵀ of x = P D Qᵀ."""
    p, _, qh = _svd(x.double())
    return p @ qh


def gram_schmidt(x: Float[Tensor, "rows columns"]) -> Float64[Tensor, "rows columns"]:
    """Return the columns of a tall matrix made orthonormal one after the other."""
    q, r = torch.linalg.qr(x.double())
    found: Tensor = q * r.diagonal().sign()
    return found


def power(x: Float[Tensor, "rows columns"], exponent: float | int) -> Float64[Tensor, "columns columns"]:
    """Return (xᵀx) to the power of a number."""
    values, q = torch.linalg.eigh(x.double().mT @ x.double())
    found: Tensor = (q * values**exponent) @ q.mT
    return found


def low_rank(
    delta: Float[Tensor, "rows columns"], k: int, *, first: int = 0, exponent: float | int = 1
) -> Float64[Tensor, "rows columns"]:
    """Return k components of a matrix, from the one with number ``first`` on, singular values to some power."""
    u, s, vh = _svd(delta.double())
    kept = slice(first, first + k)
    return (u[:, kept] * s[kept] ** exponent) @ vh[kept]


def low_rank_transposed(delta: Float[Tensor, "rows columns"], k: int) -> Float[Tensor, "rows short"]:
    """Return what k leading components give where Vᵀ is taken for V.

    That depends on the signs of singular vectors, and so on the type that they are computed in, which is kept.
    """
    u, s, vh = _svd(delta)
    return (u[:, :k] * s[:k]) @ vh[:, :k].mT


def interference(
    u: Float[Tensor, "rows components"],
    s: Float[Tensor, " components"],
    v: Float[Tensor, "columns components"],
    *,
    left: float | int = 1,
    right: float | int = 1,
) -> Float64[Tensor, "components components"]:
    """Return (UᵀU - I) Σ (VᵀV - I), with as much of each I as ``left`` and ``right`` say."""
    u, s, v = u.double(), s.double(), v.double()
    eye = torch.eye(len(s), dtype=torch.float64)
    return (u.mT @ u - left * eye) @ torch.diag(s) @ (v.mT @ v - right * eye)


def kept_rank(delta: Float[Tensor, "rows columns"], n_tasks: int) -> int:
    """Return how many components each of some tasks keeps of a matrix."""
    return max(1, min(delta.shape) // n_tasks)


def tsv_m(
    deltas: Sequence[Float[Tensor, "rows columns"]],
    k: int = 0,
    *,
    left: bool = True,
    right: bool = True,
    exponent: float | int = 1,
    by_columns: bool = False,
) -> Float64[Tensor, "rows columns"]:
    """Return the update of TSV-M with k components of each task, by default those of Algorithm 1.

    ``left`` and ``right`` tell which singular vectors are orthogonalised, ``by_columns`` that Gram-Schmidt does it.
    """
    k = k or kept_rank(deltas[0], len(deltas))
    parts = [_svd(delta.double()) for delta in deltas]
    u, v = (torch.cat(sides, 1) for sides in ([u[:, :k] for u, _, _ in parts], [vh[:k].mT for _, _, vh in parts]))
    s = torch.cat([s[:k] for _, s, _ in parts])
    orthogonal = gram_schmidt if by_columns else polar
    u, v = (orthogonal(u) if left else u), (orthogonal(v) if right else v)
    return (u * s**exponent) @ v.mT


def least_independent(deltas: Sequence[Float[Tensor, "rows columns"]]) -> float:
    """Return the least singular value of U and V of all tasks, with the components of TSV-M and with all of them."""
    parts = [_svd(delta.double()) for delta in deltas]
    sides = [
        torch.cat([x[:, :k] for x in vectors], 1)
        for k in (kept_rank(deltas[0], len(deltas)), min(deltas[0].shape))
        for vectors in ([u for u, _, _ in parts], [vh.mT for _, _, vh in parts])
    ]
    return min(float(torch.linalg.svdvals(side).min()) for side in sides)


def _svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    return u, s, vh
