# SPDX-License-Identifier: MIT
"""Data-free least squares in closed form: one solver, in which differences stand for inputs, and three filters.

RegMean and WUDI seek the update W that minimises Σ c_i ‖(W - Δ_i) Δ_iᵀ‖² (see ``wudi``). With C = Σ c_i Δ_iᵀΔ_i = V
diag(λ) Vᵀ and D = Σ c_i Δ_i Δ_iᵀΔ_i the minimum is D C⁻¹. From W_0 = Σ Δ_i one goes towards it by a filter f of the
eigenvalues, from 0 (stay) to 1 (arrive):

    W = W_0 V diag(1 - f) Vᵀ + D V diag(f / λ) Vᵀ

| method | c_i | f |
|---|---|---|
| RegMean from differences (arXiv 2604.01329, 2026) | 1 | 1 |
| SWUDI (arXiv 2606.07289, 2026) | 1 / ‖Δ_i‖² | 1 - exp(-λ t) on the 65 % of n largest λ, else 0; t = 1300 |
| ASWUDI (the same) | 1 / ‖Δ_i‖² | 1 on the K largest λ, else 0; K = (Σ √λ)² / Σ λ, rounded up |

RegMean's formula is (Σ Δ_i Σ_i) (Σ Σ_i)⁻¹ with the covariance Σ_i = Δ_iᵀΔ_i: as it is, without the centring of rows,
traces and priors of ACE-Merging (arXiv 2603.02945). t and 65 % are what SWUDI's authors chose for ViT-B/32 with 8
tasks. Their code raises all λ to at least 1e-8, which counts directions that nobody has into K, and adds 1e-5 of
nothing to them; that is left out here. What is no matrix is averaged. An expert that changed nothing adds nothing to
any sum.

D C⁻¹ enlarges what is weak. So directions that only rounding fills, beyond the numerical rank of all task matrices on
top of each other, keep f = 0, unless f fades with λ by itself.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.methods.base import Binding, layerwise
from tsvlib.methods.wudi import least_squares

TIME = 1300.0
"""SWUDI's t."""

SHARE = 0.65
"""The share of all n directions that SWUDI goes along."""

TIED = 1e-12
"""Eigenvalues closer than that, beside the largest, are equal but for rounding: all of them are taken, or none."""


class Spectrum(NamedTuple):
    """The eigenvalues of C, ascending, out of ``inputs`` in all (the others are zero); below ``floor`` is rounding."""

    values: Float64[Tensor, " rank"]
    floor: float
    inputs: int


Filter = Callable[[Spectrum], Float64[Tensor, " rank"]]


def regmean_from_differences(layer: Layer) -> Tensor:
    """Return RegMean with the differences themselves in place of inputs."""
    return _filtered(layer, arrived, normalised=False)


def swudi(layer: Layer) -> Tensor:
    """Return SWUDI with the settings of its authors; ``closed_form`` with ``exponential`` makes it with others."""
    return _filtered(layer, exponential(), normalised=True)


def aswudi(layer: Layer) -> Tensor:
    """Return ASWUDI, which has no settings."""
    return _filtered(layer, participating, normalised=True)


def closed_form(choose: Filter, *, normalised: bool, fraction: float = 1.0) -> Binding:
    """Return the binding of the solver with any filter, with c_i = 1 / ‖Δ_i‖² if ``normalised``, else 1.

    Of each task matrix the leading ``fraction`` of its components is taken, which a store of spectra serves, or with 1
    the matrix itself, which needs none. InputError for a fraction that is not above 0 and up to 1.
    """
    linalg.kept_rank(1, fraction)
    return layerwise(lambda layer: _filtered(layer, choose, normalised=normalised, fraction=fraction))


def arrived(spectrum: Spectrum) -> Float64[Tensor, " rank"]:
    """Return the filter of the minimum itself: 1 wherever there is more than rounding."""
    return (spectrum.values > spectrum.floor).double()


def exponential(time: float = TIME, share: float = SHARE) -> Filter:
    """Return SWUDI's filter: the flow down the gradient for some time, along a share of all directions, rounded up.

    InputError when the time is not above zero, or the share not above 0 and up to 1.
    """
    linalg.kept_rank(1, share)
    if not 0 < time < math.inf:
        raise InputError(f"{time} is no time to go down a gradient; choose a number above zero, such as {TIME}.")

    def choose(spectrum: Spectrum) -> Float64[Tensor, " rank"]:
        return _largest(spectrum.values, share * spectrum.inputs) * -torch.expm1(-time * spectrum.values)

    return choose


def participating(spectrum: Spectrum) -> Float64[Tensor, " rank"]:
    """Return ASWUDI's filter: 1 on as many of the largest eigenvalues as take part in the sum of their roots."""
    values = torch.where(spectrum.values > spectrum.floor, spectrum.values, 0)
    return _largest(values, float(values.sqrt().sum() ** 2 / values.sum())) * (values > 0)


def _filtered(layer: Layer, choose: Filter, *, normalised: bool, fraction: float = 1.0) -> Tensor:
    if not layer.is_matrix:
        return layer.mean()
    system = least_squares(layer, normalised=normalised, fraction=fraction)
    if system is None:
        return torch.zeros(layer.shape, device=layer.device)
    values, v = torch.linalg.eigh(system.gram)
    # What float64 does not resolve is none of C, and no filter sees it.
    values = torch.where(values > len(values) * torch.finfo(values.dtype).eps * values[-1], values, 0)
    least = max(layer.shape) * torch.finfo(layer.suite.dtype).eps
    f = choose(Spectrum(values, float(least**2 * values[-1]), layer.shape[1]))
    here, there = system.start @ v * (1 - f), system.target @ v * (f / torch.where(values > 0, values, math.inf))
    merged: Tensor = (here + there) @ v.mT
    return (merged if system.basis is None else merged @ system.basis).to(layer.suite.dtype)


def _largest(values: Float64[Tensor, " rank"], number: float) -> Float64[Tensor, " rank"]:
    """Return 1 for that many of the largest values, rounded up, and for what equals the last of them; else 0."""
    # Unless rounding alone has carried it beyond a whole number.
    count = max(1, math.ceil(number * (1 - 1e-9)))
    least = values[-min(count, len(values))]
    return (values >= least - TIED * values[-1]).double()
