# SPDX-License-Identifier: MIT
"""TSV-Merge with other ranks than k = r/T, which the paper leaves to future work, and with its two steps exchanged.

All of these treat the layers that TSV-M treats, average the others, and leave out what is only rounding error. Where
kept components of all tasks outnumber the dimensions, the closest matrix with orthonormal rows takes the place of the
one with orthonormal columns, as in ``tsv.interference_reduction``. Let b <= 1 be the short side of a matrix over the
long one, and mu(b) the median of the Marchenko-Pastur law, the eigenvalues of a large matrix of noise.

*Gavish-Donoho* (arXiv 1305.5870, 2013) keeps singular values from w(b) times their median on, the best hard threshold
where the level of the noise is unknown: w(b)² mu(b) = 2 (b + 1) + 8 b / (b + 1 + sqrt(b² + 14 b + 1)). The paper's
cubic 0.56 b³ - 0.95 b² + 1.82 b + 1.43 is only near that, so mu(b) is computed. *Marchenko-Pastur* (1967) keeps those
beyond the edge of the noise, (1 + sqrt(b)) / sqrt(mu(b)) times the median, which rates the level of the noise as Gavish
and Donoho do. Either may find nothing but noise in a task matrix, and then keeps nothing of it.

*Energy* keeps as many components as TSV-M does, of all tasks and layers together, and of these the ones with the
largest share of the energy (sum of squared singular values) of their own task matrix: no other choice of as many keeps
a larger mean share.

*Orthogonalised first* makes all components of all tasks orthonormal together, and then keeps 1/T of each task. For
square matrices of full rank this is the sum of truncated task matrices over T: complete bases side by side have
orthonormal rows already, up to a factor.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.computing import Computing
from tsvlib.layers import Layer, Suite, task_matrices
from tsvlib.linalg import Factors
from tsvlib.methods import tsv
from tsvlib.methods.base import Merge, once


def gavish_donoho(layer: Layer) -> Tensor:
    """Return TSV-Merge with the components of each task that Gavish-Donoho's threshold keeps."""
    return _merged(layer, _beyond(layer, optimal_threshold))


def marchenko_pastur(layer: Layer) -> Tensor:
    """Return TSV-Merge with the components of each task that stand out of its noise."""
    return _merged(layer, _beyond(layer, noise_edge))


def energy(suite: Suite) -> Merge:
    """Return TSV-Merge with the components of a suite that hold the largest shares of energy, as many as TSV-M keeps.

    Shares that equal the least one that is kept are all kept, whichever came first. The first layer waits for a look at
    all of them, after which a store has every decomposition.
    """
    least = once(lambda computing: _least_share(suite, computing))

    def merge(layer: Layer) -> Tensor:
        return _merged(layer, lambda factors: int((_shares(factors) >= least(layer.computing)).sum()))

    return merge


def orthogonalised_first(layer: Layer) -> Tensor:
    """Return TSV-Merge with its steps exchanged: all components are made orthonormal, then 1/T of each task is kept."""
    if tsv.is_averaged(layer):
        return layer.mean()
    whole = tsv.significant(layer.factors(layer.rank))
    if not whole:
        return torch.zeros(layer.shape, device=layer.device)
    kept = [linalg.truncate(factors, _uniform(layer)) for factors in tsv.orthogonalised(whole)]
    return tsv.together(kept).product()


def optimal_threshold(ratio: float) -> float:
    """Return Gavish-Donoho's threshold over the median singular value, for matrices of this ratio of sides, up to 1.

    >>> round(optimal_threshold(1.0), 4)
    2.8584
    """
    known = 2 * (ratio + 1) + 8 * ratio / (ratio + 1 + math.sqrt(ratio**2 + 14 * ratio + 1))
    return math.sqrt(known / noise_median(ratio))


def noise_edge(ratio: float) -> float:
    """Return the largest singular value of noise over the median one, for large matrices of this ratio of sides."""
    return (1 + math.sqrt(ratio)) / math.sqrt(noise_median(ratio))


@cache
def noise_median(ratio: float) -> float:
    """Return the median of the Marchenko-Pastur law of variance one, for a ratio of sides above 0 and up to 1.

    Its values are 1 + b + 2 sqrt(b) cos(t) for 0 <= t <= pi, and the share above that has a closed form.
    """
    root, low, high = math.sqrt(ratio), 0.0, math.pi

    def above(angle: float) -> float:
        bend = (1 - ratio) / (2 * ratio) * math.atan((1 - root) / (1 + root) * math.tan(angle / 2))
        return 2 / math.pi * ((1 + ratio) / (4 * ratio) * angle - math.sin(angle) / (2 * root) - bend)

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) < 0.5 else (low, middle)
    return 1 + ratio + 2 * root * math.cos(low)


def _beyond(layer: Layer, multiple: Callable[[float], float]) -> Callable[[Factors], int]:
    """Return what counts the singular values from a multiple of their median on."""

    def count(factors: Factors) -> int:
        short, long = sorted(layer.shape)
        # Of a thin change, the components beyond its rank are zero.
        s = torch.nn.functional.pad(factors.s.double(), (0, short - len(factors.s)))
        median = (s[(len(s) - 1) // 2] + s[len(s) // 2]) / 2
        return int((s >= multiple(short / long) * median).sum())

    return count


def _least_share(suite: Suite, computing: Computing) -> float:
    """Return the share of energy from which on there are as many components in a suite as TSV-M keeps."""
    shares, wanted = [torch.zeros(0, dtype=torch.float64)], 0
    for layer in task_matrices(suite, suite.shapes, computing):
        whole = [] if tsv.is_averaged(layer) else layer.factors(min(layer.shape))
        for factors, real in zip(whole, tsv.significant(whole), strict=True):
            shares.append(_shares(factors)[: len(real.s)].cpu())
            wanted += min(_uniform(layer), len(real.s))
    return float(torch.cat(shares).topk(wanted).values[-1]) if wanted else 0.0


def _shares(factors: Factors) -> Float64[Tensor, " rank"]:
    """Return the energy of each component over that of the whole task matrix."""
    energies = (factors.s.double() / factors.s[0].double()).square()
    return energies / energies.sum()


def _uniform(layer: Layer) -> int:
    return linalg.kept_rank(layer.rank, 1 / layer.n_tasks)


def _merged(layer: Layer, count: Callable[[Factors], int]) -> Tensor:
    """Return TSV-Merge with as many components of each task as ``count`` says of all of them."""
    if tsv.is_averaged(layer):
        return layer.mean()
    whole = layer.factors(min(layer.shape))
    pairs = zip(whole, tsv.significant(whole), strict=True)
    kept = [linalg.truncate(real, k) for factors, real in pairs if (k := count(factors))]
    return tsv.recomposed(layer, kept, linalg.polar_product)
