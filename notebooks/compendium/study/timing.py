# SPDX-License-Identifier: MIT
"""How long it takes to merge: wall-clock seconds, in which nothing is taken from a store or a cache."""

import time
from collections.abc import Callable, Sequence

from compendium.study import beyond, collecting, studies
from compendium.study.evaluation import workers
from compendium.study.runs import Row, Run
from tsvlib import compression
from tsvlib.compression import Rank
from tsvlib.layers import Computing
from tsvlib.methods import METHODS, masks
from tsvlib.methods.base import PerTask, Quantity
from tsvlib.methods.statistics import Statistics

COLUMNS = {
    "backbone": "model that was fine-tuned",
    "n_tasks": "number of tasks that were merged or stored together",
    "method": "what was made of the experts",
    "metric": "seconds",
    "value": "wall-clock seconds from task vectors, in memory where they fit, to what the method makes of them, once, "
    "on a machine that did nothing else; with what is measured on inputs, without the choice of alpha or lambda",
}


def seconds(run: Run, n_tasks: int, name: str) -> Row:
    """Return how long a method of ``beyond`` takes for the first ``n_tasks`` experts, which are read before."""
    tasks = run.tasks(n_tasks)
    run.suite(tasks)
    work = _work(run, tasks, name)
    start = time.perf_counter()
    work()
    value = time.perf_counter() - start
    return {"backbone": run.backbone, "n_tasks": n_tasks, "method": name, "metric": "seconds", "value": value}


def _work(run: Run, tasks: Sequence[str], name: str) -> Callable[[], object]:
    if name in beyond.ADAPTED:
        return lambda: list(studies.adapted(run, len(tasks), names=(name,)))
    if name in studies.SHARED:
        return lambda: _masked(run, tasks, name)
    if name == "tsv_c":
        rank = Rank(fraction=1 / len(tasks))
        return lambda: [compression.compress(run.task_vector(task), rank, workers=workers()) for task in tasks]
    if isinstance(row := METHODS.get(name), PerTask):
        return lambda: row.pack(run.suite(tasks), tasks)
    return lambda: _merged(run, tasks, name)


def _merged(run: Run, tasks: Sequence[str], name: str) -> None:
    def measured(quantity: Quantity) -> list[Statistics]:
        return [collecting.measured(run, quantity, task) for task in tasks]

    beyond.update(run, tasks, beyond.method(name, measured), beyond.computing(name, Computing()))


def _masked(run: Run, tasks: Sequence[str], name: str) -> None:
    shared = studies.SHARED[name](run.suite(tasks))
    masks.pack(run.suite(tasks), tasks, shared, [masks.LAMBDA] * len(tasks))
