# SPDX-License-Identifier: MIT
"""ESM, Essential Subspace Merging (arXiv 2602.20208, CVPR 2026): of each task what moves outputs on a few inputs.

For an expert with task matrix Δ (out x in) and inputs X of that layer (samples x in; 32 unlabelled images are enough),
the outputs shift by X Δᵀ. Of that, the k leading right singular vectors P, k = out / T rounded down, span the outputs
that matter, and Δ gives way to P PᵀΔ. With e = (σ² / their mean)^0.15, divided by its own mean, and the norm of Δ
relative to the mean of all tasks', n:

1. U holds P diag(e) of all tasks side by side; V holds n² diag(e) PᵀΔ of all tasks one above the other;
2. every column of V is multiplied by the square of its norm relative to the mean of all columns';
3. the layer is 2 times the polar factors of U and V, each times the mean singular value of what it is of;
4. it is multiplied by the square of its norm relative to the mean of the same layer in all blocks: those whose names
   differ in nothing but their first whole number between dots.

This follows the authors' code. It takes the norm in the basis of all P, which is that of Δ where there are as many
samples as outputs; with fewer, it fills P with columns of the identity that are not orthogonal to the others. Here the
norm is that of Δ, and directions that do not exist or only rounding fills are left out. That code draws the images
from the test set; draw them from elsewhere. A matrix without inputs is merged by TSV-M, then goes through step 4; as
there, what is no matrix or has fewer outputs than tasks is averaged. An expert that left a layer alone takes no part
in it, nor in its means.
"""

import re
from collections.abc import Sequence
from threading import Lock

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite, layers_of
from tsvlib.methods import tsv
from tsvlib.methods.base import Binding, Merge
from tsvlib.methods.statistics import Statistics, measured, measured_by_all

PROMINENT = 2
"""The power of norms by which tasks, columns and layers are weighed."""

FLAT = 0.15
"""The power of variances by which directions are weighed."""

_KIND = "matrix of inputs"
_BLOCK = re.compile(r"(^|\.)\d+(?=\.)")


def esm(inputs: Sequence[Statistics]) -> Binding:
    """Return the binding of ESM by the inputs of each expert's linear layers, samples in rows, in the order of experts.

    The norms of all layers of a kind are needed for each, so layers are merged twice. Merging raises InputError when
    there are no inputs at all, when experts have them of different tensors, and for what are no inputs of a layer.
    """

    def bind(suite: Suite) -> Merge:
        known, lock = measured_by_all(suite, inputs, _KIND), Lock()
        norms: dict[tuple[str, int, int], float] = {}

        def norm(layer: Layer) -> float:
            place = layer.key, layer.part, layer.n_parts
            if place not in norms:
                norms[place] = float(torch.linalg.vector_norm(_merged(layer, known, inputs)))
            return norms[place]

        def merge(layer: Layer) -> Tensor:
            if not layer.is_matrix:
                return layer.mean()
            merged = _merged(layer, known, inputs)
            # Whoever comes second finds the norms of the first.
            with lock:
                norms[layer.key, layer.part, layer.n_parts] = own = float(torch.linalg.vector_norm(merged))
                every = [norm(peer) for peer in _peers(layer)]
            return (merged * (own * len(every) / sum(every)) ** PROMINENT if own else merged).to(suite.dtype)

        return merge

    return bind


def _peers(layer: Layer) -> list[Layer]:
    """Return the same task matrix of all blocks, itself included."""
    kind = _BLOCK.sub(".", layer.key, count=1)
    keys = [key for key in layer.suite.shapes if _BLOCK.sub(".", key, count=1) == kind]
    every = [layers_of(layer.suite, key, layer.computing) for key in keys]
    return [parts[layer.part] for parts in every if len(parts) > layer.part and parts[layer.part].is_matrix]


def _merged(layer: Layer, known: set[str], inputs: Sequence[Statistics]) -> Float64[Tensor, "rows columns"]:
    """Return the update of a task matrix before step 4."""
    if layer.key not in known or layer.shape[0] < layer.n_tasks:
        return tsv.tsv_m(layer).double()
    found = [_essence(layer, inputs, expert, change) for expert, change in layer.numbered_changes()]
    if not found:
        return torch.zeros(layer.shape, dtype=torch.float64, device=layer.device)
    largest = max(size for _, _, size in found)
    mean = sum(size / largest for _, _, size in found) / len(found)
    u = torch.cat([left for left, _, _ in found], dim=1)
    v = torch.cat([size / largest * (size / largest / mean) ** PROMINENT * right for _, right, size in found])
    norms = torch.linalg.vector_norm(v, dim=0)
    return largest * 2 * _evened(u) @ _evened(v * (norms / norms.mean()) ** PROMINENT)


def _essence(
    layer: Layer, inputs: Sequence[Statistics], expert: int, change: Tensor
) -> tuple[Float64[Tensor, "rows rank"], Float64[Tensor, "rank columns"], float]:
    """Return P diag(e), diag(e) PᵀΔ / ‖Δ‖ and ‖Δ‖ of an expert."""
    x = inputs[expert][layer.key]
    if x.ndim != 2:
        raise InputError(
            f"the {_KIND} of `{layer.key}` of expert {expert + 1} has no two dimensions; flatten the others."
        )
    x = measured(inputs, expert, layer.key, (len(x), layer.shape[1]), _KIND).to(layer.device)
    size = float(torch.linalg.vector_norm(change.double()))
    delta = change.double() / size
    shift = (x @ delta.mT).to(layer.suite.dtype)
    if not shift.any():
        raise InputError(
            f"the {_KIND} of `{layer.key}` of expert {expert + 1} shows nothing of its change; give others."
        )
    (kept,) = tsv.significant([linalg.leading(shift, linalg.kept_rank(layer.shape[0], 1 / layer.n_tasks))])
    share = (kept.s.double() / kept.s[0]) ** (2 * FLAT)
    weights, p = share / share.mean(), kept.vh.double()
    return p.mT * weights, weights[:, None] * (p @ delta), size


def _evened(x: Float64[Tensor, "rows columns"]) -> Float64[Tensor, "rows columns"]:
    """Return the polar factor of x times its mean singular value."""
    polar = linalg.orthogonalise(x)
    return polar * ((polar * x).sum() / min(x.shape))
