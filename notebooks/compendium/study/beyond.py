# SPDX-License-Identifier: MIT
"""All methods on equal terms: those of Table 1 and those that came after the paper, with what each takes.

A method that declares to need labels has its alpha chosen by validation inputs, from every third value of its own grid;
any other is taken with alpha = 1. The few in ``ALONE`` are measured both ways. All this was decided before any of these
numbers existed, and by cost: whole grids would take twice the time.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from compendium.study import studies
from compendium.study.adaptation import PROTOCOL
from compendium.study.collecting import collected
from compendium.study.evaluation import workers
from compendium.study.observations import ALL_TASKS, lambda_rows, observation, tested
from compendium.study.runs import Row, Run
from compendium.study.statistics import COUNTS
from compendium.study.studies import COLUMNS, SHARED, STARTS
from tsvlib import merging
from tsvlib.computing import Computing
from tsvlib.methods import MEASURED, PER_TASK, named
from tsvlib.methods.base import Method, Quantity
from tsvlib.methods.statistics import Statistics
from tsvlib.taskvectors import MatrixRule, TaskVector

SPLIT = "tsv_m_split"
"""TSV-M with the projections to queries, keys and values as three matrices where one tensor holds them."""

ALONE = ("tsv_m", "dc_merge", "iso_c", "iso_cts")
"""What needs nothing with alpha = 1, and is measured with a chosen alpha as well."""

ONE = "_alpha_1"
"""The end of the name of a method that has alpha = 1 where its grid has more."""

EVERY = 3
"""Of the alphas of a grid every third one is a choice, from the first on."""

TABLE_1 = ("weight_averaging", "task_arithmetic", "ties", "consensus_ta", "fisher", "regmean")
TSV = (
    f"tsv_m{ONE}",
    "tsv_m",
    SPLIT,
    "tsv_m_exchanged",
    "tsv_m_gavish_donoho",
    "tsv_m_marchenko_pastur",
    "tsv_m_energy",
)
SUCCESSORS = (
    *(name for each in ALONE[1:] for name in (f"{each}{ONE}", each)),
    "regmean_from_differences",
    "swudi",
    "aswudi",
    "wudi",
    "star",
    "cart",
    "dare",
    "breadcrumbs",
    "knots_ties",
    "esm",
)
FOLLOWED = (
    "task_arithmetic+svc",
    "tsv_m+svc_shrinking",
    "task_arithmetic+boosting",
    f"tsv_m{ONE}+boosting",
    "task_arithmetic+lines",
)
MERGED = (*TABLE_1, *TSV, *SUCCESSORS, *FOLLOWED)
"""One model for all tasks."""

ADAPTED = tuple(name for name in STARTS if name != "tsv_m_adapted")
"""One model by test-time adaptation, which takes long: of the first suite of each backbone alone."""

PACKED = ("tsv_c", *PER_TASK)
"""A model for each task."""

TAKEN = COLUMNS | {
    "value": f"{COLUMNS['value']}; bytes: values that are stored, of one update or of all that tasks have beside what "
    "they share; inputs, labels: validation inputs that a method is shown, and those of which it is told the label"
}

Measurements = Callable[[Quantity], Sequence[Statistics]]
"""From what has to be measured to the statistics of each expert."""


def measured(run: Run, n_tasks: int, name: str) -> list[Row]:
    """Return the rows of a method by its name, on the first ``n_tasks`` tasks."""
    rows = _measured(run, n_tasks, name)
    taken = dict(zip(("inputs", "labels"), shown(run, n_tasks, name), strict=True))
    return rows + [observation(run, n_tasks, name, ALL_TASKS, metric, value) for metric, value in taken.items()]


def method(name: str, measurements: Measurements) -> Method:
    """Return the method that merges, with the alphas that there are to choose from here."""
    plain = name.removesuffix(ONE)
    if plain in MEASURED:
        return MEASURED[plain].by(measurements(MEASURED[plain].quantity))
    found = replace(named("tsv_m" if plain == SPLIT else plain), name=name)
    return replace(found, alphas=found.alphas[::EVERY] if is_searched(name) else (1.0,))


def is_searched(name: str) -> bool:
    """Tell whether labels choose the alpha of a method that merges."""
    if name.endswith(ONE) or name == SPLIT or name in MEASURED:
        return False
    return named(name).needs.labels or name in ALONE


def computing(name: str, usual: Computing) -> Computing:
    """Return how a method computes."""
    return replace(usual, rule=MatrixRule(split_qkv=True)) if name == SPLIT else usual


def update(run: Run, tasks: Sequence[str], chosen: Method, how: Computing) -> TaskVector:
    """Return the update of a method for the experts of ``tasks``."""
    return merging.merged_update(run.suite(tasks), chosen, workers=workers(), computing=how)


def shown(run: Run, n_tasks: int, name: str) -> tuple[int, int]:
    """Return how many validation inputs a method is shown, and of how many of these it is told the label."""
    if name in ADAPTED:
        return _count(run, n_tasks, PROTOCOL.steps * PROTOCOL.batch), 0
    if name in MEASURED:
        return _count(run, n_tasks, COUNTS[MEASURED[name].quantity]), 0
    # A lambda is chosen by all inputs, among them those that choose an alpha.
    if name in SHARED or name == "consensus_ta":
        return (_count(run, n_tasks, None),) * 2
    searched = name in MERGED and is_searched(name)
    return (_count(run, n_tasks, run.profile.samples.alpha // n_tasks) if searched else 0,) * 2


def _measured(run: Run, n_tasks: int, name: str) -> list[Row]:
    if name in ADAPTED:
        return _adapted(run, n_tasks, name)
    if name in SHARED:
        return studies.masked(run, n_tasks, name)
    if name == "tsv_c":
        return [row for row in studies.compressed(run, n_tasks) if row["method"] == name]
    return _packed(run, n_tasks, name) if name in PER_TASK else _merged(run, n_tasks, name)


def _merged(run: Run, n_tasks: int, name: str) -> list[Row]:
    tasks, lambdas = run.tasks(n_tasks), list[Row]()
    chosen = method(name, lambda quantity: collected(run, quantity, tasks))
    if name == "consensus_ta":
        agreed, found = studies.agreed(run, n_tasks)
        chosen, lambdas = replace(chosen, bind=agreed.bind), lambda_rows(run, name, found)
    merged = update(run, tasks, chosen, computing(name, run.computing))
    rows = studies.searched(run, n_tasks, chosen, merged)
    return [*rows, *lambdas, observation(run, n_tasks, name, ALL_TASKS, "bytes", merged.stored_bytes)]


def _adapted(run: Run, n_tasks: int, name: str) -> list[Row]:
    (rows,) = studies.adapted(run, n_tasks, names=(name,))
    size = sum(tensor.nbytes for tensor in run.evaluator.base.values())
    kept = [row for row in rows if row["metric"] in ("accuracy", "normalised_accuracy")]
    return [*kept, observation(run, n_tasks, name, ALL_TASKS, "bytes", size)]


def _packed(run: Run, n_tasks: int, name: str) -> list[Row]:
    tasks, base, evaluator = run.tasks(n_tasks), run.evaluator.base, run.evaluator
    experts = PER_TASK[name].pack(run.suite(tasks), tasks)
    hits = {task: evaluator.hits(experts.expert(task).apply(base), [task], "test")[task] for task in tasks}
    return [*tested(run, name, hits), observation(run, n_tasks, name, ALL_TASKS, "bytes", experts.stored_bytes)]


def _count(run: Run, n_tasks: int, most: int | None) -> int:
    """Return how many validation inputs there are of some tasks, of each ``most`` at most."""
    counts = [len(run.evaluator.world.split(task, "validation").inputs) for task in run.tasks(n_tasks)]
    return sum(count if most is None else min(most, count) for count in counts)
