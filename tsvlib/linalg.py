# SPDX-License-Identifier: MIT
"""The paper's mathematics on single matrices: truncation, orthogonalisation, interference.

Symbols follow the paper: ``delta`` = U diag(s) Vᵀ is a task matrix, the columns of U and V are its task
singular vectors, k is the number of them that is kept. Nothing here knows of models or files.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib.errors import InputError


class Factors(NamedTuple):
    """A matrix as u @ diag(s) @ vh, with the singular values in descending order."""

    u: Float[Tensor, "rows rank"]
    s: Float[Tensor, " rank"]
    vh: Float[Tensor, "rank columns"]

    def product(self) -> Float[Tensor, "rows columns"]:
        """Return the matrix that the factors stand for."""
        return (self.u * self.s) @ self.vh


def svd(delta: Float[Tensor, "rows columns"]) -> Factors:
    """Return the thin singular value decomposition; signs of singular vectors are LAPACK's choice."""
    return Factors(*torch.linalg.svd(delta, full_matrices=False))


def kept_rank(rank: int, fraction: float) -> int:
    """Return how many of ``rank`` components a fraction in (0, 1] stands for: rounded down, at least one.

    A product that misses a whole number only through rounding counts as that number.

    >>> int(49 * (1 / 49)), kept_rank(49, 1 / 49), kept_rank(768, 1 / 14)
    (0, 1, 54)
    """
    if not 0 < fraction <= 1:
        raise InputError(f"{fraction} is no fraction of components to keep; choose one above 0 and up to 1.")
    return max(1, math.floor(rank * fraction * (1 + 1e-12)))


def truncate(factors: Factors, k: int) -> Factors:
    """Return the k leading components, or all of them when there are fewer."""
    if k < 1:
        raise InputError(f"{k} is no rank to truncate to; keep at least one component.")
    return Factors(factors.u[:, :k], factors.s[:k], factors.vh[:k])


def low_rank(delta: Float[Tensor, "rows columns"], k: int) -> Float[Tensor, "rows columns"]:
    """Return the closest matrix of rank k (Eckart-Young).

    >>> low_rank(torch.diag(torch.tensor([3.0, 2.0, 1.0])), 2).diagonal()
    tensor([3., 2., 0.])
    """
    return truncate(svd(delta), k).product()


def numerical_rank(factors: Factors) -> int:
    """Return how many singular values exceed rounding error, max(rows, columns) * eps * the largest."""
    size = max(factors.u.shape[0], factors.vh.shape[1])
    return int((factors.s > size * torch.finfo(factors.s.dtype).eps * factors.s[:1]).sum())


def orthogonalise(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Return the closest matrix with orthonormal columns, or rows if x is wide (Procrustes).

    This is the polar factor P Qᵀ of x = P D Qᵀ, whatever the signs of the SVD. When x lacks full rank, the
    missing directions stay zero instead of being filled at random, so that the answer is always unique.

    >>> orthogonalise(torch.tensor([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.]])
    """
    factors = svd(x)
    k = numerical_rank(factors)
    return factors.u[:, :k] @ factors.vh[:k]


def whiten(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Return x (xᵀx)^(-1/2), the same matrix as ``orthogonalise`` by another way (Proposition 4.1).

    For tall x with independent columns; InputError otherwise. Squaring x squares its condition number, so the
    eigenvalues are taken in float64.
    """
    gram = x.double().T @ x.double()
    values, q = torch.linalg.eigh(gram)
    if values[0] <= len(gram) * torch.finfo(torch.float64).eps * values[-1]:
        raise InputError("Whitening needs linearly independent columns; use `orthogonalise` for this matrix.")
    inverse_root: Tensor = (q * values.rsqrt()) @ q.T
    return (x.double() @ inverse_root).to(x.dtype)


def singular_task_interference(factors: Sequence[Factors]) -> float:
    """Return STI = ‖(UᵀU - I) Σ (VᵀV - I)‖₁ (Eq. 6) of one layer's task matrices.

    U and V hold the singular vectors of all tasks side by side. The value is zero when they are orthogonal
    from task to task; the order of tasks and the signs of singular vectors do not matter. The paper leaves
    open which norm it means; here it is the sum of absolute entries.
    """
    u = torch.cat([factor.u for factor in factors], dim=1)
    s = torch.cat([factor.s for factor in factors])
    vh = torch.cat([factor.vh for factor in factors])
    identity = torch.eye(len(s), dtype=s.dtype, device=s.device)
    overlap_u, overlap_v = u.T @ u - identity, vh @ vh.T - identity
    return float(((overlap_u * s) @ overlap_v).abs().sum())
