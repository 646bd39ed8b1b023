# SPDX-License-Identifier: MIT
"""TSV-Compress: a task vector kept as the leading singular components of its task matrices."""

from collections.abc import Mapping

from torch import Tensor

from tsvlib import linalg
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
    for key in compressed:
        names = [key.removesuffix(_PARTS[0]) + part for part in _PARTS]
        if key == names[0] and all(name in compressed for name in names):
            factors = linalg.Factors(*(expanded.pop(name) for name in names))
            expanded[key.removesuffix(_PARTS[0])] = factors.product()
    return expanded


def stored_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes the values of some tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
