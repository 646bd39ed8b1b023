# SPDX-License-Identifier: MIT
"""Proposition 4.1, Theorem 6.1 and what orthogonalising does to interference, as numbers that can be compared."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from tsvlib import linalg, sti
from tsvlib.linalg import Factors

INVERTIBLE = 1e-4
"""Smallest over largest singular value of X from which XᵀX has an inverse to half of the digits of float64."""


class Distances(NamedTuple):
    """Procrustes errors of the tasks' square blocks, and what Theorem 6.1 says of them."""

    full: float
    """Error of whole blocks."""
    full_formula: float
    """The same by the formula sqrt(n) (sqrt(T) - 1)."""
    low: float
    """Error of their first k columns."""
    low_bound: float
    """What that cannot exceed: sqrt(n + k T - 2 sqrt(k T))."""
    applies: bool
    """Whether the theorem promises low <= full: T > 4 and k <= n (T - 2 sqrt(T)) / T."""


def distances(blocks: Sequence[Float[Tensor, "n n"]], k: int) -> Distances:
    """Return both errors of Theorem 6.1 for one orthogonal block per task, and its ingredients."""
    n, n_tasks = len(blocks[0]), len(blocks)
    return Distances(
        full=sti.procrustes_error(torch.cat(list(blocks), dim=1)),
        full_formula=math.sqrt(n) * (math.sqrt(n_tasks) - 1),
        low=sti.procrustes_error(torch.cat([block[:, :k] for block in blocks], dim=1)),
        low_bound=math.sqrt(n + k * n_tasks - 2 * math.sqrt(k * n_tasks)),
        applies=n_tasks > 4 and k <= n * (n_tasks - 2 * math.sqrt(n_tasks)) / n_tasks,
    )


def square_blocks(factors: Sequence[Factors]) -> list[Float[Tensor, "n n"]]:
    """Return the singular vectors of the short side, which are square where all components are kept."""
    return [f.vh.mT if len(f.u) >= f.vh.shape[1] else f.u for f in factors]


def random_blocks(rows: int, columns: Sequence[int], seed: int) -> list[Float64[Tensor, "rows columns"]]:
    """Return random matrices with orthonormal columns, one with each number of ``columns``, at most ``rows``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(rows, count, dtype=torch.float64, generator=generator) for count in columns)
    return [torch.linalg.qr(block).Q for block in drawn]


def whitening_difference(x: Float[Tensor, "rows columns"]) -> float:
    """Return the largest entry of X (XᵀX)^(-1/2) - P Qᵀ in float64, which Proposition 4.1 says is zero.

    Not a number where XᵀX has no inverse, or one that float64 knows to less than half of its digits.
    """
    wide = x.double()
    strongest, *_, weakest = torch.linalg.svdvals(wide).tolist()
    if weakest < INVERTIBLE * strongest:
        return math.nan
    return float((linalg.whiten(wide) - linalg.orthogonalise(wide)).abs().max())


def sides(factors: Sequence[Factors]) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, "columns rank"]]:
    """Return the left and the right singular vectors of one task or more side by side: U and V of Equation 6."""
    return torch.cat([f.u for f in factors], dim=1), torch.cat([f.vh for f in factors]).mT


def rank_one_pair(u_cosine: float, v_cosine: float) -> list[Factors]:
    """Return two tasks of rank one and strength one whose singular vectors have the given cosines (App. A)."""

    def pair(cosine: float) -> list[Float[Tensor, "2 1"]]:
        sine = math.sqrt(1 - cosine**2)
        return [torch.tensor(column, dtype=torch.float64) for column in ([[1.0], [0.0]], [[cosine], [sine]])]

    one = torch.ones(1, dtype=torch.float64)
    return [Factors(u, one, v.mT) for u, v in zip(pair(u_cosine), pair(v_cosine), strict=True)]
