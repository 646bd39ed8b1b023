# SPDX-License-Identifier: MIT
"""How much the tasks of a run disturb each other, matrix by matrix: interference and distance from orthogonality.

Interference is that of what a method adds up, in the four forms that the ablation compares (Tables 4-6).
"""

from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean

import torch

from compendium.study import theory
from compendium.study.runs import Row, Run, each
from tsvlib import linalg, sti
from tsvlib.devices import Item
from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.linalg import Factors
from tsvlib.methods import tsv
from tsvlib.sti import Interference

DRAWS = 3
"""Draws of random blocks for each shape: the error hardly differs between them, because the blocks are large."""

PLACE = {
    "backbone": "model that was fine-tuned",
    "n_tasks": "number of tasks taken together, the first ones of the fixed order",
    "seed": "seed of the experts' fine-tuning",
    "layer": "number of the transformer layer, -1 outside of these",
    "matrix": "name of the task matrix within its layer",
}
INTERFERENCE_COLUMNS = PLACE | {
    "form": "what is added up, none: all components of every task, as task arithmetic does; low_rank: 1 / n_tasks of "
    "them; interference_reduction: all of them, vectors orthogonalised across tasks; both: 1 / n_tasks of them, "
    "orthogonalised, as TSV-M does",
    "metric": "norm of Eq. 6, entrywise: sum of the absolute entries; induced: largest sum of these in a column",
    "value": "singular task interference (Eq. 6) of what is added up: unit of the singular values, nine decimals",
}
ERROR_COLUMNS = PLACE | {
    "vectors": "u: left singular vectors of all tasks side by side; v: right ones",
    "rank": "full: all components of each task; low: 1 / n_tasks of them",
    "error": "Frobenius distance to the closest matrix with orthonormal columns, or rows where it is wide (Thm. 6.1)",
    "chance": f"mean of the same over {DRAWS} draws of random orthonormal blocks of the same shapes",
}


def check_norm(norm: str) -> None:
    """Raise an InputError where there is no such norm among those in which interference is measured."""
    if norm not in Interference._fields:
        raise InputError(f"there is no norm {norm!r}; choose one of {', '.join(Interference._fields)}.")


def of_suites(run: Run, suites: Sequence[int]) -> list[Row]:
    """Return singular task interference of what each form adds up: every task matrix, number of tasks and norm.

    It is zero in a matrix that no expert changed; InputError where those of a suite changed none at all.
    """
    for n_tasks in suites:
        run.changed_matrices(run.tasks(n_tasks))

    def rows(layers: Sequence[Layer]) -> list[Row]:
        whole = [_whole(layer) for layer in layers]
        none = sti.nested_interference(max(whole, key=len), [len(found) for found in whole])
        return [
            _place(run, layer) | {"form": form, "metric": norm, "value": round(value, 9)}
            for layer, factors, before in zip(layers, whole, none, strict=True)
            for form, measured in ({"none": before} | _left(layer, factors)).items()
            for norm, value in measured._asdict().items()
        ]

    # The same matrix of every suite together, because the suites share most of their tasks.
    return _over(list(zip(*(run.matrices(run.tasks(n_tasks)) for n_tasks in suites), strict=True)), rows)


def procrustes_errors(run: Run, n_tasks: int) -> list[Row]:
    """Return for every task matrix how far the tasks' singular vectors are from orthonormal, whole and truncated.

    Matrices that no expert changed have no rows; InputError where all are such.
    """

    def rows(layer: Layer) -> list[Row]:
        whole = _whole(layer)
        found: list[Row] = []
        for rank, factors in (("full", whole), ("low", _truncated(layer, whole))):
            sides = {"u": [one.u for one in factors], "v": [one.vh.mT for one in factors]}
            for vectors, blocks in sides.items():
                error = sti.procrustes_error(torch.cat(blocks, dim=1))
                chance = _error_by_chance(len(blocks[0]), tuple(block.shape[1] for block in blocks))
                found.append(_place(run, layer) | {"vectors": vectors, "rank": rank, "error": error, "chance": chance})
        return found

    return _over(run.changed_matrices(run.tasks(n_tasks)), rows)


def _left(layer: Layer, whole: Sequence[Factors]) -> dict[str, Interference]:
    """Return the interference of each form that changes the components ``whole`` before it adds them up."""
    if not whole or tsv.is_averaged(layer):
        # Where the method takes the mean of the task matrices, every form adds up the same.
        mean = [Factors(one.u, one.s / layer.n_tasks, one.vh) for one in whole]
        return dict.fromkeys(("low_rank", "interference_reduction", "both"), sti.singular_task_interference(mean))
    kept = tsv.significant(_truncated(layer, whole))
    # In float64, because that leaves nothing but rounding.
    wide = [Factors(*(part.double() for part in one)) for one in kept]
    return {
        "low_rank": sti.singular_task_interference(kept),
        "interference_reduction": sti.remaining_interference(tsv.orthogonalised(tsv.significant(whole))),
        "both": sti.remaining_interference(tsv.orthogonalised(wide)),
    }


@cache
def _error_by_chance(rows: int, columns: tuple[int, ...]) -> float:
    draws = [torch.cat(theory.random_blocks(rows, columns, seed), dim=1) for seed in range(DRAWS)]
    return fmean(map(sti.procrustes_error, draws))


def _whole(layer: Layer) -> list[Factors]:
    return layer.factors(min(layer.shape))


def _truncated(layer: Layer, whole: Sequence[Factors]) -> list[Factors]:
    """Return the share of the components that TSV-M keeps."""
    k = linalg.kept_rank(min(layer.shape), 1 / layer.n_tasks)
    return [linalg.truncate(one, k) for one in whole]


def _over(matrices: Sequence[Item], rows: Callable[[Item], list[Row]]) -> list[Row]:
    return [row for found in each(rows, matrices) for row in found]


def _place(run: Run, layer: Layer) -> Row:
    number, matrix = run.evaluator.world.place(layer.key)
    return {
        "backbone": run.backbone,
        "n_tasks": layer.n_tasks,
        "seed": run.seed,
        "layer": number,
        "matrix": matrix,
    }
