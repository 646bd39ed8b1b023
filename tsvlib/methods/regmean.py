# SPDX-License-Identifier: MIT
"""RegMean (Jin et al., arXiv 2212.09849, ICLR 2023): linear layers that on all tasks' inputs do as the experts do.

Of an expert's linear layer with weight W (out x in), let X be its inputs (samples x in) and G = XᵀX their Gram matrix
(in x in). The merged weight minimises Σ ‖X (W - W_i)ᵀ‖², so W = (Σ W_i G_i) (Σ G_i)⁻¹; the update is the same of the
changes. Before that, the paper multiplies the entries of each G off its diagonal by alpha, here ``off_diagonal`` since
alpha has another meaning in this library: 0.9 in most of its experiments.

What has no Gram matrix, matrix or not, is averaged, as in the paper. An expert that left a layer alone takes part with
its own inputs, and draws the layer back to the base there. q, k and v in one tensor have the same inputs: one Gram
matrix serves all three, and it makes no difference whether they count as three matrices. Gram matrices are taken as
they are: whoever wants each task to weigh the same divides them by their numbers of samples. A matrix that stands the
other way round (``x @ w``, such as CLIP's projections) has its inputs along its rows; give none for it.

Inputs that no task ever has, and combinations of them, say nothing about W. There the changes are averaged; this is
the limit of a small multiple of the inputs' own scales on every diagonal. (Without it the paper's formula is undefined
there; a pseudoinverse in its place would set the merged weights to zero.)
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite
from tsvlib.methods.base import Binding, Merge
from tsvlib.methods.statistics import Statistics, measured, measured_by_all
from tsvlib.precision import wider

OFF_DIAGONAL = 0.9
"""The paper's alpha."""

CLEAR = 1e-6
"""The least eigenvalue, beside a diagonal of ones, with which a triangular solver in float64 is exact enough."""

ASYMMETRY = 1e-3
"""How much of its largest entry a Gram matrix may differ from its transpose by."""

_KIND = "Gram matrix"


def regmean(grams: Sequence[Statistics], off_diagonal: float = OFF_DIAGONAL) -> Binding:
    """Return the binding of RegMean by the Gram matrices of the inputs of each expert's linear layers, in their order.

    InputError for a scale of entries off the diagonal that is not from 0 to 1. Merging raises InputError when there is
    no matrix at all, when experts have them of different tensors, and for what is no Gram matrix of a layer's inputs.
    """
    if not 0 <= off_diagonal <= 1:
        raise InputError(
            f"{off_diagonal} is no scale of what is off the diagonal; choose 0 to 1, such as {OFF_DIAGONAL}."
        )

    def bind(suite: Suite) -> Merge:
        known = measured_by_all(suite, grams, _KIND)
        return lambda layer: _regressed(layer, grams, off_diagonal) if layer.key in known else layer.mean()

    return bind


def _regressed(layer: Layer, grams: Sequence[Statistics], off_diagonal: float) -> Tensor:
    if len(layer.shape) != 2:
        raise InputError(f"`{layer.key}` is no matrix, so a {_KIND} does not apply; leave it out.")
    rows, inputs = layer.shape
    mean = torch.zeros(rows, inputs, dtype=torch.float64, device=layer.device)
    pulled, total = torch.zeros_like(mean), mean.new_zeros(inputs, inputs)
    unmoved = set(range(layer.n_tasks))
    for expert, change in layer.numbered_changes():
        gram = _gram(layer, grams, expert, off_diagonal)
        pulled += change.double() @ gram
        mean += change.double() / layer.n_tasks
        total += gram
        unmoved.remove(expert)
    if len(unmoved) < layer.n_tasks:
        for expert in sorted(unmoved):
            total += _gram(layer, grams, expert, off_diagonal)
        eps = max(torch.finfo(wider(mine[layer.key].dtype)).eps for mine in grams)
        mean += _solved(layer.key, pulled - mean @ total, total, off_diagonal, inputs * eps)
    return mean.to(layer.suite.dtype)


def _gram(
    layer: Layer, grams: Sequence[Statistics], expert: int, off_diagonal: float
) -> Float64[Tensor, "inputs inputs"]:
    gram = measured(grams, expert, layer.key, (layer.shape[1],) * 2, _KIND).to(layer.device)
    diagonal = gram.diagonal()
    if (diagonal < 0).any() or (gram - gram.mT).abs().max() > ASYMMETRY * diagonal.max():
        owner = f"of `{layer.key}` of expert {expert + 1}"
        raise InputError(f"the {_KIND} {owner} is not symmetric or has a negative diagonal; compute inputsᵀ inputs.")
    reduced: Tensor = off_diagonal * gram + (1 - off_diagonal) * diagonal.diag()
    return reduced


def _solved(
    key: str,
    excess: Float64[Tensor, "rows inputs"],
    total: Float64[Tensor, "inputs inputs"],
    off_diagonal: float,
    floor: float,
) -> Float64[Tensor, "rows inputs"]:
    """Return excess times total⁻¹, and nothing along directions that ``total`` lacks but for rounding.

    Inputs differ by orders of magnitude. Scaled to a diagonal of ones, no entry exceeds one, so rounding moves no
    eigenvalue by more than ``floor``, and none is below 1 - off_diagonal.
    """
    diagonal = total.diagonal()
    roots = torch.where(diagonal > 0, diagonal, math.inf).rsqrt()
    unit, excess = roots[:, None] * total * roots, excess * roots
    if 1 - off_diagonal > max(floor, CLEAR):
        half, failed = torch.linalg.cholesky_ex(unit + (roots == 0).double().diag())
        if failed:
            raise InputError(f"what is given for `{key}` is no {_KIND}; compute inputsᵀ inputs, and in float32.")
        return torch.cholesky_solve(excess.mT, half).mT * roots
    values, v = torch.linalg.eigh(unit)
    found: Tensor = excess @ v / torch.where(values > floor, values, math.inf) @ v.mT * roots
    return found
