# SPDX-License-Identifier: MIT
"""Subspace Boosting (Skorobogat, Roth and Georgescu, arXiv 2506.16506, 2025), a post-process of any method.

Sums of many task matrices collapse to few strong directions. Of the merged matrix U diag(s) Vᵀ let s* be the first
singular value, from the largest, with which the running sum reaches the share beta of all. Every smaller singular value
becomes s*. For beta = 0 that makes all of them the largest. What is no matrix stays as it was merged.

The paper boosts q, k and v apart, and takes beta from 0, 0.01 and 0.02 for vision. Here a matrix is what the rule of
the computation says: ``MatrixRule(split_qkv=True)`` boosts q, k and v apart, and the method before then merges them
apart as well. The code for mergekit boosts linear layers of attention and MLP alone, ours every task matrix.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite
from tsvlib.linalg import Factors
from tsvlib.methods.base import Follow, Merge
from tsvlib.precision import check_held

BETA = 0.01
"""The share of the nuclear norm after which singular values are raised, where nothing can be chosen."""


def boosting(suite: Suite, merge: Merge) -> Merge:
    """Return what merges layers as ``merge`` does and boosts them with beta = 0.01."""
    return boosted(BETA)(suite, merge)


def boosted(beta: float) -> Follow:
    """Return Subspace Boosting with another beta; InputError when it is not from 0 to 1."""
    if not 0 <= beta <= 1:
        raise InputError(
            f"{beta} is no share of a nuclear norm to boost after; choose one from 0 to 1, such as {BETA}."
        )

    return lambda suite, merge: lambda layer: _boosted(layer, merge(layer), beta)


def _boosted(layer: Layer, merged: Tensor, beta: float) -> Tensor:
    check_held(layer.key, merged)
    return _raised(merged, beta) if layer.is_matrix else merged


def _raised(merged: Float[Tensor, "rows columns"], beta: float) -> Float[Tensor, "rows columns"]:
    """Return a matrix whose weak singular values are as large as the one that reaches the share ``beta``.

    As in Iso-C, directions that only rounding error fills are left out, since they are arbitrary, and the weakest of
    the others come to count as much as strong ones, so they are computed in float64.
    """
    whole = linalg.svd(merged.double())
    kept = linalg.truncate(whole, max(1, linalg.numerical_rank(whole, merged.dtype)))
    running = kept.s.cumsum(0)
    place = min(int((running < beta * running[-1]).sum()), len(running) - 1)
    return Factors(kept.u, torch.maximum(kept.s, kept.s[place]), kept.vh).product().to(merged.dtype)
