# SPDX-License-Identifier: MIT
"""Merging: the changes of many experts in, one update out; merged weights are base + alpha * update.

``METHODS`` lists all methods by name, the paper's below and those it is compared with (``tsvlib.methods.ties``,
``tsvlib.methods.masks``); how to add one is told in ``tsvlib.methods.base``. Models are never held whole: ``update``
takes one tensor of all experts at a time.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from tsvlib import devices, linalg
from tsvlib.linalg import Factors
from tsvlib.methods import masks, ties
from tsvlib.methods.base import CPU, METHODS, TENTHS, THIRTIETHS, VALIDATION, Layer, Merge, Method, Needs, method, named
from tsvlib.precision import check_held, scaled, unscaled
from tsvlib.store import Spectra
from tsvlib.taskvectors import MatrixRule, MemorySuite, StateDict, Suite, TaskVector, check_enough

__all__ = [
    "CPU",
    "METHODS",
    "PAPER",
    "Layer",
    "Method",
    "Needs",
    "layers",
    "masks",
    "matrices",
    "merge",
    "method",
    "named",
    "orthogonalised",
    "ties",
    "tsv_m_parts",
    "update",
]

PAPER = MatrixRule()


@method("tsv_m", title="TSV-M", alphas=TENTHS)
def tsv_m(layer: Layer) -> Tensor:
    """Return TSV-Merge (Algorithm 1): orthogonalised sums of task matrices, and the mean of everything else.

    As in the paper's code, and unlike Eq. 1-2, the sum is not divided by the number of tasks. A matrix with fewer
    components than tasks, such as the position embedding of a model with few patches, cannot give each task one;
    it is averaged too. (The paper's models have no such matrix.)
    """
    return _recomposed(layer, 1 / layer.n_tasks, _orthogonalised_product)


@method("tsv_m_eigen", title="TSV-M, eigen form", alphas=TENTHS)
def tsv_m_eigen(layer: Layer) -> Tensor:
    """Return TSV-Merge by whitening (App. D.2.1), which Proposition 4.1 makes the same."""
    return _recomposed(layer, 1 / layer.n_tasks, _whitened_product)


@method("low_rank", title="Low rank only", alphas=THIRTIETHS, needs=VALIDATION)
def low_rank(layer: Layer) -> Tensor:
    """Return the ablation (Tables 4-6) that keeps 1/T of the components of each task and only adds them up."""
    return _recomposed(layer, 1 / layer.n_tasks, Factors.product)


@method("interference_reduction", title="Interference reduction only", alphas=TENTHS, needs=VALIDATION)
def interference_reduction(layer: Layer) -> Tensor:
    """Return the ablation (Tables 4-6) that orthogonalises all components of all tasks at once.

    Singular vectors then outnumber the dimensions: the closest matrix with orthonormal rows takes the place of
    the one with orthonormal columns.
    """
    return _recomposed(layer, 1.0, _orthogonalised_product)


def layers(
    suite: Suite, key: str, rule: MatrixRule = PAPER, device: torch.device = CPU, spectra: Spectra | None = None
) -> list[Layer]:
    """Return the layers of one tensor: itself, or the task matrices that it holds."""
    n_parts = rule.parts(key, suite.shapes[key])
    return [Layer(suite, key, part, n_parts, device, spectra) for part in range(max(1, n_parts))]


def matrices(
    suite: Suite,
    keys: Iterable[str],
    rule: MatrixRule = PAPER,
    device: torch.device = CPU,
    spectra: Spectra | None = None,
) -> list[Layer]:
    """Return the task matrices of the tensors ``keys``, in their order."""
    every = (layers(suite, key, rule, device, spectra) for key in keys)
    return [layer for found in every for layer in found if layer.is_matrix]


def update(
    function: Merge,
    suite: Suite,
    key: str,
    rule: MatrixRule = PAPER,
    device: torch.device = CPU,
    spectra: Spectra | None = None,
) -> Tensor:
    """Return the update of one tensor, on the CPU, by the function that a method made for this suite.

    InputError, naming the tensor, when the update is beyond all numbers of its type.
    """
    parts = [function(layer) for layer in layers(suite, key, rule, device, spectra)]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    check_held(key, whole)
    return whole.reshape(suite.shapes[key]).cpu()


def merge(
    chosen: Method, task_vectors: Sequence[StateDict], *, workers: int = 1, spectra: Spectra | None = None
) -> TaskVector:
    """Return the whole update of task vectors in memory; InputError when they are fewer than two or unlike."""
    check_enough(len(task_vectors))
    suite = MemorySuite(task_vectors)
    keys = list(suite.shapes)
    function = chosen.bind(suite)
    found = devices.ordered(lambda key: update(function, suite, key, spectra=spectra), keys, workers)
    return TaskVector(zip(keys, found, strict=True))


def tsv_m_parts(task_vectors: Sequence[StateDict], spectra: Spectra | None = None) -> list[TaskVector]:
    """Return what each task adds to the update of TSV-M: the parts add up to ``merge`` with that method.

    That is its kept components with their orthogonalised vectors, and its change over the number of tasks where TSV-M
    averages. InputError when task vectors are fewer than two or unlike.
    """
    check_enough(len(task_vectors))
    suite = MemorySuite(task_vectors)
    parts = [TaskVector() for _ in task_vectors]
    for key in suite.shapes:
        (layer,) = layers(suite, key, spectra=spectra)
        added = iter(_added(layer))
        for part, vector in zip(parts, task_vectors, strict=True):
            part[key] = next(added) if vector[key].any() else torch.zeros_like(vector[key])
    return parts


def _added(layer: Layer) -> list[Tensor]:
    """Return what each task that changed a layer adds to the update of TSV-M."""
    if _is_averaged(layer):
        return [change / layer.n_tasks for change in layer.changes()]
    kept = _kept(layer, 1 / layer.n_tasks)
    return [factors.product() for factors in orthogonalised(kept)] if kept else []


def orthogonalised(kept: Sequence[Factors]) -> list[Factors]:
    """Return the components of each task after the vectors of all tasks have been made orthonormal together."""
    u, s, vh = _together(kept)
    whole, counts = (linalg.orthogonalise(u).mT, s, linalg.orthogonalise(vh)), [len(factors.s) for factors in kept]
    blocks = zip(*(torch.split(x, counts) for x in whole), strict=True)
    return [Factors(u.mT, s, vh) for u, s, vh in blocks]


def _recomposed(layer: Layer, fraction: float, product: Callable[[Factors], Tensor]) -> Tensor:
    """Return what ``product`` makes of the components that are kept of all tasks, side by side.

    What is no matrix, or cannot give each task one component, is averaged.
    """
    if _is_averaged(layer):
        return layer.mean()
    if not (kept := _kept(layer, fraction)):
        return torch.zeros(layer.shape, device=layer.device)
    u, s, vh = _together(kept)
    row, exponent = scaled(s[None])
    return unscaled(product(Factors(u, row[0], vh)), exponent)


def _is_averaged(layer: Layer) -> bool:
    return not layer.is_matrix or min(layer.shape) < layer.n_tasks


def _kept(layer: Layer, fraction: float) -> list[Factors]:
    """Return the leading share of the components of each task matrix that is not zero.

    Components that are rounding error are left out: without weight they would add nothing, yet push other tasks'
    directions aside.
    """
    found = layer.factors(linalg.kept_rank(min(layer.shape), fraction))
    return [linalg.truncate(factors, max(1, linalg.numerical_rank(factors))) for factors in found]


def _together(kept: Sequence[Factors]) -> Factors:
    """Return the components of all tasks side by side, which are no longer orthonormal."""
    u = torch.cat([factors.u for factors in kept], dim=1)
    s = torch.cat([factors.s for factors in kept])
    return Factors(u, s, torch.cat([factors.vh for factors in kept]))


def _orthogonalised_product(whole: Factors) -> Tensor:
    """Return the product of factors after both sides have been made orthonormal."""
    u, s, vh = whole
    if len(u) < vh.shape[1]:
        return _orthogonalised_product(Factors(vh.mT, s, u.mT)).mT
    if len(s) > len(u) and (product := _between_roots(whole)) is not None:
        return product
    right = s[:, None] * linalg.orthogonalise(vh)
    root = linalg.inverse_root(u) if len(u) >= 2 * len(s) else None
    if root is None:
        return linalg.orthogonalise(u) @ right
    # A tall matrix is multiplied once if the small ones are multiplied first.
    return (u.to(root.dtype) @ (root @ right.to(root.dtype))).to(u.dtype)


def _between_roots(whole: Factors) -> Tensor | None:
    """Return the same for components that outnumber both dimensions, or None where the roots would be inexact.

    With A = (UUᵀ)^(-1/2) and B = (VVᵀ)^(-1/2), AU and BV have orthonormal rows, and AU diag(s) VᵀB needs the
    many components only in the product of the factors as they are.
    """
    left, right = linalg.inverse_root(whole.u.mT), linalg.inverse_root(whole.vh)
    if left is None or right is None:
        return None
    dtype = torch.promote_types(left.dtype, right.dtype)
    product = Factors(*(part.to(dtype) for part in whole)).product()
    return (left.to(dtype) @ product @ right.to(dtype)).to(whole.s.dtype)


def _whitened_product(whole: Factors) -> Tensor:
    return Factors(linalg.whiten(whole.u), whole.s, linalg.whiten(whole.vh.mT).mT).product()
