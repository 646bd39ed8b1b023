# SPDX-License-Identifier: MIT
"""The choice of alpha: few scores of a rising grid instead of all."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, SupportsFloat

from torch import Tensor

from tsvlib.errors import InputError
from tsvlib.methods.base import TENTHS
from tsvlib.taskvectors import StateDict, TaskVector

FIRST_ALPHA = 2
STRIDE = 5
GOLDEN = 0.382


class AlphaSearch(NamedTuple):
    """The chosen alpha, its validation score, and how many alphas were scored to find it."""

    alpha: float
    score: float
    evaluations: int


def search_alpha(
    update: StateDict,
    base: StateDict,
    score: Callable[[dict[str, Tensor]], SupportsFloat],
    alphas: Sequence[float] = TENTHS,
) -> AlphaSearch:
    """Return the alpha of a rising grid whose model, base + alpha * update, has the highest score, as the paper does.

    ``score`` takes a state dict in the base's types and returns a number, such as the mean accuracy on validation
    inputs; it is called at most 10 times for the default grid of 0.1 to 3. InputError for a grid that does not rise and
    for a score that is no number.
    """
    return best_alpha(lambda alpha: float(score(TaskVector(update).apply(base, alpha))), alphas)


def best_alpha(score: Callable[[float], float], grid: Sequence[float]) -> AlphaSearch:
    """Return the best alpha of a rising grid, with at most 10 evaluations on a grid of 30.

    The search climbs from small alphas in strides until the score falls, then narrows the bracket down in the
    golden ratio. It is exact if the score has a single peak. It starts at small alphas, next to the zero-shot
    model, because far too large ones all end in chance accuracy, where a comparison says nothing. A grid of one
    alpha leaves nothing to choose and is not scored. InputError for a grid that does not rise and for a score of NaN.
    """
    if not grid or any(not low < high for low, high in pairwise(grid)):
        raise InputError("the alphas to choose from do not rise; name at least one, from the smallest to the largest.")
    if len(grid) == 1:
        return AlphaSearch(grid[0], float("nan"), 0)
    scores: dict[int, float] = {}

    def at(index: int) -> float:
        if index not in scores:
            scores[index] = score(grid[index])
            if math.isnan(scores[index]):
                raise InputError(f"the score of alpha {grid[index]:g} is no number; see to what computes it.")
        return scores[index]

    low, best, high = _bracket(at, len(grid))
    while high - low > 2:
        right = high - best > best - low
        step = max(1, round(GOLDEN * (high - best if right else best - low)))
        probe = best + step if right else best - step
        if at(probe) > at(best):
            low, best, high = (best, probe, high) if right else (low, probe, best)
        else:
            low, high = (low, probe) if right else (probe, high)
    return AlphaSearch(grid[best], scores[best], len(scores))


def _bracket(at: Callable[[int], float], size: int) -> tuple[int, int, int]:
    """Return three indices; a single peak lies strictly between the outer ones, the middle one is scored."""
    low, best = -1, min(FIRST_ALPHA, size - 1)
    while (probe := best + STRIDE) < size and at(probe) > at(best):
        low, best = best, probe
    return low, best, min(probe, size)
