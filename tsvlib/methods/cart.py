# SPDX-License-Identifier: MIT
"""CART, centred arithmetic with rank-reduced task vectors (Choi et al., arXiv 2412.12153, 2024).

The update is the mean of the task matrices plus lambda times the sum over tasks of the best approximation of rank k to
the matrix minus the mean. Without the reduction of rank that sum would be zero, and CART weight averaging: public code
that adds the centred matrices whole does nothing. What is no matrix is averaged.

The paper finds a rank of 8 % good across models, and searches lambda on validation data; the copy in the code of Core
Space has 4 %, rounded up. Here k is 8 % of the components, rounded down to at least one as everywhere in this package,
and lambda is 1 where nothing can be chosen.
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.methods.base import Binding

SHARE = 0.08
"""The share of components that the paper recommends to keep of a centred task matrix."""

LAMBDA = 1.0
"""Where nothing can be chosen."""


def cart(layer: Layer) -> Tensor:
    """Return CART with 8 % of the components and lambda = 1; ``centred`` makes the same method with other settings.

    An expert that did not change a layer is a zero matrix: it takes part in the mean, and what is left of it, minus the
    mean, is cut and added like the others.
    """
    return _merged(layer, SHARE, LAMBDA)


def centred(share: float = SHARE, scale: float = LAMBDA) -> Binding:
    """Return the binding of CART with a share of components to keep, and lambda, the weight of the centred part.

    InputError for a share that is not above 0 and up to 1, or a lambda that is negative or not finite.
    """
    linalg.kept_rank(1, share)
    if not 0 <= scale < math.inf:
        raise InputError(f"{scale} is no lambda of CART; choose zero or a number above, such as {LAMBDA}.")
    return lambda suite: lambda layer: _merged(layer, share, scale)


def _merged(layer: Layer, share: float, scale: float) -> Tensor:
    if not layer.is_matrix:
        return layer.mean()
    k = linalg.kept_rank(min(layer.shape), share)
    mean = torch.zeros(layer.shape, dtype=torch.float64, device=layer.device)
    unchanged = layer.n_tasks
    for change in layer.changes():
        mean += change
        unchanged -= 1
    mean /= layer.n_tasks
    merged = mean.clone()
    for change in layer.changes():
        merged += scale * _reduced(change.double() - mean, k, layer.suite.dtype)
    if unchanged:
        merged += scale * unchanged * _reduced(-mean, k, layer.suite.dtype)
    return merged.to(layer.suite.dtype)


def _reduced(centre: Float64[Tensor, "rows columns"], k: int, dtype: torch.dtype) -> Float64[Tensor, "rows columns"]:
    """Return the best approximation of rank k, found in ``dtype``: float64 is not needed where the suite has less."""
    return linalg.leading(centre.to(dtype), k).product().double() if centre.any() else centre
