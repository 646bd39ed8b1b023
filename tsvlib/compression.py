# SPDX-License-Identifier: MIT
"""TSV-Compress: a task vector kept as the leading singular components of its task matrices."""

from collections.abc import Mapping

from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict, is_task_matrix

_PARTS = (".u", ".s", ".vh")


def compress(task_vector: StateDict, fraction: float) -> dict[str, Tensor]:
    """Return factors ``key.u``, ``key.s``, ``key.vh`` of each task matrix, and all other tensors whole.

    Each matrix keeps ``fraction`` of its singular components, at least one. The paper keeps one over the
    number of tasks, so that all compressed task vectors together need about twice the space of one model.
    """
    compressed: dict[str, Tensor] = {}
    for key, tensor in task_vector.items():
        if is_task_matrix(key, tensor):
            factors = linalg.truncate(linalg.svd(tensor), linalg.kept_rank(min(tensor.shape), fraction))
            # Copies, since slices would keep the whole factors in memory.
            compressed |= {key + part: factor.clone() for part, factor in zip(_PARTS, factors, strict=True)}
        else:
            compressed[key] = tensor
    return compressed


def expand(compressed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the task vector that the output of ``compress`` stands for, whatever the order of its keys."""
    expanded = dict(compressed)
    for key in _factorised(compressed):
        factors = linalg.Factors(*(expanded.pop(key + part) for part in _PARTS))
        expanded[key] = factors.product()
    return expanded


def shorten(compressed: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """Return what ``compress`` would with a smaller ``fraction``, without decomposing anything again."""
    shortened = dict(compressed)
    for key in _factorised(compressed):
        factors = linalg.Factors(*(compressed[key + part] for part in _PARTS))
        k = linalg.kept_rank(min(len(factors.u), factors.vh.shape[1]), fraction)
        if k > len(factors.s):
            raise InputError(f"`{key}` has only {len(factors.s)} components left, not {k}; compress it anew.")
        leading = linalg.truncate(factors, k)
        shortened |= {key + part: factor for part, factor in zip(_PARTS, leading, strict=True)}
    return shortened


def stored_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes the values of some tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _factorised(compressed: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the matrices that are there as factors."""
    stems = [key.removesuffix(_PARTS[0]) for key in compressed if key.endswith(_PARTS[0])]
    return [stem for stem in stems if all(stem + part in compressed for part in _PARTS)]
