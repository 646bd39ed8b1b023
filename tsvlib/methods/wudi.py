# SPDX-License-Identifier: MIT
"""WUDI-Merging (Cheng et al., arXiv 2503.08099, ICML 2025): less interference by a few hundred steps of Adam, no data.

The rows of a task matrix (out x in) span the inputs that its task moved, so they stand in for inputs: the update W of
a layer should do to them what each Δ_i does, by a small Σ c_i ‖(W - Δ_i) Δ_iᵀ‖² with c_i = 1 / ‖Δ_i‖². With C = Σ c_i
Δ_iᵀΔ_i and D = Σ c_i Δ_i Δ_iᵀΔ_i its gradient is 2 (W C - D). WUDI starts at W_0 = Σ Δ_i and takes 300 steps of Adam
at a rate of 1e-5 (betas 0.9 and 0.999, epsilon 1e-8); the result is added as it is, with alpha = 1. The module
``closed_form`` solves the same problem without steps.

C and D are made once, so that a step takes one product for all tasks together. They and the steps are in float64, so
that the path is the same everywhere. Adam works entry by entry, so W itself is stepped, not its coordinates in the
span of all rows; where that is narrow, the gradient passes through it. Rate and epsilon are absolute, so the update
does not scale with the changes: it is made for weights that moved by about a thousandth. From a start where gradients
are far below epsilon, as that of tasks that do not meet, Adam goes a thousand times their length (rate over epsilon)
and then wanders about by its rate; so does the original.

Public code differs in what else it changes: the authors' leaves all but the four linear layers of a block at the base,
others average the rest. Here every task matrix is stepped and the rest averaged. Where an expert changed nothing, the
published formula is 0 / 0; here it adds nothing. A matrix that is used as ``x @ w`` has its inputs along its rows, but
is taken like any other, as in those others' code. (ACE-Merging's copy of WUDI, whose matrix product became a scalar
one, is another method.)
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.methods.base import Binding, layerwise
from tsvlib.methods.tsv import significant
from tsvlib.precision import scaled

STEPS = 300
RATE = 1e-5
BETAS = (0.9, 0.999)
EPSILON = 1e-8


class System(NamedTuple):
    """C, D and W_0 of a layer, in the coordinates of a basis: C = basisᵀ basis, D = target basis, W_0 = start basis.

    ``gram`` is basis basisᵀ, which has the eigenvalues of C. Without a basis, ``gram`` is C itself.
    """

    gram: Float64[Tensor, "rank rank"]
    target: Float64[Tensor, "rows rank"]
    start: Float64[Tensor, "rows rank"]
    basis: Float64[Tensor, "rank columns"] | None = None


class _Part(NamedTuple):
    """A task matrix as left @ right (without ``left``: right alone), its norm, and the norm that weighs one in C."""

    left: Float64[Tensor, "rows rank"] | None
    right: Float64[Tensor, "rank columns"]
    norm: float
    unit: float


def wudi(layer: Layer) -> Tensor:
    """Return WUDI-Merging with its authors' 300 steps of 1e-5; ``descended`` makes it with others."""
    return _descended(layer, STEPS, RATE)


def descended(steps: int, rate: float = RATE) -> Binding:
    """Return the binding of WUDI-Merging with some steps of Adam at some rate.

    InputError for less than no steps, or a rate that is not above zero.
    """
    if steps < 0:
        raise InputError(f"{steps} is no number of steps; choose a whole one such as {STEPS}.")
    if not 0 < rate < math.inf:
        raise InputError(f"{rate} is no rate of Adam; choose a number above zero, such as {RATE}.")
    return layerwise(lambda layer: _descended(layer, steps, rate))


