# SPDX-License-Identifier: MIT
"""The leading eigenpairs of a large symmetric matrix by the block Lanczos process (Golub and Underwood, 1977).

A tridiagonal reduction multiplies the matrix by one vector after another and waits for memory each time. Here a block
of vectors is multiplied at once, and no more of them are made than the leading eigenvectors need to converge.
Products are NumPy's: its BLAS loses less time on a few rows than PyTorch's.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tsvlib import lapack

BLOCK = 8
"""Vectors that are multiplied at once: fewer converge in a smaller space, more keep the processor busier."""

SMALLEST = 512
"""Rows up to which LAPACK finds an eighth of the eigenvectors about as quickly (measured from 256 to 1024 rows)."""

EXACT = 5e-7
"""The length of ``symmetric @ v - value * v``, over the largest value, with which an eigenvector has converged."""

INDEPENDENT = 0.03
"""The least length of what one vector adds to a block, over that of another, which rounding leaves orthogonal."""

Rows = NDArray[np.float32]


def leading_eigenpairs(
    symmetric: Float[Tensor, "n n"], k: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, "n k"]] | None:
    """Return the k largest eigenvalues, ascending, and their eigenvectors, or None where another way is better.

    That is for matrices that are small, that half of all directions would not be enough for, or that hide one of the
    leading eigenvectors. float32 on the CPU. The process always begins with the same block: same input, same bits.
    """
    n = len(symmetric)
    # Eigenvectors converge in a space of some more than twice their number, if their values fall at all.
    looks = range(-(-2 * k // BLOCK) + 4, n // (2 * BLOCK), 2)
    if n < SMALLEST or not looks:
        return None
    matrix, generator = symmetric.numpy(), torch.Generator().manual_seed(0)
    basis = np.empty(((looks[-1] + 1) * BLOCK, n), np.float32)
    small = np.zeros((len(basis), len(basis)), np.float32)
    block, _ = _orthonormal(_random(n, generator))
    for step in range(looks[-1] + 1):
        start, end = step * BLOCK, (step + 1) * BLOCK
        basis[start:end] = block
        image = block @ matrix
        small[start:end, start:end] = image @ block.T
        block, link = _next(image, basis[:end])
        if step in looks:
            values, mixed = lapack.largest_eigenpairs(torch.from_numpy(small[:end, :end]), k)
            left = np.linalg.norm(link @ mixed[start:].numpy(), axis=0)
            if (left <= EXACT * float(values[-1])).all():
                vectors = basis[:end].T @ mixed.numpy()
                hidden = _hides_larger(matrix, float(values[0]), vectors, generator)
                return None if hidden else (values, torch.from_numpy(vectors))
        small[end : end + BLOCK, start:end] = link[: len(small) - end]
    return None


def _next(image: Rows, basis: Rows) -> tuple[Rows, Rows]:
    """Return the next block, orthonormal to all before, and the part of ``image`` along it."""
    # But for rounding, an image lies in its own block, the one before and the next.
    near = basis[-2 * BLOCK :]
    block, link = _orthonormal(_without(_without(image, near), basis))
    lengths = np.abs(link.diagonal())
    if lengths.min() > INDEPENDENT * lengths.max():
        return block, link
    # A vector that was much shorter than others has been stretched together with its rounding error.
    block, turn = _orthonormal(_without(block, basis))
    return block, turn @ link


def _random(n: int, generator: torch.Generator) -> Rows:
    """Return a block of random vectors."""
    rows: Rows = torch.randn(BLOCK, n, generator=generator).numpy()
    return rows


def _orthonormal(rows: Rows) -> tuple[Rows, Rows]:
    """Return orthonormal rows q and the triangle r with ``rows.T = q.T @ r``."""
    q, r = torch.linalg.qr(torch.from_numpy(rows).mT)
    return q.mT.numpy(), r.numpy()


def _without(rows: Rows, known: Rows) -> Rows:
    """Return what of ``rows`` lies along none of the orthonormal rows ``known``."""
    rest: Rows = np.subtract(rows, (rows @ known.T) @ known)
    return rest


def _hides_larger(matrix: Rows, least: float, vectors: Rows, generator: torch.Generator) -> bool:
    """Return whether a clearly larger eigenvalue than ``least`` belongs to none of ``vectors``.

    No more vectors of one eigenvalue than a block holds are certain to be found. A few powers of the matrix, beside
    what is known, show what is left.
    """
    rest = _without(_random(len(matrix), generator), vectors.T)
    for _ in range(3):
        block, _ = _orthonormal(rest)
        rest = _without(block @ matrix, vectors.T)
    return bool(np.linalg.norm(rest, axis=1).max() > 1.05 * least)
