# SPDX-License-Identifier: MIT
"""The paper's experiments, one small step each; notebooks loop over them and keep the rows.

A row is one observation: ``backbone, n_tasks, method, seed, task, metric, value, hits``; ``COLUMNS`` says what
they hold.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from compendium import paths
from compendium.study import adaptation
from compendium.study.adaptation import PROTOCOL, Adapted, Parts, Settings, Unlabelled
from compendium.study.evaluation import Hits, normalised_accuracy, packed, search_alpha, shares, workers
from compendium.study.runs import Row, Run, each
from tsvlib import checkpoints, devices
from tsvlib.checkpoints import TensorInfo
from tsvlib.compression import Rank
from tsvlib.methods import METHODS, masks, tsv
from tsvlib.methods.base import Method
from tsvlib.taskvectors import TaskVector

ALL_TASKS = "all"
SEARCH = {"alpha": 0.3, "evaluations": 4, "hits": 0.1}
"""How far a search of alpha may end elsewhere on another machine, where the score is flat.

A neighbouring alpha has other inputs right, though about as many."""

AT_ONE = "tsv_m_alpha_1"
"""TSV-M with the alpha that the paper recommends instead of one that labels chose."""

TALL_MASK = "tall_mask_ties"
STARTS = {"adamerging": 0.3, "tsv_m_adapted": 1.0}
"""The two forms of test-time adaptation, with the value at which all of their coefficients start."""
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
    zero_shot = run.evaluator.hits(run.evaluator.base, run.tasks(n_tasks), "test")
    individual = run.individual("test", run.tasks(n_tasks))
    return [*_measured(run, "zero_shot", zero_shot), *_measured(run, "individual", individual)]


def validation_score(run: Run, update: TaskVector, tasks: Sequence[str]) -> Callable[[float], float]:
    """Return what judges an alpha: the mean normalised accuracy of base + alpha * update on validation inputs.

    A suite is judged by at most as many inputs as the profile states, the same number of first ones of each task.
    """
    most = run.profile.samples.alpha // len(tasks)
    individual = shares(run.individual("validation", tasks, most))

    def score(alpha: float) -> float:
        state = update.apply(run.evaluator.base, alpha)
        return normalised_accuracy(run.evaluator.accuracies(state, tasks, "validation", most), individual)

    return score


def merge(run: Run, n_tasks: int, method: Method) -> list[Row]:
    """Merge the first ``n_tasks`` experts, choose alpha on validation inputs, and return the rows of the test."""
    return _searched(run, n_tasks, method, run.merged(method, n_tasks))


def tsv_merge(run: Run, n_tasks: int) -> list[Row]:
    """Return the rows of TSV-M with the alpha that validation inputs choose and, as ``AT_ONE``, with alpha = 1."""
    method = METHODS["tsv_m"]
    update = run.merged(method, n_tasks)
    whole = run.evaluator.hits(update.apply(run.evaluator.base), run.tasks(n_tasks), "test")
    return _searched(run, n_tasks, method, update) + _measured(run, AT_ONE, whole)


def consensus(run: Run, n_tasks: int) -> list[Row]:
    """Return the rows of Consensus TA with the lambda of each task chosen for its mask of the sum of task vectors."""
    chosen = lambdas(run, n_tasks, run.merged(METHODS["task_arithmetic"], n_tasks))
    method = replace(METHODS["consensus_ta"], bind=masks.consensus(list(chosen.values())))
    return merge(run, n_tasks, method) + _lambda_rows(run, method.name, chosen)


def masked(run: Run, n_tasks: int) -> list[Row]:
    """Return the rows of TALL-Mask + TIES: each expert as its mask of the update that all share, and their bytes."""
    tasks = run.tasks(n_tasks)
    shared = masks.shared_update(run.suite(tasks))
    chosen = lambdas(run, n_tasks, shared)

    def measured(task: str) -> tuple[Hits, int]:
        mask = masks.pack(run.suite([task]), [task], shared, [chosen[task]])
        state = mask.expert(task).apply(run.evaluator.base)
        return run.evaluator.hits(state, [task], "test")[task], mask.stored_bytes - shared.stored_bytes

    results = dict(zip(tasks, each(measured, tasks), strict=True))
    size = shared.stored_bytes + sum(mask for _, mask in results.values())
    return [
        *_measured(run, TALL_MASK, {task: hits for task, (hits, _) in results.items()}),
        *_lambda_rows(run, TALL_MASK, chosen),
        _row(run, n_tasks, TALL_MASK, ALL_TASKS, "bytes", size),
    ]


def lambdas(run: Run, n_tasks: int, shared: TaskVector) -> dict[str, float]:
    """Return for each task the lambda whose mask of an update scores best on the task's validation inputs.

    Of several that do, the smallest, as in the code of TALL-masks.
    """
    tasks = run.tasks(n_tasks)

    def best(task: str) -> float:
        vector, scores = run.task_vector(task), {}
        for value in run.profile.lambdas:
            state = masks.masked(shared, vector, value).apply(run.evaluator.base)
            scores[value] = run.evaluator.accuracy(state, task, "validation")
        return max(scores, key=scores.__getitem__)

    return dict(zip(tasks, each(best, tasks), strict=True))


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


def compressed(run: Run, n_tasks: int) -> list[Row]:
    """Return the rows of TSV-C: each expert from 1 / n_tasks of its components, with the bytes that it takes.

    The bytes of ``individual`` are those of whole task vectors. Both count float32 values.
    """
    tasks = run.tasks(n_tasks)
    rank = Rank(fraction=1 / n_tasks)
    results = dict(zip(tasks, each(lambda task: run.truncated(task, [rank])[0], tasks), strict=True))
    rows = _measured(run, "individual", run.individual("test", run.tasks(n_tasks)))
    rows += _measured(run, "tsv_c", {task: hits for task, (hits, _) in results.items()})
    whole = len(tasks) * run.task_vector(tasks[0]).stored_bytes
    sizes = {"individual": whole, "tsv_c": sum(size for _, size in results.values())}
    return rows + [_row(run, n_tasks, method, ALL_TASKS, "bytes", size) for method, size in sizes.items()]


def adapted(run: Run, n_tasks: int, settings: Settings = PROTOCOL) -> Iterator[list[Row]]:
    """Yield the rows of test-time adaptation (App. D.2.7) of the first ``n_tasks`` experts, for each of ``STARTS``.

    Coefficients are learnt from validation inputs, of which no label is read; test inputs come after.
    """
    evaluator, tasks = run.evaluator, run.tasks(n_tasks)
    splits = [evaluator.world.split(task, "validation") for task in tasks]
    inputs = [Unlabelled(split.inputs, evaluator.head(task)) for task, split in zip(tasks, splits, strict=True)]

    def adapt(name: str) -> Adapted:
        with parts_on_disk(run, tasks, name) as parts:
            # An encoder of its own, since other threads adapt others.
            encoder, start = evaluator.encoder.differentiable(), STARTS[name]
            return adaptation.adapt(
                evaluator.base, parts, inputs, encoder, start=start, seed=run.seed, settings=settings
            )

    for name, found in zip(STARTS, devices.ordered(adapt, STARTS, workers()), strict=True):
        rows = _measured(run, name, evaluator.hits(found.state, tasks, "test"))
        initial = _measured(run, name, evaluator.hits(found.initial, tasks, "test"))
        rows += [row | {"metric": f"{row['metric']}_before"} for row in initial]
        learnt = found.coefficients
        values = {
            "entropy_before": found.before,
            "entropy_after": found.after,
            "coefficient_least": float(learnt.min()),
            "coefficient_mean": float(learnt.mean()),
            "coefficient_largest": float(learnt.max()),
        }
        yield rows + [_row(run, len(tasks), name, ALL_TASKS, metric, value) for metric, value in values.items()]


@contextmanager
def parts_on_disk(run: Run, tasks: Sequence[str], name: str) -> Iterator[Parts]:
    """Yield what reads, of a file in the cache, what each task adds to a tensor in one form of adaptation."""
    suite = run.suite(tasks)

    def changes(key: str) -> Tensor:
        stack = torch.zeros(suite.n_tasks, *suite.shapes[key], dtype=suite.dtype)
        for expert, change in suite.changes(key):
            stack[expert] = change
        return stack

    parts = changes if name == "adamerging" else partial(tsv.tsv_m_parts, suite, computing=run.computing)
    layout = {key: TensorInfo(suite.dtype, (suite.n_tasks, *shape)) for key, shape in suite.shapes.items()}
    file = paths.cache(run.profile.name) / "adaptation" / f"{run.backbone}__{run.seed}__{name}.safetensors"
    checkpoints.write(file, layout, {}, ((key, parts(key)) for key in checkpoints.file_order(layout)))
    try:
        yield checkpoints.open_checkpoint(file).read
    finally:
        file.unlink(missing_ok=True)


def _searched(run: Run, n_tasks: int, method: Method, update: TaskVector) -> list[Row]:
    tasks = run.tasks(n_tasks)
    found = search_alpha(validation_score(run, update, tasks), method.alphas)
    state = update.apply(run.evaluator.base, found.alpha)
    rows = _measured(run, method.name, run.evaluator.hits(state, tasks, "test"))
    if not method.searches_alpha:
        return rows
    search = {"alpha": found.alpha, "validation_score": found.score, "evaluations": found.evaluations}
    return rows + [_row(run, n_tasks, method.name, ALL_TASKS, metric, value) for metric, value in search.items()]


def _measured(run: Run, method: str, hits: Mapping[str, Hits]) -> list[Row]:
    n_tasks, accuracies = len(hits), shares(hits)
    normalised = normalised_accuracy(accuracies, shares(run.individual("test", list(hits))))
    return [
        *(_row(run, n_tasks, method, task, "accuracy", accuracies[task], hits[task]) for task in hits),
        _row(run, n_tasks, method, ALL_TASKS, "normalised_accuracy", normalised),
    ]


def _lambda_rows(run: Run, method: str, chosen: Mapping[str, float]) -> list[Row]:
    return [_row(run, len(chosen), method, task, "lambda", value) for task, value in chosen.items()]


def _row(
    run: Run, n_tasks: int, method: str, task: str, metric: str, value: float | int, hits: Hits | None = None
) -> Row:
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
