# SPDX-License-Identifier: MIT
"""Rows of tidy tables: one observation of a method on the suite of a run, such as its accuracy on a task."""

from collections.abc import Mapping

from compendium.study.evaluation import Hits, normalised_accuracy, packed, shares
from compendium.study.runs import Row, Run

ALL_TASKS = "all"
"""In the place of a task, for values of the whole suite."""


def tested(run: Run, method: str, hits: Mapping[str, Hits]) -> list[Row]:
    """Return the rows of what has been right of the test inputs of each task, and their mean normalised accuracy."""
    n_tasks, accuracies = len(hits), shares(hits)
    normalised = normalised_accuracy(accuracies, shares(run.individual("test", list(hits))))
    return [
        *(observation(run, n_tasks, method, task, "accuracy", accuracies[task], hits[task]) for task in hits),
        observation(run, n_tasks, method, ALL_TASKS, "normalised_accuracy", normalised),
    ]


def observation(
    run: Run, n_tasks: int, method: str, task: str, metric: str, value: float | int, hits: Hits | None = None
) -> Row:
    """Return one row."""
    return {
        "backbone": run.backbone,
        "n_tasks": n_tasks,
        "method": method,
        "seed": run.seed,
        "task": task,
        "metric": metric,
        "value": float(value),
        "hits": "" if hits is None else packed(hits),
    }


def lambda_rows(run: Run, method: str, chosen: Mapping[str, float]) -> list[Row]:
    """Return the rows of the lambdas that were chosen."""
    return [observation(run, len(chosen), method, task, "lambda", value) for task, value in chosen.items()]
