# SPDX-License-Identifier: MIT
"""Model Breadcrumbs (Davari and Belilovsky, arXiv 2312.06795, 2023): task arithmetic without outliers and trifles.

Of the entries of each layer of each task vector, by magnitude, the smallest share beta and the largest share gamma are
set to zero; what is left of all task vectors is added up, matrix or not, and nothing is rescaled.

A layer is one tensor, or one task matrix where a tensor is taken as several, as the paper has it. Its code takes each
row of a tensor by itself instead, so that every row keeps as many entries. Entries that one leaves unchanged are among
the smallest. The paper's gamma is where the largest begin (99.3 %), here it is how many they are (0.7 %).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.methods.base import Binding, layerwise

SMALLEST = 0.85
LARGEST = 0.007


def breadcrumbs(layer: Layer) -> Tensor:
    """Return Model Breadcrumbs without the smallest 85 % and the largest 0.7 % of each layer of each task.

    ``between`` makes the same with other shares.
    """
    return _added(layer, SMALLEST, LARGEST)


def between(smallest: float, largest: float) -> Binding:
    """Return the binding of Model Breadcrumbs that drops these shares of each layer: beta and gamma.

    InputError unless both are at least 0 and together below 1.
    """
    if not (smallest >= 0 and largest >= 0 and smallest + largest < 1):
        trouble = f"{smallest} and {largest} are no shares of smallest and largest entries to drop"
        raise InputError(f"{trouble}; choose two that are at least 0 and together below 1.")
    return layerwise(lambda layer: _added(layer, smallest, largest))


def crumbs(change: Float[Tensor, "*shape"], smallest: float, largest: float) -> Float[Tensor, "*shape"]:
    """Return the change of one layer with the smallest and the largest share of its entries set to zero.

    Shares are rounded down to whole entries, so a layer of few may lose none. Entries that equal the last one that
    stays all stay, whichever came first.
    """
    sizes = change.abs()
    least, most = (
        sizes.flatten().kthvalue(place).values
        for place in (1 + _entries(smallest, sizes.numel()), sizes.numel() - _entries(largest, sizes.numel()))
    )
    return change.masked_fill((sizes < least) | (sizes > most), 0)


def _entries(share: float, size: int) -> int:
    """Return a share of a number of entries, in which a product that misses a whole number by rounding is that."""
    return math.floor(share * size * (1 + 1e-12))


def _added(layer: Layer, smallest: float, largest: float) -> Tensor:
    # In float64 such sums are practically exact, so that no bit depends on the order of tasks.
    total = torch.zeros(layer.shape, dtype=torch.float64, device=layer.device)
    for change in layer.changes():
        total += crumbs(change, smallest, largest)
    return total.to(layer.suite.dtype)
