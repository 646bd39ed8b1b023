# SPDX-License-Identifier: MIT
"""How long it takes to merge: wall-clock seconds, in which no decomposition comes from a store."""

import time
from collections.abc import Callable, Sequence

from compendium.study import beyond, collecting, studies
from compendium.study.collecting import collected
from compendium.study.evaluation import workers
from compendium.study.runs import Row, Run
from tsvlib import compression
from tsvlib.compression import Rank
from tsvlib.computing import Computing
from tsvlib.methods import MEASURED, PER_TASK, masks

COLUMNS = {
    "backbone": "model that was fine-tuned",
    "n_tasks": "number of tasks that were merged or stored together",
    "method": "what was made of the experts",
    "metric": "seconds",
    "value": "wall-clock seconds from task vectors, in memory where they fit, to what the method makes of them, once, "
    "on a machine that did nothing else; with what is measured on inputs, which is as often the time that the first "
    "task takes as there are tasks; without the choice of alpha or lambda",
}


def seconds(run: Run, n_tasks: int, name: str) -> Row:
    """Return how long a method of ``beyond`` takes for the first ``n_tasks`` experts.

    Experts are read before, and so is what is measured on inputs; the first task is measured anew for its time.
    """
    tasks = run.tasks(n_tasks)
    run.suite(tasks)
    value = _elapsed(_work(run, tasks, name))
    if name in MEASURED and name not in beyond.ADAPTED:
        quantity = MEASURED[name].quantity
        value += n_tasks * _elapsed(lambda: collecting.measured(run, quantity, tasks[0]))
    return {"backbone": run.backbone, "n_tasks": n_tasks, "method": name, "metric": "seconds", "value": value}


def _elapsed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _work(run: Run, tasks: Sequence[str], name: str) -> Callable[[], object]:
    if name in beyond.ADAPTED:
        return lambda: list(studies.adapted(run, len(tasks), names=(name,)))
    if name in studies.SHARED:
        return lambda: _masked(run, tasks, name)
    if name == "tsv_c":
        rank = Rank(fraction=1 / len(tasks))
        return lambda: [compression.compress(run.task_vector(task), rank, workers=workers()) for task in tasks]
    if name in PER_TASK:
        return lambda: PER_TASK[name].pack(run.suite(tasks), tasks)
    chosen = beyond.method(name, lambda quantity: collected(run, quantity, tasks))
    return lambda: beyond.update(run, tasks, chosen, beyond.computing(name, Computing()))


def _masked(run: Run, tasks: Sequence[str], name: str) -> None:
    shared = studies.SHARED[name](run.suite(tasks))
    masks.pack(run.suite(tasks), tasks, shared, [masks.LAMBDA] * len(tasks))
