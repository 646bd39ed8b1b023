# SPDX-License-Identifier: MIT
"""The paper's experiments, one small step each; notebooks loop over them and keep the rows.

A row is one observation: ``backbone, n_tasks, method, seed, task, metric, value, hits``; ``COLUMNS`` says what
they hold.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import product

import torch
from torch import Tensor

from compendium import paths
from compendium.study import adaptation
from compendium.study.adaptation import PROTOCOL, Adapted, Parts, Settings
from compendium.study.evaluation import Candidate, Hits, normalised_accuracy, shares, workers
from compendium.study.observations import ALL_TASKS, lambda_rows, observation, tested
from compendium.study.runs import Row, Run, each
from tsvlib import checkpoints, devices
from tsvlib.checkpoints import TensorInfo
from tsvlib.compression import Rank
from tsvlib.errors import InputError
from tsvlib.layers import Suite
from tsvlib.methods import emr, masks, named, tsv
from tsvlib.methods.base import Experts, Method
from tsvlib.search import best_alpha
from tsvlib.taskvectors import StateDict, TaskVector

SEARCH = {"alpha": 0.3, "evaluations": 4, "hits": 0.1}
"""How far a search of alpha may end elsewhere on another machine, where the score is flat.

A neighbouring alpha has other inputs right, though about as many."""

AT_ONE = "tsv_m_alpha_1"
"""TSV-M with the alpha that the paper recommends instead of one that labels chose."""

TALL_MASK = "tall_mask_ties"
SHARED: dict[str, Callable[[Suite], TaskVector]] = {
    TALL_MASK: masks.shared_update,
    "tall_mask_ta": partial(masks.shared_update, bind=masks.ARITHMETIC),
}
"""What experts share of which TALL masks keep a part, by the names of these methods."""

STARTS = {"adamerging_task": 0.3, "adamerging": 0.3, "tsv_m_adapted": 1.0}
"""The forms of test-time adaptation, with the value at which all of their coefficients start."""

TASKWISE = ("adamerging_task",)
"""Those with a single coefficient for each task."""
HITS = "inputs that were right, in the order of the split: one bit each, eight of them as two hexadecimal digits"
COLUMNS = {
    "backbone": "model that was fine-tuned",
    "n_tasks": "number of tasks that were merged or stored together, the first ones of the fixed order",
    "method": "what the encoder's weights are",
    "seed": "seed of the experts' fine-tuning",
    "task": "task that was measured; 'all' for values of the whole suite",
    "metric": "kind of the value",
    "value": "accuracy: share of correct test inputs in [0, 1]; normalised_accuracy: mean over tasks of accuracy / "
    "accuracy of the expert; alpha: chosen on validation inputs, equally many of each task; validation_score: its "
    "normalised accuracy there; evaluations: alphas scored; lambda: of the task's TALL mask, chosen on all of its "
    "validation inputs; bytes: values of all task vectors as they are stored",
    "hits": f"{HITS}; empty beside what is no accuracy",
}
CONFUSION_COLUMNS = {
    "task": "task whose test inputs were shown",
    "true": "number of their class, from 0, in the order of the task's classes",
    "predicted": "number of the class that the merged model saw",
    "inputs": "how many inputs",
}
ADAPTED_COLUMNS = COLUMNS | {
    "value": "accuracy and normalised_accuracy as for merging, with the coefficients found; entropy_after: "
    "mean entropy of predictions on validation inputs in nats; those with _before: with the coefficients at the start; "
    "coefficient_least, coefficient_mean, coefficient_largest: of those found, over tasks and tensors"
}


def references(run: Run, n_tasks: int) -> list[Row]:
    """Return the rows between which a merged model lies: the zero-shot model and the individual experts."""
    tasks = run.tasks(n_tasks)
    (zero_shot,) = run.measured_with_experts([Candidate(lambda: run.evaluator.base, tasks)], "test", tasks)
    return [*tested(run, "zero_shot", zero_shot), *tested(run, "individual", run.individual("test", tasks))]


def validation_score(run: Run, update: TaskVector, tasks: Sequence[str]) -> Callable[[float], float]:
    """Return what judges an alpha, as :func:`validation_scores` does it."""
    scores = validation_scores(run, update, tasks)
    return lambda alpha: scores([alpha])[0]


def validation_scores(run: Run, update: TaskVector, tasks: Sequence[str]) -> Callable[[Sequence[float]], list[float]]:
    """Return what judges alphas: the mean normalised accuracy of base + alpha * update on validation inputs.

    A suite is judged by at most as many inputs as the profile states, the same number of first ones of each task. No
    label is read before there is an alpha to judge.
    """
    most, base = run.profile.samples.alpha // len(tasks), run.evaluator.base
    individual = cache(lambda: shares(run.individual("validation", tasks, most)))

    def scores(alphas: Sequence[float]) -> list[float]:
        scaled = [Candidate(partial(update.apply, base, alpha), tasks) for alpha in alphas]
        experts, measured = individual(), run.evaluator.hits_of(scaled, "validation", most)
        return [normalised_accuracy(shares(hits), experts) for hits in measured]

    return scores


def merge(run: Run, n_tasks: int, method: Method) -> list[Row]:
    """Merge the first ``n_tasks`` experts, choose alpha on validation inputs, and return the rows of the test."""
    return searched(run, n_tasks, method, run.merged(method, n_tasks))


def tsv_merge(run: Run, n_tasks: int) -> list[Row]:
    """Return the rows of TSV-M with the alpha that validation inputs choose and, as ``AT_ONE``, with alpha = 1."""
    method = named("tsv_m")
    update = run.merged(method, n_tasks)
    whole = run.evaluator.hits(update.apply(run.evaluator.base), run.tasks(n_tasks), "test")
    return searched(run, n_tasks, method, update) + tested(run, AT_ONE, whole)


def consensus(run: Run, n_tasks: int) -> list[Row]:
    """Return the rows of Consensus TA with the lambda of each task chosen for its mask of the sum of task vectors."""
    method, chosen = agreed(run, n_tasks)
    return merge(run, n_tasks, method) + lambda_rows(run, method.name, chosen)


def agreed(run: Run, n_tasks: int) -> tuple[Method, dict[str, float]]:
    """Return Consensus TA with the lambda of each task that validation inputs choose, and these."""
    chosen = lambdas(run, n_tasks, run.merged(named("task_arithmetic"), n_tasks))
    return replace(named("consensus_ta"), bind=masks.consensus(list(chosen.values()))), chosen


def masked(run: Run, n_tasks: int, name: str = TALL_MASK) -> list[Row]:
    """Return the rows of TALL masks: each expert as its mask of the update that all share, and their bytes."""
    tasks = run.tasks(n_tasks)
    shared = SHARED[name](run.suite(tasks))
    chosen = lambdas(run, n_tasks, shared)

    def measured(task: str) -> tuple[Hits, int]:
        mask = masks.pack(run.suite([task]), [task], shared, [chosen[task]])
        state = mask.expert(task).apply(run.evaluator.base)
        return run.evaluator.hits(state, [task], "test")[task], mask.stored_bytes - shared.stored_bytes

    results = dict(zip(tasks, each(measured, tasks), strict=True))
    size = shared.stored_bytes + sum(mask for _, mask in results.values())
    return [
        *tested(run, name, {task: hits for task, (hits, _) in results.items()}),
        *lambda_rows(run, name, chosen),
        observation(run, n_tasks, name, ALL_TASKS, "bytes", size),
    ]


def lambdas(run: Run, n_tasks: int, shared: TaskVector) -> dict[str, float]:
    """Return for each task the lambda whose mask of an update scores best on the task's validation inputs.

    Of several that do, the smallest, as in the code of TALL-masks.
    """
    tasks, choices = run.tasks(n_tasks), run.profile.lambdas

    def state(task: str, value: float) -> StateDict:
        return masks.masked(shared, run.task_vector(task), value).apply(run.evaluator.base)

    pairs = list(product(tasks, choices))
    candidates = [Candidate(partial(state, *pair), pair[:1]) for pair in pairs]
    found = zip(pairs, run.evaluator.hits_of(candidates, "validation"), strict=True)
    scores = {pair: shares(hits)[pair[0]] for pair, hits in found}
    return {task: max(choices, key=lambda value: scores[task, value]) for task in tasks}


def confusion(run: Run, n_tasks: int, method: Method, alpha: float) -> list[Row]:
    """Return how often a merged model takes test inputs of one class for another, for every task of the suite."""
    tasks, base = run.tasks(n_tasks), run.evaluator.base
    state = run.merged(method, n_tasks).apply(base, alpha)
    world = run.evaluator.world
    labels = {task: world.split(task, "test").labels for task in tasks}
    classes = {task.name: range(len(task.classes)) for task in world.tasks}
    predicted = run.evaluator.predictions(state, tasks, "test")
    counts = {task: Counter(zip(labels[task].tolist(), predicted[task].tolist(), strict=True)) for task in tasks}
    return [
        {"task": task, "true": true, "predicted": found, "inputs": float(counts[task][true, found])}
        for task in tasks
        for true, found in product(classes[task], repeat=2)
    ]


def compressed(run: Run, n_tasks: int, rank: Rank | None = None) -> list[Row]:
    """Return the rows of TSV-C: each expert from 1 / n_tasks of its components or of a rank, with the bytes it takes.

    The bytes of ``individual`` are those of whole task vectors. Both count float32 values. InputError for a rank by
    energy, which gives each task matrix another number of components.
    """
    tasks = run.tasks(n_tasks)
    rank = rank or Rank(fraction=1 / n_tasks)
    if rank.energy:
        raise InputError(f"TSV-C is measured at shares or numbers of components; choose one of these, not {rank}.")
    results = dict(zip(tasks, each(lambda task: run.truncated(task, [rank])[0], tasks), strict=True))
    rows = tested(run, "individual", run.individual("test", run.tasks(n_tasks)))
    rows += tested(run, "tsv_c", {task: hits for task, (hits, _) in results.items()})
    whole = len(tasks) * run.task_vector(tasks[0]).stored_bytes
    sizes = {"individual": whole, "tsv_c": sum(size for _, size in results.values())}
    return rows + [observation(run, n_tasks, method, ALL_TASKS, "bytes", size) for method, size in sizes.items()]


def room(run: Run, n_tasks: int) -> list[Row]:
    """Return the rows with the bytes of what else keeps a model for each task: TALL masks of the sum, EMR-Merging."""
    tasks, suite = run.tasks(n_tasks), run.suite(run.tasks(n_tasks))
    # Whatever the lambda, a mask takes the same room.
    packed: dict[str, Experts] = {"tall_mask_ta": masks.pack_arithmetic(suite, tasks), "emr": emr.pack(suite, tasks)}
    sizes = {name: experts.stored_bytes for name, experts in packed.items()}
    return [observation(run, n_tasks, name, ALL_TASKS, "bytes", size) for name, size in sizes.items()]


def adapted(
    run: Run, n_tasks: int, settings: Settings = PROTOCOL, names: Sequence[str] = tuple(STARTS)
) -> Iterator[list[Row]]:
    """Yield the rows of test-time adaptation (App. D.2.7) of the first ``n_tasks`` experts, for each of some forms.

    Coefficients are learnt from validation inputs, of which no label is read; test inputs come after.
    """
    evaluator, tasks = run.evaluator, run.tasks(n_tasks)
    inputs = [run.unlabelled(task) for task in tasks]

    def adapt(name: str) -> Adapted:
        with parts_on_disk(run, tasks, name) as parts:
            # An encoder of its own, since other threads adapt others.
            encoder, start = evaluator.encoder.differentiable(), STARTS[name]
            return adaptation.adapt(
                evaluator.base,
                parts,
                inputs,
                encoder,
                start=start,
                seed=run.seed,
                settings=settings,
                together=evaluator.encoder.batch,
                taskwise=name in TASKWISE,
            )

    for name, found in zip(names, devices.ordered(adapt, names, workers()), strict=True):
        models = [Candidate(partial(dict, state), tasks) for state in (found.state, found.initial)]
        rows, initial = (tested(run, name, hits) for hits in evaluator.hits_of(models, "test"))
        rows += [row | {"metric": f"{row['metric']}_before"} for row in initial]
        learnt = found.coefficients
        values = {
            "entropy_before": found.before,
            "entropy_after": found.after,
            "coefficient_least": float(learnt.min()),
            "coefficient_mean": float(learnt.mean()),
            "coefficient_largest": float(learnt.max()),
        }
        yield rows + [observation(run, len(tasks), name, ALL_TASKS, metric, value) for metric, value in values.items()]


@contextmanager
def parts_on_disk(run: Run, tasks: Sequence[str], name: str) -> Iterator[Parts]:
    """Yield what reads, of a file in the cache, what each task adds to a tensor in one form of adaptation."""
    suite = run.suite(tasks)

    def changes(key: str) -> Tensor:
        stack = torch.zeros(suite.n_tasks, *suite.shapes[key], dtype=suite.dtype)
        for expert, change in suite.changes(key):
            stack[expert] = change
        return stack

    parts = partial(tsv.tsv_m_parts, suite, computing=run.computing) if name == "tsv_m_adapted" else changes
    layout = {key: TensorInfo(suite.dtype, (suite.n_tasks, *shape)) for key, shape in suite.shapes.items()}
    file = paths.cache(run.profile.name) / "adaptation" / f"{run.backbone}__{run.seed}__{name}.safetensors"
    checkpoints.write(file, layout, {}, ((key, parts(key)) for key in checkpoints.file_order(layout)))
    try:
        yield checkpoints.open_checkpoint(file).read
    finally:
        file.unlink(missing_ok=True)


def searched(run: Run, n_tasks: int, method: Method, update: TaskVector) -> list[Row]:
    """Return the rows of the test of an update, with the alpha of its method that validation inputs choose."""
    tasks = run.tasks(n_tasks)
    found = best_alpha(validation_score(run, update, tasks), method.alphas)
    state = update.apply(run.evaluator.base, found.alpha)
    rows = tested(run, method.name, run.evaluator.hits(state, tasks, "test"))
    if not method.searches_alpha:
        return rows
    search = {"alpha": found.alpha, "validation_score": found.score, "evaluations": found.evaluations}
    return rows + [observation(run, n_tasks, method.name, ALL_TASKS, metric, value) for metric, value in search.items()]
