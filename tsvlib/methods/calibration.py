# SPDX-License-Identifier: MIT
"""Singular value calibration, SVC (Li et al., *When Shared Knowledge Hurts*, arXiv 2602.05536, 2026).

It follows any method. Where tasks share a direction, merging counts it once for each of them. Of a merged matrix
M = U diag(σ) Vᵀ, the response along component r is a = u_rᵀ M, and that of task i is a_i = u_rᵀ Δ_i. The merged one
holds s_i = ⟨a, a_i⟩ / ‖a_i‖² times the task's own, and the calibrated singular value is

    σ_r / mean over all tasks of max(s_i, bound).

So in the paper and in the last version of the authors' code; an earlier one averages first, and leaves a component
alone as soon as one s_i is negative. FusionBench takes a_i along singular vectors of task i, which is another thing.
A task without a response counts with the bound, as in that code. Components along which no task has one are left as
they are, where that code divides them by the bound. Both are told by size, relative to the task, and so at any scale.

What is no task matrix is left alone. Directions of equal singular values are not determined, so that after Iso-C, of
which all are equal, the result depends on how the decomposition chose among them.
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite
from tsvlib.linalg import Factors
from tsvlib.methods.base import Follow, Merge
from tsvlib.precision import check_held, scaled, unscaled


def svc(suite: Suite, merge: Merge) -> Merge:
    """Return what merges a layer and calibrates it, with the bound 1/T that the authors set after all but TSV-Merge."""
    return svc_bounded(1 / suite.n_tasks)(suite, merge)


def svc_bounded(bound: float) -> Follow:
    """Return the calibration with another bound, such as 1, which never enlarges anything, after TSV-Merge.

    InputError when the bound is not above zero, or not finite.
    """
    if not 0 < bound < math.inf:
        raise InputError(f"{bound} is no bound of a calibration; choose a number above zero, such as 1.")
    return lambda suite, merge: lambda layer: _calibrated(layer, merge(layer), bound)


def held(layer: Layer, whole: Factors) -> Float64[Tensor, "tasks components"]:
    """Return how many times each component of a merged matrix, given in float64, holds the response of each task.

    That is 1 where the response survives as it was, more where it is counted more than once, less where tasks
    interfere; NaN where a task has no response beyond rounding error.
    """
    found = torch.full((layer.n_tasks, len(whole.s)), math.nan, dtype=torch.float64, device=whole.s.device)
    for task, change in layer.numbered_changes():
        own, exponent = scaled(change.double())
        sigma = unscaled(whole.s[None], None if exponent is None else -exponent)[0]
        response = whole.u.mT @ own
        size, along = torch.linalg.vector_norm(response, dim=1), (response * whole.vh).sum(1)
        clear = size > max(own.shape) * torch.finfo(change.dtype).eps * size.max()
        found[task] = torch.where(clear, (sigma / size) * (along / size), math.nan)
    return found


def _calibrated(layer: Layer, merged: Tensor, bound: float) -> Tensor:
    if not layer.is_matrix:
        return merged
    check_held(layer.key, merged)
    whole = linalg.svd(merged.double())
    times = held(layer, whole)
    known = ~times.isnan().all(0)
    # What is rounding error stays so.
    known[linalg.numerical_rank(whole, merged.dtype) :] = False
    divisor = times.nan_to_num(nan=bound).clamp_min(bound).mean(0).masked_fill(~known, 1)
    return Factors(whole.u, whole.s / divisor, whole.vh).product().to(merged.dtype)
