# SPDX-License-Identifier: MIT
"""How much the tasks of a run disturb each other, matrix by matrix: interference and distance from orthogonality."""

from collections.abc import Callable, Sequence

import torch

from compendium.study.runs import Row, Run, each
from tsvlib import linalg, sti
from tsvlib.layers import Layer
from tsvlib.linalg import Factors

PLACE = {
    "backbone": "model that was fine-tuned",
    "n_tasks": "number of tasks taken together, the first ones of the fixed order",
    "seed": "seed of the experts' fine-tuning",
    "layer": "number of the transformer layer, -1 outside of these",
    "matrix": "name of the task matrix within its layer",
}
INTERFERENCE_COLUMNS = PLACE | {
    "rank": "full: all components of each task; low: 1 / n_tasks of them, as TSV-M keeps, before it orthogonalises",
    "metric": "norm of Eq. 6, entrywise: sum of the absolute entries; induced: largest sum of these in a column",
    "value": "singular task interference (Eq. 6), in the unit of the singular values",
}
ERROR_COLUMNS = PLACE | {
    "vectors": "u: left singular vectors of all tasks side by side; v: right ones",
    "rank": "full: all components of each task; low: 1 / n_tasks of them",
    "error": "Frobenius distance to the closest matrix with orthonormal columns, or rows where it is wide (Thm. 6.1)",
}


def of_suites(run: Run, suites: Sequence[int]) -> list[Row]:
    """Return singular task interference of every task matrix, in both norms, for each number of tasks and rank."""

    def rows(layer: Layer) -> list[Row]:
        changed = [expert for expert, _ in layer.numbered_changes()]
        sizes = [sum(expert < n_tasks for expert in changed) for n_tasks in suites]
        factors = _factors(layer)
        full = sti.nested_interference(factors, sizes)
        kept = [linalg.kept_rank(min(layer.shape), 1 / n_tasks) for n_tasks in suites]
        low = [
            sti.singular_task_interference([linalg.truncate(one, k) for one in factors[:size]])
            for k, size in zip(kept, sizes, strict=True)
        ]
        return [
            _place(run, n_tasks, layer) | {"rank": rank, "metric": norm, "value": value}
            for rank, found in (("full", full), ("low", low))
            for n_tasks, both in zip(suites, found, strict=True)
            for norm, value in both._asdict().items()
        ]

    return _over_matrices(run, max(suites), rows)


def procrustes_errors(run: Run, n_tasks: int) -> list[Row]:
    """Return for every task matrix how far the tasks' singular vectors are from orthonormal, whole and truncated."""

    def rows(layer: Layer) -> list[Row]:
        whole = _factors(layer)
        k = linalg.kept_rank(min(layer.shape), 1 / n_tasks)
        found: list[Row] = []
        for rank, factors in (("full", whole), ("low", [linalg.truncate(one, k) for one in whole])):
            sides = {"u": [one.u for one in factors], "v": [one.vh.mT for one in factors]}
            for vectors, blocks in sides.items():
                error = sti.procrustes_error(torch.cat(blocks, dim=1))
                found.append(_place(run, n_tasks, layer) | {"vectors": vectors, "rank": rank, "error": error})
        return found

    return _over_matrices(run, n_tasks, rows)


def _factors(layer: Layer) -> list[Factors]:
    return layer.factors(min(layer.shape))


def _over_matrices(run: Run, n_tasks: int, rows: Callable[[Layer], list[Row]]) -> list[Row]:
    return [row for found in each(rows, run.matrices(run.tasks(n_tasks))) for row in found]


def _place(run: Run, n_tasks: int, layer: Layer) -> Row:
    number, matrix = run.evaluator.world.place(layer.key)
    return {"backbone": run.backbone, "n_tasks": n_tasks, "seed": run.seed, "layer": number, "matrix": matrix}
