# SPDX-License-Identifier: MIT
"""KnOTS-TIES (Stoica et al., arXiv 2410.19735, ICLR 2025): TIES where all tasks have the same left singular vectors.

The task matrices of a layer side by side have the decomposition [M_1 … M_T] = U diag(s) [V_1ᵀ … V_Tᵀ]. Task t is told
apart by its right factor diag(s) V_tᵀ = Uᵀ M_t. TIES merges these (trims each to its largest entries, elects signs,
averages what agrees), and U takes the result back. What is no matrix is averaged. The method is made for LoRA.

As in the published code, the singular values stay on the right factors, matrices are put side by side across inputs,
the share to keep is of all right factors of a task together, over the whole model, and each task's scaling coefficient
multiplies what has been elected. Unlike it, ours gives every task its own coefficient instead of the first one; keeps
the entries asked for, not one more; elects no sign where the sum is zero, because the fallback on the sign of most of
the model depends on the arbitrary signs of singular vectors; and finds rounding error relative to the matrix instead of
at s <= 1e-5. Where singular values are equal, U and hence the result are not unique.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from tsvlib import devices, linalg
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite, task_matrices
from tsvlib.methods import ties
from tsvlib.methods.base import Binding, Merge, once

NOISE = {torch.float32: 1e-7, torch.float64: 1e-13}
"""By the type of a suite: the size of an entry, beside the largest of its column, up to which it is rounding error."""


def knots_ties(suite: Suite) -> Merge:
    """Return KnOTS-TIES of a suite with a share of 0.2, as TIES has it, and one coefficient for all tasks.

    That coefficient is the alpha of the merge. An expert that did not change a matrix has no vote there.
    """
    return _merging(suite, [1.0] * suite.n_tasks, ties.LARGEST)


def scaled(scales: Sequence[float], share: float = ties.LARGEST) -> Binding:
    """Return the binding of KnOTS-TIES with one scaling coefficient for each expert, in their order.

    InputError for a coefficient or a share that is not above zero, a share above one, and, when a suite is bound, for
    fewer or more coefficients than experts.
    """
    linalg.kept_rank(1, share)
    if unfit := [value for value in scales if not 0 < value < math.inf]:
        raise InputError(f"{unfit[0]} is no scaling coefficient of KnOTS; choose a number above zero, such as 1.")

    def bind(suite: Suite) -> Merge:
        if len(scales) != suite.n_tasks:
            counts = f"{len(scales)} scaling coefficients for {suite.n_tasks} experts"
            raise InputError(f"there are {counts}; give one for each.")
        return _merging(suite, scales, share)

    return bind


def basis(layer: Layer) -> Float64[Tensor, "rows rank"]:
    """Return the left singular vectors of all task matrices side by side, but for those that are rounding error.

    They are eigenvectors of the smaller of the two Gram matrices. In float64 that resolves all that float32 holds; only
    of matrices in float64 is the decomposition a full one.
    """
    rows, columns = layer.shape
    least = max(rows, layer.n_tasks * columns) * torch.finfo(layer.suite.dtype).eps
    if layer.suite.dtype == torch.float64:
        u, s, _ = linalg.svd(_side_by_side(layer))
        return _columns(u, s > least * s[:1])
    if rows <= layer.n_tasks * columns:
        squares = torch.zeros(rows, rows, dtype=torch.float64, device=layer.device)
        for change in layer.changes():
            squares += linalg.gram(change.double().mT)
        values, u = torch.linalg.eigh(squares)
        return _columns(u, values > least**2 * values[-1:])
    whole = _side_by_side(layer)
    values, v = torch.linalg.eigh(linalg.gram(whole))
    kept = values > least**2 * values[-1:]
    found: Tensor = whole @ (_columns(v, kept) / values[kept].sqrt())
    return found


def _columns(x: Float64[Tensor, "rows columns"], kept: Bool[Tensor, " columns"]) -> Float64[Tensor, "rows rank"]:
    found: Tensor = x[:, kept]
    return found


class _Aligned:
    """The right factors of a suite's task matrices, as a suite of their own; found again each time they are read."""

    def __init__(self, suite: Suite, computing: Computing) -> None:
        every = task_matrices(suite, suite.shapes, computing)
        self.layers = {f"{layer.key}:{layer.part}": layer for layer in every}
        self.shapes = {name: (basis(layer).shape[1], layer.shape[1]) for name, layer in self.layers.items()}
        self.n_tasks, self.dtype = suite.n_tasks, suite.dtype

    def changes(self, key: str) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of each expert that changed a matrix, and its right factor."""
        layer = self.layers[key]
        return ((expert, factor.cpu()) for expert, factor in _right_factors(layer, basis(layer)))


def _right_factors(layer: Layer, u: Float64[Tensor, "rows rank"]) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of each expert and its right factor, in the type of the suite.

    Entries that only rounding error fills are zero. However small, they would count in a mean of entries that agree.
    """
    dtype = layer.suite.dtype
    for expert, change in layer.numbered_changes():
        wide = change.double()
        factor = u.mT @ wide
        noise = NOISE[dtype] * wide.abs().amax(0)
        yield expert, factor.masked_fill(factor.abs() <= noise, 0).to(dtype)


def _merging(suite: Suite, scales: Sequence[float], share: float) -> Merge:
    least = once(lambda computing: ties.thresholds(_Aligned(suite, computing), share))

    def merge(layer: Layer) -> Tensor:
        if not layer.is_matrix:
            return layer.mean()
        # Thresholds are entries, so that these must have the same bits whenever they are found again.
        with devices.exact():
            return _elected(layer, least(layer.computing), scales).to(suite.dtype)

    return merge


def _elected(layer: Layer, least: Sequence[float], scales: Sequence[float]) -> Float64[Tensor, "rows columns"]:
    u = basis(layer)

    def trimmed() -> Iterator[tuple[int, Float64[Tensor, "rank columns"]]]:
        for expert, factor in _right_factors(layer, u):
            wide = factor.double()
            yield expert, wide.masked_fill(wide.abs() < least[expert], 0)

    total = torch.zeros(u.shape[1], layer.shape[1], dtype=torch.float64, device=layer.device)
    for _, factor in trimmed():
        total += factor
    merged, count = torch.zeros_like(total), torch.zeros_like(total)
    for expert, factor in trimmed():
        agreeing = factor.sign() * total.sign() > 0
        merged += scales[expert] * factor * agreeing
        count += agreeing
    return u @ (merged / count.clamp_min(1))


def _side_by_side(layer: Layer) -> Float64[Tensor, "rows side"]:
    none = torch.zeros(layer.shape[0], 0, dtype=torch.float64, device=layer.device)
    return torch.cat([none, *(change.double() for change in layer.changes())], dim=1)
