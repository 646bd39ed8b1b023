# SPDX-License-Identifier: MIT
"""How similar the singular vectors of different tasks are: the maps UᵀU and VᵀV of one task matrix (Figure 3)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from compendium.study.runs import Row, Run
from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.layers import layers_of

COLUMNS = {
    "vectors": "u: left singular vectors; v: right ones",
    "task": "task of the first vector, in the fixed order",
    "first": "number of a vector: those of the first task, strongest first, then those of the second, and so on",
    "second": "number of another vector, not below the first",
    "similarity": "their inner product; signs are such that the largest entry of every left vector is positive",
}


def maps(run: Run, n_tasks: int, key: str, k: int) -> list[Row]:
    """Return the upper triangles of UᵀU and VᵀV for the k leading components of those tasks that changed a matrix.

    InputError when ``key`` names no task matrix that one of them changed, or a matrix with fewer components.
    """
    tasks = run.tasks(n_tasks)
    shapes = {layer.key: layer.shape for layer in run.changed_matrices(tasks)}
    if key not in shapes:
        raise InputError(f"no expert changed a task matrix {key!r}; choose one of {', '.join(shapes)}.")
    if not 1 <= k <= min(shapes[key]):
        raise InputError(f"{key}: it has {min(shapes[key])} components; compare at least one and no more, not {k}.")
    (layer,) = layers_of(run.suite_on_disk(tasks), key, run.computing)
    factors = [linalg.signed(linalg.truncate(each, k)) for each in layer.factors(min(layer.shape))]
    sides = {"u": [each.u for each in factors], "v": [each.vh.mT for each in factors]}
    changed = [tasks[number] for number, _ in layer.numbered_changes()]
    owners = [task for task, each in zip(changed, factors, strict=True) for _ in each.s]
    return [row for name, blocks in sides.items() for row in _rows(name, owners, torch.cat(blocks, dim=1))]


def _rows(name: str, owners: Sequence[str], vectors: Float[Tensor, "rows columns"]) -> list[Row]:
    products = (vectors.mT @ vectors).double()
    return [
        {"vectors": name, "task": owners[i], "first": i, "second": j, "similarity": round(value, 3)}
        for i, line in enumerate(products.tolist())
        for j, value in enumerate(line[i:], start=i)
    ]
