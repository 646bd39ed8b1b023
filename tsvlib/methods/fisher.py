# SPDX-License-Identifier: MIT
"""Fisher merging (Matena and Raffel, arXiv 2111.09832, 2022): weights are averaged by how sure each expert is of them.

A merged weight is Σ λ F θ / Σ λ F over the experts. F is the diagonal of the Fisher information of an expert at that
weight: the mean over inputs of the squared gradient of the log-likelihood, over the labels that the expert itself
predicts. In changes that is Σ λ F Δ / Σ λ F, for any tensor, matrix or not. An expert that left a weight alone changed
it by zero, and draws it back to the base as strongly as its F says.

Where all F are zero nothing is known, and the changes are averaged by their λ: what equal F give, however small they
are. The published code raises F to 1e-6, by default that of the first model alone, which then decides there; so it
depends on the order of experts and on the unit of F, and this rule on neither. The code can also bring every expert's
whole F to length one, which the paper's formula does not; here that is a choice of λ.

Fisher statistics are given per expert, by the names of tensors: all that an expert changed, of the shape of the
tensor.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite
from tsvlib.methods.base import Binding, Merge
from tsvlib.methods.statistics import Statistics, check_given, measured

_KIND = "Fisher information"


def fisher_merging(fishers: Sequence[Statistics], lambdas: Sequence[float] | None = None) -> Binding:
    """Return the binding of Fisher merging by the statistics of each expert, in their order; all λ are one by default.

    Merging raises InputError when there are more or fewer statistics or λ than experts, when a λ is not above zero, and
    for a tensor that an expert changed and not every expert has statistics of, that are of its shape, finite and not
    negative.
    """

    def bind(suite: Suite) -> Merge:
        check_given(suite, fishers, _KIND)
        weights = _weights(suite, lambdas)
        return lambda layer: _averaged(layer, fishers, weights)

    return bind


def _weights(suite: Suite, lambdas: Sequence[float] | None) -> list[float]:
    chosen = [1.0] * suite.n_tasks if lambdas is None else list(lambdas)
    if len(chosen) != suite.n_tasks:
        raise InputError(f"there are {len(chosen)} lambdas for {suite.n_tasks} experts; give one for each.")
    if unfit := [value for value in chosen if not 0 < value < math.inf]:
        raise InputError(f"{unfit[0]} is no lambda of Fisher merging; choose a number above zero, such as 1.")
    # Only their ratios matter, and these cannot overflow.
    return [value / max(chosen) for value in chosen]


def _averaged(layer: Layer, fishers: Sequence[Statistics], weights: Sequence[float]) -> Tensor:
    total = None
    merged = torch.zeros(layer.shape, dtype=torch.float64, device=layer.device)
    for expert, change in layer.numbered_changes():
        # What nobody changed needs no statistics.
        if total is None:
            total = torch.zeros_like(merged)
            for other in range(layer.n_tasks):
                total += _certainty(layer, fishers, other, weights)
        share = _certainty(layer, fishers, expert, weights) / total
        merged += change.double() * torch.where(total > 0, share, weights[expert] / sum(weights))
    return merged.to(layer.suite.dtype)


def _certainty(
    layer: Layer, fishers: Sequence[Statistics], expert: int, weights: Sequence[float]
) -> Float64[Tensor, "..."]:
    """Return λ F / T of an expert for the weights of a layer."""
    whole = measured(fishers, expert, layer.key, layer.suite.shapes[layer.key], _KIND)
    if (whole < 0).any():
        owner = f"of `{layer.key}` of expert {expert + 1}"
        raise InputError(f"the {_KIND} {owner} is negative somewhere; it is a mean of squares, so compute it again.")
    mine = whole.flatten(1).chunk(layer.n_parts)[layer.part] if layer.is_matrix else whole
    # Over T, so that the sum over all experts cannot overflow.
    return mine.to(layer.device) * (weights[expert] / layer.n_tasks)
