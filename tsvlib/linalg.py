# SPDX-License-Identifier: MIT
"""The paper's mathematics on single matrices: decomposition and orthogonalisation.

Symbols follow the paper: ``delta`` = U diag(s) Vᵀ is a task matrix, the columns of U and V are its task
singular vectors, k is the number of them that is kept. Nothing here knows of models or files. Everything runs
on the device of its arguments and keeps no graph. Half precision is widened to float32 first, what needs more than
single precision is done in float64, and numbers of any size are scaled before they are squared.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib import devices, eigen
from tsvlib.errors import InputError
from tsvlib.precision import plain, scaled, unscaled, wider

SOLVER = "gram-11"
"""Names the way ``leading`` decomposes, so that stored factors of another way are never taken for its own."""

STEEP = {torch.float32: 3e-2, torch.float64: 1e-5}
"""By the precision of a Gram matrix: the least ratio of a singular value to the largest that it resolves well."""

WELL_CONDITIONED = {torch.float32: 2e-2, torch.float64: 2e-9}
"""By the precision of a Gram matrix: the least ratio of its eigenvalues with which to invert their roots."""

NEAR_DEPENDENT = 0.3
"""The least distance of a direction of unit length from the others with which a Gram matrix in float32 serves."""

MARGIN = 8
"""Singular vectors beyond the last one wanted that take part in its refinement."""


class Factors(NamedTuple):
    """A matrix as u @ diag(s) @ vh, with the singular values in descending order; or a stack of such matrices."""

    u: Float[Tensor, "*tasks rows rank"]
    s: Float[Tensor, "*tasks rank"]
    vh: Float[Tensor, "*tasks rank columns"]

    def product(self) -> Float[Tensor, "*tasks rows columns"]:
        """Return the matrix that the factors stand for."""
        s, exponent = scaled(self.s[..., None, :])
        return unscaled((self.u * s) @ self.vh, exponent)


def svd(delta: Float[Tensor, "*tasks rows columns"]) -> Factors:
    """Return the thin singular value decomposition; signs of singular vectors are LAPACK's choice."""
    return Factors(*torch.linalg.svd(plain(delta), full_matrices=False))


def leading(delta: Float[Tensor, "*tasks rows columns"], k: int) -> Factors:
    """Return the k leading singular components, or all of them when there are fewer; same numbers, same bits.

    Eigenvectors of the Gram matrix of the short side give one set of singular vectors, ``delta`` maps them to the
    other. Squaring loses half of the digits. So a Gram matrix in float32 serves only while the last component
    wanted stands well above its rounding error, and what it gives is refined in float64; below, the Gram matrix is
    in float64, and for the steepest spectra the full decomposition takes over. float64 input always gets that.
    On a GPU the Gram matrix is always in float64: its eigenvectors take as long as those of float32, which cuSOLVER
    leaves less exact than LAPACK does (bench/README.md). A stack of matrices, which suits a GPU, is decomposed as its
    most demanding matrix needs.

    Raises:
        InputError: k is less than one, or ``delta`` holds NaN or Inf.
    """
    _check_rank(k)
    with devices.exact():
        x, exponent = scaled(plain(delta))
        u, s, vh = (part.contiguous() for part in _leading(x, k))
        return Factors(u, unscaled(s[..., None, :], exponent)[..., 0, :], vh)


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
    """Return the k leading components, or all of them when there are fewer; InputError when k is less than one."""
    _check_rank(k)
    return Factors(factors.u[..., :k], factors.s[..., :k], factors.vh[..., :k, :])


def numerical_rank(factors: Factors, dtype: torch.dtype | None = None) -> int:
    """Return how many singular values exceed rounding error, max(rows, columns) * eps * the largest.

    That is the error of the type that the matrix was rounded to, ``dtype``: by default that of the factors.
    """
    size, s = max(factors.u.shape[0], factors.vh.shape[1]), factors.s.double()
    return int((s > size * torch.finfo(dtype or factors.s.dtype).eps * s[:1]).sum())


