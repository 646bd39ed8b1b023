# SPDX-License-Identifier: MIT
"""TIES-Merging: of every task vector the largest entries, and of these the ones that have the elected sign."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from tsvlib import linalg, progress
from tsvlib.layers import Layer, Suite
from tsvlib.methods.base import Merge

LARGEST = 0.2
"""The share of each task vector that TIES keeps."""

DIGIT = 16
BINS = 2**DIGIT
_SAME_WIDTH = {torch.float32: torch.int32, torch.float64: torch.int64}


def ties(suite: Suite) -> Merge:
    """Return TIES-Merging (Yadav et al. 2023) of a suite: the disjoint *mean*, as in the code of TALL-masks for TIES.

    Of each whole task vector the fifth with the largest magnitudes stays, see ``thresholds``. For every weight the
    sign of the sum of what stays is elected, and the entries that have it are averaged. Where the sum is zero, no sign
    is elected and nothing changes; the published code falls back on the sign of most of the model.
    """
    return _elected(suite, mean=True)


def ties_sum(suite: Suite) -> Merge:
    """Return TIES of a suite with the disjoint *sum*: the entries that have the elected sign are added up."""
    return _elected(suite, mean=False)


def thresholds(suite: Suite, share: float) -> list[float]:
    """Return for each expert the magnitude that the largest ``share`` of its whole task vector reaches.

    Exact, in the type of the suite, and without holding a task vector: the bits of magnitudes rise as these do, so one
    pass over the suite counts their upper 16, and each further one the next 16 within those that matter. Entries that
    equal the threshold all reach it, whichever came first, so ties keep some more than ``share``; it is rounded down to
    whole entries, of which there is at least one. For a share of 1, or of more than an expert changed, it is 0.

    Raises:
        InputError: the share is not above 0 and up to 1.
    """
    wanted = linalg.kept_rank(sum(map(math.prod, suite.shapes.values())), share)
    width, whole_numbers = 8 * suite.dtype.itemsize, _SAME_WIDTH[suite.dtype]
    found, rest = [0] * suite.n_tasks, [wanted] * suite.n_tasks
    with progress.track(width // DIGIT * len(suite.shapes), "finding thresholds", delay=5.0) as bar:
        for shift in range(width - DIGIT, -1, -DIGIT):

            def digits(expert: int, bits: Tensor, shift: int = shift) -> Tensor:
                mine = bits if shift + DIGIT == width else bits[bits >> (shift + DIGIT) == found[expert]]
                return torch.bitwise_and(mine >> shift, BINS - 1)

            for expert, counts in enumerate(_counted(suite, digits, bar.update)):
                digit, rest[expert] = _reached(counts, rest[expert])
                found[expert] = found[expert] * BINS + digit
    return [float(magnitude) for magnitude in torch.tensor(found, dtype=whole_numbers).view(suite.dtype)]


def _counted(
    suite: Suite, select: Callable[[int, Tensor], Tensor], done: Callable[[], object]
) -> list[Int64[Tensor, " bins"]]:
    """Return for each expert how often each value occurs in what is selected of the bits of its magnitudes."""
    counts = [torch.zeros(BINS, dtype=torch.int64) for _ in range(suite.n_tasks)]
    for key in suite.shapes:
        for expert, change in suite.changes(key):
            bits = change.to(suite.dtype).abs().reshape(-1).view(_SAME_WIDTH[suite.dtype])
            counts[expert] += torch.bincount(select(expert, bits), minlength=BINS)
        done()
    return counts


def _reached(counts: Int64[Tensor, " bins"], wanted: int) -> tuple[int, int]:
    """Return the highest bin down to which there are ``wanted`` entries, and how many of these it has to give.

    That is bin 0 when all bins together hold fewer.
    """
    down_to = counts.flip(0).cumsum(0)
    place = min(int((down_to < wanted).sum()), len(counts) - 1)
    found = len(counts) - 1 - place
    return found, wanted - int(down_to[place] - counts[found])


def _elected(suite: Suite, *, mean: bool) -> Merge:
    least = thresholds(suite, LARGEST)

    def trimmed(layer: Layer) -> Iterator[Float64[Tensor, "*shape"]]:
        for expert, change in layer.numbered_changes():
            wide = change.double()
            yield wide.masked_fill(wide.abs() < least[expert], 0)

    def merge(layer: Layer) -> Tensor:
        # In float64 such sums are practically exact, so that no sign depends on the order of tasks.
        total = sum(trimmed(layer))
        if not isinstance(total, Tensor):
            return torch.zeros(layer.shape, device=layer.device)
        merged, count = torch.zeros_like(total), torch.zeros_like(total, dtype=torch.int32)
        for change in trimmed(layer):
            agreeing = change * total > 0
            merged += change * agreeing
            count += agreeing
        return (merged / count.clamp_min(1) if mean else merged).to(suite.dtype)

    return merge
