# SPDX-License-Identifier: MIT
"""LiNeS, layer-increasing network scaling (Wang et al., arXiv 2410.17146, ICLR 2025), a post-process of any method.

The update of block l of L, counted from 0, is multiplied by alpha + beta l / (L - 1), and everything outside the blocks
by alpha. For the merged update D of T task vectors, alpha = ‖sum of task vectors‖₁ / (T ‖D‖₁) over the whole model,
which is 1/T for task arithmetic; beta is chosen on validation data, by the authors from 0.1 to 1, for TIES to 1.5. The
result is added as it is, so that the coefficient of the merge stays 1.

The number of a block is the first whole number between dots in the name of a tensor. (The published code, which is told
L, takes the smallest such number: of `layers.11.mlp.0.weight` it makes block 0.) What comes before it names a stack of
blocks, which ends with the largest number there, so every stack of a model goes from alpha to alpha + beta on its own:
image and text encoder, or encoder and decoder. A stack of one block counts as none.
"""

import math
import re
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

from tsvlib import progress
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.layers import Suite, layers_of
from tsvlib.methods.base import Follow, Merge, once
from tsvlib.precision import check_held

BETA = 0.5
"""The middle of the range that the authors search, where nothing can be chosen."""

_BLOCK = re.compile(r"\.([0-9]+)\.")
Found = TypeVar("Found")


def lines(suite: Suite, merge: Merge) -> Merge:
    """Return what merges layers as ``merge`` does and scales them by their depth, with beta = 0.5."""
    return by_depth(BETA)(suite, merge)


def by_depth(beta: float) -> Follow:
    """Return LiNeS with another beta; InputError when it is negative or not finite.

    To know alpha, the first layer that is asked for merges the whole suite once, layer by layer.
    """
    if not 0 <= beta < math.inf:
        raise InputError(f"{beta} is no beta of LiNeS; choose zero or a number above, such as {BETA}.")

    def then(suite: Suite, merge: Merge) -> Merge:
        deep, alpha = depths(suite.shapes), once(lambda computing: _alpha(suite, merge, computing))
        return lambda layer: (alpha(layer.computing) + beta * deep.get(layer.key, 0.0)) * merge(layer)

    return then


def depths(names: Iterable[str]) -> dict[str, float]:
    """Return how deep in its stack of blocks each tensor is that belongs to one, from 0 to 1.

    >>> depths(["conv.weight", "net.0.weight", "net.1.mlp.7.bias", "net.2.weight", "head.0.weight"])
    {'net.0.weight': 0.0, 'net.1.mlp.7.bias': 0.5, 'net.2.weight': 1.0, 'head.0.weight': 0.0}
    """
    found = {name: match for name in names if (match := _BLOCK.search(name))}
    places = {name: (name[: match.start()], int(match[1])) for name, match in found.items()}
    last: dict[str, int] = {}
    for stack, block in places.values():
        last[stack] = max(block, last.get(stack, 0))
    return {name: block / max(1, last[stack]) for name, (stack, block) in places.items()}


def _alpha(suite: Suite, merge: Merge, computing: Computing) -> float:
    """Return by how much a merged update is larger or smaller than the mean of the task vectors, inverted."""
    summed = merged = 0.0
    with progress.track(len(suite.shapes), "measuring the update", delay=5.0) as bar:
        for key in suite.shapes:
            for layer in layers_of(suite, key, computing):
                update = merge(layer)
                check_held(key, update)
                merged += _size(update)
                summed += _size(layer.total())
            bar.update()
    # An update that is zero stays so, whatever it is multiplied by.
    return summed / (suite.n_tasks * merged) if merged else 0.0


def _size(x: Tensor) -> float:
    return float(x.abs().sum(dtype=torch.float64))