def least_squares(layer: Layer, *, normalised: bool, fraction: float = 1.0) -> System | None:
    """Return C, D and W_0 of a task matrix, in all inputs of the layer or, if narrower, in the span of all rows.

    c_i is 1 / ‖Δ_i‖², or the same for all tasks unless ``normalised``. Of each task matrix the leading ``fraction`` of
    its components is taken, with 1 the matrix itself. None if no expert changed it.
    """
    halves = _halves(layer, fraction)
    sizes = [(_norm(right), len(right)) for _, right in halves()]
    if not sizes:
        return None
    # A common factor of all c_i cancels out. With this one nothing is ever too large, or too small beside the rest.
    largest = max(norm for norm, _ in sizes)
    parts = (
        _Part(left, right, norm, norm if normalised else largest)
        for (left, right), (norm, _) in zip(halves(), sizes, strict=True)
    )
    return _in_span(parts) if sum(rank for _, rank in sizes) < layer.shape[1] else _in_inputs(parts, layer)


def _descended(layer: Layer, steps: int, rate: float) -> Tensor:
    if not layer.is_matrix:
        return layer.mean()
    system = least_squares(layer, normalised=True)
    if system is None:
        return torch.zeros(layer.shape, device=layer.device)
    w = system.start.clone() if system.basis is None else system.start @ system.basis
    mean, square, (slow, slower) = torch.zeros_like(w), torch.zeros_like(w), BETAS
    for step in range(1, steps + 1):
        slope = 2 * _residual(system, w)
        mean.lerp_(slope, 1 - slow)
        square.mul_(slower).addcmul_(slope, slope, value=1 - slower)
        size = (square / (1 - slower**step)).sqrt_().add_(EPSILON)
        w.addcdiv_(mean, size, value=-rate / (1 - slow**step))
    return w.to(layer.suite.dtype)


def _residual(system: System, w: Float64[Tensor, "rows columns"]) -> Float64[Tensor, "rows columns"]:
    """Return W C - D."""
    if system.basis is None:
        return w @ system.gram - system.target
    return (w @ system.basis.mT - system.target) @ system.basis


def _halves(layer: Layer, fraction: float) -> Callable[[], Iterable[tuple[Tensor | None, Tensor]]]:
    """Return what yields the task matrices that are not zero, in float64, as products with orthonormal left columns."""
    if fraction == 1:
        return lambda: ((None, change.double()) for change in layer.changes())
    kept = significant(layer.factors(linalg.kept_rank(min(layer.shape), fraction)))
    found = [(factors.u.double(), factors.s.double()[:, None] * factors.vh.double()) for factors in kept]
    return lambda: found


def _norm(x: Float64[Tensor, "rows columns"]) -> float:
    fit, exponent = scaled(x)
    return math.ldexp(float(torch.linalg.vector_norm(fit)), 0 if exponent is None else int(exponent))


def _in_inputs(parts: Iterable[_Part], layer: Layer) -> System:
    """Return the system with one coordinate for each input of the layer."""
    rows, columns = layer.shape
    gram = torch.zeros(columns, columns, dtype=torch.float64, device=layer.device)
    target, start = torch.zeros(2, rows, columns, dtype=torch.float64, device=layer.device)
    for left, right, norm, unit in parts:
        # Of norm one, so that its powers are of ordinary size.
        x = (right if left is None else left @ right) / norm
        inner, weight = linalg.gram(x), (norm / unit) ** 2
        gram += weight * inner
        target += weight * norm * (x @ inner if columns <= rows else linalg.gram(x.mT) @ x)
        start += norm * x
    return System(gram, target, start)


def _in_span(parts: Iterable[_Part]) -> System:
    """Return the system with one coordinate for each row of the right halves, which loses nothing."""
    basis, target, start = [], [], []
    for left, right, norm, unit in parts:
        x, root = right / norm, norm / unit
        u = torch.eye(len(x), dtype=x.dtype, device=x.device) if left is None else left
        basis.append(root * x)
        target.append(root * norm * (u @ linalg.gram(x.mT)))
        start.append(unit * u)
    rows = torch.cat(basis)
    return System(linalg.gram(rows.mT), torch.cat(target, 1), torch.cat(start, 1), rows)
