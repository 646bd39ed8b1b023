# SPDX-License-Identifier: MIT
"""The leading eigenpairs of a large symmetric matrix by the block Lanczos process (Golub and Underwood, 1977).

A tridiagonal reduction multiplies the matrix by one vector after another and waits for memory each time. Here a block
of vectors is multiplied at once, and no more of them are made than the leading eigenvectors need to converge.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib import lapack

BLOCK = 16
"""Vectors that are multiplied at once: fewer converge with less work, more keep the processor busier."""

SMALLEST = 512
"""Rows below which the full reduction is as quick."""

EXACT = 5e-7
"""The length of ``symmetric @ v - value * v``, over the largest value, with which an eigenvector has converged."""


def leading_eigenpairs(
    symmetric: Float[Tensor, "n n"], k: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, "n k"]] | None:
    """Return the k largest eigenvalues, ascending, and their eigenvectors, or None where another way is better.

    That is for matrices that are small, that half of all directions would not be enough for, or that hide one of the
    leading eigenvectors. float32 on the CPU. The process always begins with the same block: same input, same bits.
    """
    n = len(symmetric)
    most = n // (2 * BLOCK)
    # Eigenvectors converge in a space of some more than twice their number, if their values fall at all.
    first_look = -(-2 * k // BLOCK) + 4
    if n < SMALLEST or first_look >= most:
        return None
    basis = torch.empty(most * BLOCK, n)
    small = torch.zeros(most * BLOCK, most * BLOCK)
    generator = torch.Generator().manual_seed(0)
    block, _ = _orthonormal(torch.randn(BLOCK, n, generator=generator))
    for step in range(most):
        start, end = step * BLOCK, (step + 1) * BLOCK
        basis[start:end] = block
        image = block @ symmetric
        small[start:end, start:end] = image @ block.mT
        block, link = _next(image, basis[:end])
        if step >= first_look and (step - first_look) % 2 == 0:
            values, mixed = lapack.largest_eigenpairs(small[:end, :end], k)
            if bool(((link @ mixed[start:]).norm(dim=0) <= EXACT * values[-1]).all()):
                vectors = basis[:end].mT @ mixed
                return None if _hides_larger(symmetric, values[0], vectors, generator) else (values, vectors)
        if step + 1 < most:
            small[end : end + BLOCK, start:end] = link
    return None


def _next(
    image: Float[Tensor, "block n"], basis: Float[Tensor, "known n"]
) -> tuple[Float[Tensor, "block n"], Float[Tensor, "block block"]]:
    """Return the next block, orthonormal to all before, and the part of ``image`` along it."""
    # But for rounding, an image lies in its own block, the one before and the next; what is left of it may be so
    # short that rounding takes over. So it is brought to unit length before it is set right.
    near = basis[-2 * BLOCK :]
    rough, length = _orthonormal(image - (image @ near.mT) @ near)
    block, turn = _orthonormal(rough - (rough @ basis.mT) @ basis)
    return block, turn @ length


def _orthonormal(rows: Float[Tensor, "block n"]) -> tuple[Float[Tensor, "block n"], Float[Tensor, "block block"]]:
    """Return orthonormal rows q and the triangle r with ``rows.mT = q.mT @ r``."""
    q, r = torch.linalg.qr(rows.mT)
    return q.mT, r


def _hides_larger(
    symmetric: Float[Tensor, "n n"], least: Tensor, vectors: Float[Tensor, "n k"], generator: torch.Generator
) -> bool:
    """Return whether a clearly larger eigenvalue than ``least`` belongs to none of ``vectors``.

    No more vectors of one eigenvalue than a block holds are certain to be found. A few powers of the matrix, beside
    what is known, show what is left.
    """
    block = torch.randn(BLOCK, len(symmetric), generator=generator)
    length = torch.zeros(())
    for _ in range(3):
        q, _ = _orthonormal(block - (block @ vectors) @ vectors.mT)
        block = q @ symmetric
        block -= (block @ vectors) @ vectors.mT
        length = block.norm(dim=1).max()
    return bool(length > 1.05 * least)