def signed(factors: Factors) -> Factors:
    """Return the factors with the signs that make the largest entry of every left singular vector positive."""
    signs = factors.u.take_along_dim(factors.u.abs().argmax(-2, keepdim=True), -2).sign()
    return Factors(factors.u * signs, factors.s, factors.vh * signs.mT)


def orthogonalise(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Return the closest matrix with orthonormal columns, or rows if x is wide (Procrustes; Alg. 1, line 8).

    This is the polar factor P Qᵀ of x = P D Qᵀ, whatever the signs of the SVD. When x lacks full rank, the
    missing directions stay zero instead of being filled at random, so that the answer is always unique.
    The way of Proposition 4.1 is taken where it is as exact as the type of x allows, and the SVD elsewhere.

    >>> orthogonalise(torch.tensor([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.]])
    """
    if x.shape[0] < x.shape[1]:
        return orthogonalise(x.mT).mT
    x, _ = scaled(plain(x))
    if (root := inverse_root(x)) is not None:
        return (x.to(root.dtype) @ root).to(x.dtype)
    p, d, qh = svd(x.double())
    eps = torch.finfo(x.dtype).eps
    k = int((d > max(4 * eps, len(d) * torch.finfo(torch.float64).eps) * d[:1]).sum())
    return (p[:, :k] @ qh[:k]).to(x.dtype)


def polar_product(factors: Factors) -> Float[Tensor, "rows columns"]:
    """Return the product of factors after the columns of u, and the rows of vh, have been made orthonormal (Alg. 1).

    | components | way | what it saves |
    |---|---|---|
    | more than rows or columns | between the inverse roots of both Gram matrices | sides as long as the components |
    | at most half of the rows | u times (inverse root times the rest) | one product with the long u |
    | else, or where a root would be inexact | ``orthogonalise`` on both sides | nothing |

    Wide products are those of their transposes.
    """
    u, s, vh = factors
    if len(u) < vh.shape[1]:
        return polar_product(Factors(vh.mT, s, u.mT)).mT
    if len(s) > len(u) and (product := _between_roots(factors)) is not None:
        return product
    right = s[:, None] * orthogonalise(vh)
    root = inverse_root(u) if len(u) >= 2 * len(s) else None
    if root is None:
        return orthogonalise(u) @ right
    return (u.to(root.dtype) @ (root @ right.to(root.dtype))).to(u.dtype)


def inverse_root(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "columns columns"] | None:
    """Return (xᵀx)^(-1/2): in float32 if x is tall and well-conditioned, else in float64; None if inexact."""
    x, exponent = scaled(plain(x))
    tall = len(x) >= 2 * x.shape[1]
    for dtype in () if x.dtype == torch.float64 else WELL_CONDITIONED if tall else (torch.float64,):
        values, q = torch.linalg.eigh(gram(x.to(dtype)))
        if values[0] > WELL_CONDITIONED[dtype] * values[-1]:
            root = gram((q * values.pow(-0.25)).mT)
            return unscaled(root, None if exponent is None else -exponent)
    return None


def whiten(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Return x (xᵀx)^(-1/2), the same matrix as ``orthogonalise`` by another way (Proposition 4.1; App. D.2.1).

    For tall x. Squaring x squares its condition number, so the eigenvalues are taken in float64, and those that
    are rounding error are left out instead of inverted: dependent columns cannot blow up, they stay zero.
    """
    wide, _ = scaled(plain(x).double())
    values, q = torch.linalg.eigh(gram(wide))
    floor = len(values) * torch.finfo(torch.float64).eps * values[-1:]
    root: Tensor = (q * torch.where(values > floor, values, math.inf).rsqrt()) @ q.mT
    return (wide @ root).to(wider(x.dtype))


def _between_roots(whole: Factors) -> Tensor | None:
    """Return the polar product for components that outnumber both dimensions, or None where it would be inexact.

    With A = (UUᵀ)^(-1/2) and B = (VVᵀ)^(-1/2), AU and BV have orthonormal rows, and AU diag(s) VᵀB needs the
    many components only in the product of the factors as they are.
    """
    left, right = inverse_root(whole.u.mT), inverse_root(whole.vh)
    if left is None or right is None:
        return None
    dtype = torch.promote_types(left.dtype, right.dtype)
    product = Factors(*(part.to(dtype) for part in whole)).product()
    return (left.to(dtype) @ product @ right.to(dtype)).to(whole.s.dtype)


def _leading(delta: Float[Tensor, "*tasks rows columns"], k: int) -> Factors:
    if delta.dtype == torch.float64:
        return truncate(svd(delta), k)
    rows, columns = delta.shape[-2:]
    if rows < columns:
        u, s, vh = _leading(delta.mT, k)
        return Factors(vh.mT, s, u.mT)
    k = min(k, columns)
    # Towards the end of a spectrum float32 has lost its digits, so there is no need to try.
    ways = {torch.float32: _refined} if 2 * k <= columns and delta.device.type == "cpu" else {}
    for dtype, way in (ways | {torch.float64: _mapped}).items():
        factors = way(delta, k)
        if factors and bool((factors.s[..., -1] > STEEP[dtype] * factors.s[..., 0]).all()):
            return Factors(*(part.to(delta.dtype) for part in factors))
    return truncate(svd(delta), k)


def _check_rank(k: int) -> None:
    if k < 1:
        raise InputError(f"{k} is no rank to truncate to; keep at least one component.")


def gram(x: Float[Tensor, "*tasks rows columns"]) -> Float[Tensor, "*tasks columns columns"]:
    """Return xᵀx, the Gram matrix of the columns."""
    if x.ndim > 2 or x.device.type != "cpu":
        return x.mT @ x
    # NumPy notices that it is symmetric, and computes half of it.
    array = x.numpy()
    return torch.from_numpy(array.T @ array)


def _refined(delta: Float[Tensor, "*tasks rows columns"], k: int) -> Factors | None:
    """Return k singular components from a Gram matrix in float32, or None if delta has hardly more than these.

    The error tilts singular vectors towards all others. Mapping them through delta and back takes out most of what is
    far off, and a few more vectors than are wanted leave room for their neighbours: within the space of all these,
    the small problem of Rayleigh and Ritz, in float64, sets the directions right.
    """
    _, v = eigen.largest_eigenpairs(gram(delta), min(k + MARGIN, delta.shape[-1]))
    image = delta @ v
    # The columns fade as the singular values do; at one length they are far from dependent, if there are any.
    image /= image.norm(dim=-2, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    half, failed = torch.linalg.cholesky_ex(gram(image))
    inverse, singular = torch.linalg.inv_ex(half)
    # The distance of each direction from all others; the diagonal of ``half`` has that from the ones before, and may be
    # far from zero where together they are dependent.
    distances = 1 / inverse.norm(dim=-2)
    if bool((failed | singular).any()) or not bool((distances >= NEAR_DEPENDENT).all()):
        return None
    u = image @ inverse.mT
    back = delta.mT @ u
    values, w = torch.linalg.eigh(gram(back.double()))
    turn = w.flip(-1)[..., :k]
    s = values.flip(-1)[..., :k].clamp_min(0).sqrt()
    return Factors(u @ turn.float(), s, (back @ (turn / s[..., None, :]).float()).mT)


def _mapped(delta: Float[Tensor, "*tasks rows columns"], k: int) -> Factors:
    """Return k singular components from a Gram matrix in float64."""
    wide = delta.double()
    values, v = eigen.largest_eigenpairs(gram(wide), k)
    v, s = v.flip(-1), values.flip(-1).clamp_min(0).sqrt()
    return Factors(wide @ (v / s[..., None, :]), s, v.mT)
