# SPDX-License-Identifier: MIT
"""How much tasks disturb each other: singular task interference, and the distance to vectors that would not.

Not named ``interference``, because the module would take the place of the function ``tsvlib.interference``.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.linalg import Factors
from tsvlib.precision import plain, scaled, unscaled


class Interference(NamedTuple):
    """Singular task interference in the two norms that its definition may mean."""

    entrywise: float
    """Sum of the absolute entries."""
    induced: float
    """Largest sum of absolute entries in a column: the operator norm from l1 to l1."""


def procrustes_error(x: Float[Tensor, "rows columns"]) -> float:
    """Return ‖orthogonalise(x) - x‖, the Frobenius distance to the closest orthonormal matrix (Thm. 6.1, Fig. 5).

    It equals sqrt(sum (d - 1)²) over the singular values d of x, from which it is computed in float64.
    """
    wide, exponent = scaled(plain(x if len(x) >= x.shape[1] else x.mT).double())
    return float((unscaled(torch.linalg.eigvalsh(linalg.gram(wide)).clamp_min(0).sqrt()[None], exponent) - 1).norm())


def singular_task_interference(factors: Sequence[Factors]) -> Interference:
    """Return STI = ‖(UᵀU - I) Σ (VᵀV - I)‖₁ (Eq. 6) of the task matrices of one layer.

    U and V hold the singular vectors of all tasks side by side, Σ is block-diagonal. The value is in the unit of
    the singular values, zero when tasks are orthogonal to each other, and depends neither on the order of tasks
    nor on signs of singular vectors. The paper leaves open which norm it means; both come from one pass.
    """
    return nested_interference(factors, [len(factors)])[0]


def remaining_interference(factors: Sequence[Factors]) -> Interference:
    """Return the interference that is left when a method has changed the vectors: Eq. 6 as it is written.

    Norms and unit are the same. The vectors of one task need not be orthonormal any more: where those of all tasks
    outnumber the dimensions, orthogonalising them makes the rows of U orthonormal and cannot make UᵀU = I. Then what a
    task has in common with itself beyond I counts as well. For tasks whose vectors are orthonormal this is
    ``singular_task_interference``, up to the rounding of these vectors.
    """
    return _measured(factors, [len(factors)], orthonormal=False)[0]


def nested_interference(factors: Sequence[Factors], suites: Sequence[int]) -> list[Interference]:
    """Return STI of the first task matrices of one layer, as many as each of ``suites`` says.

    Where components outnumber the short side, what several suites share is computed once. Fewer components may have far
    less in common than they are strong, and are compared one by one, in float64. No task at all disturbs none.
    InputError for a suite of more than there are.
    """
    if strays := [size for size in suites if not 0 <= size <= len(factors)]:
        raise InputError(f"a suite of {strays[0]} cannot be taken from {len(factors)} task matrices; choose another.")
    return _measured(factors, suites, orthonormal=True)


def _measured(factors: Sequence[Factors], suites: Sequence[int], *, orthonormal: bool) -> list[Interference]:
    """Return Eq. 6 of the first tasks of each suite; ``orthonormal`` tells that the vectors of each task are."""
    if not factors:
        return [Interference(0.0, 0.0) for _ in suites]
    row, exponent = scaled(torch.cat([plain(f.s) for f in factors])[None])
    values = torch.split(row[0], [len(f.s) for f in factors])
    units = [Factors(plain(f.u), s, plain(f.vh)) for f, s in zip(factors, values, strict=True)]
    short = min(len(units[0].u), units[0].vh.shape[1])
    many = [size for size in suites if sum(len(s) for s in values[:size]) > short]
    columns = dict(zip(many, _of_many(units, many, orthonormal), strict=True)) if many else {}
    few = [size for size in suites if size not in many]
    columns |= {size: _of_few(units[:size], orthonormal) if size else row.new_zeros(0) for size in few}
    unit = 1.0 if exponent is None else 2.0 ** int(exponent)
    every = [unit * columns[size] for size in suites]
    return [Interference(float(each.sum()), float(each.max()) if len(each) else 0.0) for each in every]


def _of_few(factors: Sequence[Factors], orthonormal: bool) -> Float64[Tensor, " components"]:
    """Return the column sums of the matrix of Eq. 6, as it is written there."""
    u, s, v = (torch.cat(parts, -1).double() for parts in zip(*((f.u, f.s, f.vh.mT) for f in factors), strict=True))
    left, right = (linalg.gram(x) for x in (u, v))
    if orthonormal:
        # But for rounding, the singular vectors of one task have nothing in common.
        task = torch.cat([torch.full_like(f.s, number) for number, f in enumerate(factors)])
        left, right = (gram * (task[:, None] != task) for gram in (left, right))
    else:
        for gram in (left, right):
            gram.diagonal().sub_(1)
    sums: Tensor = ((left * s) @ right).abs().sum(0)
    return sums


def _of_many(
    factors: Sequence[Factors], suites: Sequence[int], orthonormal: bool
) -> list[Float64[Tensor, " components"]]:
    """Return the same sums for each suite, in the type of the factors.

    With M = UΣVᵀ, the block of tasks i and j is (UᵢᵀM - ΣᵢVᵢᵀ)Vⱼ - (UᵢᵀUⱼ)Σⱼ + Σᵢ[i = j]. So no more than one such
    block is held at a time, and UᵢᵀUⱼ, for the longer vectors, serves two of them in every suite.
    """
    tall = len(factors[0].u) >= factors[0].vh.shape[1]
    turned = factors if tall else [Factors(f.vh.mT, f.s, f.u.mT) for f in factors]
    rests = _rests(turned, set(suites))
    sums = {size: [torch.zeros_like(f.s, dtype=torch.float64) for f in turned[:size]] for size in suites}

    def add(size: int, i: int, j: int, block: Float[Tensor, "rank other_rank"]) -> None:
        # The columns of the matrix as it was defined are the rows of the turned one.
        sums[size][j if tall else i] += block.abs().sum(0 if tall else 1, dtype=torch.float64)

    for i, one in enumerate(turned):
        larger = [size for size in rests if size > i]
        # Where the vectors of one task are orthonormal, UᵢᵀUᵢ = I, whose product with Σᵢ is what is added back.
        own = None if orthonormal else (one.u.mT @ one.u) * -one.s
        if own is not None:
            own.diagonal().add_(one.s)
        for size in larger:
            block = rests[size][i] @ one.vh.mT
            add(size, i, i, block if own is None else block.add_(own))
        for j, two in enumerate(turned[: i if larger else 0]):
            overlap = one.u.mT @ two.u
            for size in larger:
                add(size, i, j, torch.addmm(overlap * two.s, rests[size][i], two.vh.mT, beta=-1))
                add(size, j, i, torch.addmm(overlap.mT * one.s, rests[size][j], one.vh.mT, beta=-1))
    return [torch.cat(sums[size]) for size in suites]


def _rests(factors: Sequence[Factors], suites: AbstractSet[int]) -> dict[int, list[Tensor]]:
    """Return UᵢᵀM - ΣᵢVᵢᵀ for each task of each suite: what the others put into its left singular vectors."""
    rests, total = {}, factors[0].u.new_zeros(len(factors[0].u), factors[0].vh.shape[1])
    for size, factor in enumerate(factors, start=1):
        total += factor.product()
        if size in suites:
            rests[size] = [f.u.mT @ total - f.s[:, None] * f.vh for f in factors[:size]]
    return rests
