# SPDX-License-Identifier: MIT
"""Checks of the assignment on task vectors and task arithmetic; models are dictionaries of tensors by their names."""

import math

import torch
from torch import Tensor

from compendium.course import sentences
from compendium.course.inputs import Inputs
from compendium.course.trying import Mistakes, Trial, attempt

Weights = dict[str, Tensor]


def check_task_vector(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(base, expert)`` is expert minus base, tensor by tensor."""
    inputs = Inputs(seed)
    for given in ("a small model", "another small model"):
        start, end = inputs.weights(), inputs.weights()
        base, expert = _wide(start), _wide(end)
        change = _combined([-1, 1], [base, expert])
        mistakes: Mistakes = [
            ("the sign is wrong: this leads from the expert back to the base", _combined([1, -1], [base, expert])),
            ("the base is not subtracted; this is the expert itself", expert),
            ("the base is added; the change is the difference", _combined([1, 1], [base, expert])),
            ("only the matrices are there; a task vector holds every tensor", _matrices(change)),
        ]
        attempt(function, "task_vector", Trial(given, (start, end), change, mistakes))


def check_cosine(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(one, two)`` is the cosine between two task vectors, of all their parameters."""
    inputs = Inputs(seed)
    for given, share in (
        ("two unrelated task vectors", 0.2),
        ("two related task vectors", 1.5),
        ("two opposed ones", -1.0),
    ):
        one, further = inputs.weights(), inputs.weights()
        two = {key: share * one[key] + further[key] for key in one}
        first, second = _flat(_wide(one)), _flat(_wide(two))
        answer = float(first @ second / (first.norm() * second.norm()))
        by_tensor = [
            float(torch.cosine_similarity(one[key].double().flatten(), two[key].double().flatten(), 0)) for key in one
        ]
        few, others = (_flat(_matrices(_wide(each))) for each in (one, two))
        mistakes: Mistakes = [
            ("the product is not divided by both lengths", float(first @ second)),
            (
                "the product is divided by the squares of the lengths",
                float(first @ second / (first @ first * (second @ second))),
            ),
            (
                "this is the mean of the cosines of single tensors, in which a bias counts as much as a matrix",
                sum(by_tensor) / len(by_tensor),
            ),
            ("this is the sum of the cosines of single tensors; a task vector is one long vector", sum(by_tensor)),
            (
                "only the matrices are looked at; a task vector holds every tensor",
                float(torch.cosine_similarity(few, others, 0)),
            ),
            ("this is the angle; its cosine is wanted", math.acos(answer)),
            ("the sign is lost; opposed task vectors have a negative cosine", abs(answer)),
        ]
        attempt(function, "cosine", Trial(given, (one, two), answer, mistakes))


def check_task_arithmetic(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(vectors)`` is the sum of a list of task vectors, tensor by tensor."""
    inputs = Inputs(seed)
    for n_tasks in (3, 2, inputs.whole(4, 6)):
        vectors = [inputs.weights() for _ in range(n_tasks)]
        wide = [_wide(vector) for vector in vectors]
        total = _combined([1] * n_tasks, wide)
        mistakes: Mistakes = [
            (
                "this is the mean; task arithmetic sums, and alpha alone scales",
                _combined([1 / n_tasks] * n_tasks, wide),
            ),
            ("this is the first task vector alone", wide[0]),
            ("this is the last task vector alone; add to the sum instead of replacing it", wide[-1]),
            (
                "the first task vector is counted twice; start from zero or sum from the second one on",
                _combined([2] + [1] * (n_tasks - 1), wide),
            ),
            ("the last task vector is missing", _combined([1] * (n_tasks - 1) + [0], wide)),
            (
                "the task vectors are stacked and not yet summed",
                {key: torch.stack([vector[key] for vector in wide]) for key in wide[0]},
            ),
        ]
        attempt(function, "task_arithmetic", Trial(f"{n_tasks} task vectors", (vectors,), total, mistakes))


def check_apply(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(base, update, alpha)`` is base + alpha * update, tensor by tensor."""
    inputs = Inputs(seed)
    for alpha in (inputs.number(0.2, 0.4), inputs.number(1.4, 1.8), 0.0):
        start, change = inputs.weights(), inputs.weights()
        base, update = _wide(start), _wide(change)
        pair = [base, update]
        mistakes: Mistakes = [
            (sentences.BASE_FORGOTTEN, _combined([0, alpha], pair)),
            ("alpha is ignored", _combined([1, 1], pair)),
            ("alpha scales the base too; it belongs to the update alone", _combined([alpha, alpha], pair)),
            (
                "this goes from base to update; the base stays whole, whatever alpha is",
                _combined([1 - alpha, alpha], pair),
            ),
            ("the update is subtracted, which makes the model forget its tasks", _combined([1, -alpha], pair)),
        ]
        attempt(
            function,
            "apply",
            Trial(f"alpha = {alpha:.2f}", (start, change, alpha), _combined([1, alpha], pair), mistakes),
        )


def check_normalised_accuracy(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(merged, individual)`` is the mean over tasks of merged / individual accuracy."""
    inputs = Inputs(seed)
    for n_tasks in (2, 3, inputs.whole(5, 8)):
        tasks = [f"task {number}" for number in range(1, n_tasks + 1)]
        merged = {task: inputs.number(0.2, 0.6) for task in tasks}
        individual = {task: inputs.number(0.65, 1.0) for task in tasks}
        ratios = [merged[task] / individual[task] for task in tasks]
        mean = sum(merged.values()) / n_tasks
        mistakes: Mistakes = [
            (
                "this is the ratio of the means; the paper takes the mean of the ratios",
                n_tasks * mean / sum(individual.values()),
            ),
            ("the ratio is upside down", sum(1 / ratio for ratio in ratios) / n_tasks),
            ("this is the sum of the ratios; divide it by the number of tasks", sum(ratios)),
            ("this is the absolute accuracy; divide that of each task by its expert's", mean),
            ("this is in per cent; accuracies here are shares between 0 and 1", 100 * sum(ratios) / n_tasks),
            ("this is the difference to the experts; the ratio is wanted", mean - sum(individual.values()) / n_tasks),
        ]
        trial = Trial(f"accuracies on {n_tasks} tasks", (merged, individual), sum(ratios) / n_tasks, mistakes)
        attempt(function, "normalised_accuracy", trial)


def _wide(weights: Weights) -> Weights:
    return {key: tensor.double() for key, tensor in weights.items()}


def _combined(factors: list[int] | list[float], models: list[Weights]) -> Weights:
    """Return the sum of models, each times its factor."""
    pairs = list(zip(factors, models, strict=True))
    return {key: torch.stack([factor * model[key] for factor, model in pairs]).sum(0) for key in models[0]}


def _matrices(weights: Weights) -> Weights:
    return {key: tensor for key, tensor in weights.items() if tensor.ndim == 2}


def _flat(weights: Weights) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in weights.values()])
