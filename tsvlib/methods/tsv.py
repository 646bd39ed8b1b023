# SPDX-License-Identifier: MIT
"""The paper's methods: TSV-Merge, its two forms and the two halves of it that the ablation takes apart."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from tsvlib import linalg
from tsvlib.computing import ORDINARY, Computing
from tsvlib.layers import Layer, Suite, layers_of
from tsvlib.linalg import Factors
from tsvlib.precision import scaled, unscaled
from tsvlib.taskvectors import check_enough


def tsv_m(layer: Layer) -> Tensor:
    """Return TSV-Merge (Algorithm 1): orthogonalised sums of task matrices, and the mean of everything else.

    As in the paper's code, and unlike Eq. 1-2, the sum is not divided by the number of tasks. A matrix with fewer
    components than tasks, such as the position embedding of a model with few patches, cannot give each task one;
    it is averaged too. (The paper's models have no such matrix.)
    """
    return _recomposed(layer, 1 / layer.n_tasks, linalg.polar_product)


def tsv_m_eigen(layer: Layer) -> Tensor:
    """Return TSV-Merge by whitening (App. D.2.1), which Proposition 4.1 makes the same."""
    return _recomposed(layer, 1 / layer.n_tasks, _whitened_product)


def low_rank(layer: Layer) -> Tensor:
    """Return the ablation (Tables 4-6) that keeps 1/T of the components of each task and only adds them up."""
    return _recomposed(layer, 1 / layer.n_tasks, Factors.product)


def interference_reduction(layer: Layer) -> Tensor:
    """Return the ablation (Tables 4-6) that orthogonalises all components of all tasks at once.

    Singular vectors then outnumber the dimensions: the closest matrix with orthonormal rows takes the place of
    the one with orthonormal columns.
    """
    return _recomposed(layer, 1.0, linalg.polar_product)


def tsv_m_parts(suite: Suite, key: str, computing: Computing = ORDINARY) -> Shaped[Tensor, "tasks ..."]:
    """Return what each task adds to one tensor of the update of TSV-M, one after the other: they add up to that.

    That is its kept components with their orthogonalised vectors, and its change over the number of tasks where TSV-M
    averages. InputError when there are fewer than two tasks.
    """
    check_enough(suite.n_tasks)
    (layer,) = layers_of(suite, key, computing)
    parts = torch.zeros(suite.n_tasks, *layer.shape, dtype=suite.dtype)
    changed = [expert for expert, _ in layer.numbered_changes()]
    for expert, part in zip(changed, _added(layer), strict=True):
        parts[expert] = part
    return parts.reshape(suite.n_tasks, *suite.shapes[key])


def _added(layer: Layer) -> list[Tensor]:
    """Return what each task that changed a layer adds to the update of TSV-M."""
    if is_averaged(layer):
        return [change / layer.n_tasks for change in layer.changes()]
    kept = _kept(layer, 1 / layer.n_tasks)
    return [factors.product() for factors in orthogonalised(kept)] if kept else []


def orthogonalised(kept: Sequence[Factors]) -> list[Factors]:
    """Return the components of each task after the vectors of all tasks have been made orthonormal together.

    Where they outnumber the dimensions, they become the closest matrix with orthonormal rows.
    """
    u, s, vh = together(kept)
    whole, counts = (linalg.orthogonalise(u).mT, s, linalg.orthogonalise(vh)), [len(factors.s) for factors in kept]
    blocks = zip(*(torch.split(x, counts) for x in whole), strict=True)
    return [Factors(u.mT, s, vh) for u, s, vh in blocks]


def _recomposed(layer: Layer, fraction: float, product: Callable[[Factors], Tensor]) -> Tensor:
    """Return what ``product`` makes of the components that are kept of all tasks, side by side.

    What is no matrix, or cannot give each task one component, is averaged.
    """
    return layer.mean() if is_averaged(layer) else recomposed(layer, _kept(layer, fraction), product)


def recomposed(layer: Layer, kept: Sequence[Factors], product: Callable[[Factors], Tensor]) -> Tensor:
    """Return what ``product`` makes of some components of each task, side by side; zero where there are none."""
    if not kept:
        return torch.zeros(layer.shape, device=layer.device)
    u, s, vh = together(kept)
    row, exponent = scaled(s[None])
    return unscaled(product(Factors(u, row[0], vh)), exponent)


def is_averaged(layer: Layer) -> bool:
    """Tell whether TSV-Merge averages a layer: no matrix, or one with too few components to give each task one."""
    return not layer.is_matrix or layer.rank < layer.n_tasks


def _kept(layer: Layer, fraction: float) -> list[Factors]:
    """Return the leading share of the components of each task matrix that is not zero."""
    return significant(layer.factors(linalg.kept_rank(layer.rank, fraction)))


def significant(found: Sequence[Factors]) -> list[Factors]:
    """Return the components of each task that are more than rounding error, and at least one.

    Without weight the others would add nothing, yet push other tasks' directions aside.
    """
    return [linalg.truncate(factors, max(1, linalg.numerical_rank(factors))) for factors in found]


def together(kept: Sequence[Factors]) -> Factors:
    """Return the components of all tasks side by side, which are no longer orthonormal."""
    u = torch.cat([factors.u for factors in kept], dim=1)
    s = torch.cat([factors.s for factors in kept])
    return Factors(u, s, torch.cat([factors.vh for factors in kept]))


def _whitened_product(whole: Factors) -> Tensor:
    return Factors(linalg.whiten(whole.u), whole.s, linalg.whiten(whole.vh.mT).mT).product()
