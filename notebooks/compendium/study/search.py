# SPDX-License-Identifier: MIT
"""The choice of methods and of their alphas: few scores of a rising grid instead of all."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tsvlib.errors import InputError
from tsvlib.methods import named
from tsvlib.methods.base import Method

FIRST_ALPHA = 2
STRIDE = 5
GOLDEN = 0.382


class AlphaSearch(NamedTuple):
    """The chosen alpha, its validation score, and how many alphas were scored to find it."""

    alpha: float
    score: float
    evaluations: int


def further(names: str, known: Sequence[str], *, searched: bool = False) -> list[Method]:
    """Return the methods that a text names, with commas or spaces between, beyond those that are ``known``.

    InputError for a name that no method has, or, where alpha is to be ``searched``, for one with a single alpha.
    """
    found = [named(name) for name in dict.fromkeys(re.findall(r"[^\s,]+", names))]
    if searched and (single := [method.name for method in found if not method.searches_alpha]):
        raise InputError(f"`{single[0]}` has one alpha, so there is nothing to search; choose another method.")
    return [method for method in found if method.name not in known]


def search_alpha(score: Callable[[float], float], grid: Sequence[float]) -> AlphaSearch:
    """Return the best alpha of a rising grid, with at most 10 evaluations on a grid of 30.

    The search climbs from small alphas in strides until the score falls, then narrows the bracket down in the
    golden ratio. It is exact if the score has a single peak. It starts at small alphas, next to the zero-shot
    model, because far too large ones all end in chance accuracy, where a comparison says nothing. A grid of one
    alpha leaves nothing to choose and is not scored.
    """
    if len(grid) == 1:
        return AlphaSearch(grid[0], float("nan"), 0)
    scores: dict[int, float] = {}

    def at(index: int) -> float:
        if index not in scores:
            scores[index] = score(grid[index])
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
