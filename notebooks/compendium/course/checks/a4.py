# SPDX-License-Identifier: MIT
"""Checks of the assignment on TSV-M: one matrix, a whole model, the ablation, and a method of one's own."""

import torch
from torch import Tensor

from compendium.course import answers, sentences
from compendium.course.inputs import Inputs, double
from compendium.course.trying import Mistakes, Trial, Wrong, attempt, called, is_same

ONE_SIDE = "the {} singular vectors are not orthogonalised; both sides need their polar factor"


def check_tsv_m(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(deltas)`` is the update of TSV-M for the task matrices of one layer."""
    inputs = Inputs(seed)
    for (given, rows, columns), n_tasks in zip(inputs.shapes(), (2, 3, 2), strict=True):
        deltas = inputs.task_matrices(n_tasks, rows, columns)
        trial = Trial(f"{n_tasks} tasks, each {given}", (deltas,), answers.tsv_m(deltas), _mistakes_of_tsv_m(deltas))
        attempt(function, "tsv_m", trial)


def _mistakes_of_tsv_m(deltas: list[Tensor]) -> Mistakes:
    n_tasks, k = len(deltas), answers.kept_rank(deltas[0], len(deltas))
    wide = double(*deltas)
    mistakes: list[tuple[str, object]] = [
        (ONE_SIDE.format("left"), answers.tsv_m(deltas, left=False)),
        (ONE_SIDE.format("right"), answers.tsv_m(deltas, right=False)),
        (
            "no singular vectors are orthogonalised across tasks; this is the sum of low-rank task matrices",
            answers.tsv_m(deltas, left=False, right=False),
        ),
        (sentences.MEAN_OF_MATRICES, answers.tsv_m(deltas) / n_tasks),
        (
            "all components are kept; each task keeps one over the number of tasks",
            answers.tsv_m(deltas, min(deltas[0].shape)),
        ),
        (sentences.ONE_TOO_MANY, answers.tsv_m(deltas, k + 1)),
        (
            "k is taken of the longer side; the rank is at most the shorter one",
            answers.tsv_m(deltas, max(deltas[0].shape) // n_tasks),
        ),
        (sentences.SQUARED, answers.tsv_m(deltas, exponent=2)),
        (sentences.NO_SINGULAR_VALUES, answers.tsv_m(deltas, exponent=0)),
        (sentences.GRAM_SCHMIDT, answers.tsv_m(deltas, by_columns=True)),
        ("this is task arithmetic, the sum of the task matrices as they are", torch.stack(wide).sum(0)),
    ]
    if deltas[0].shape[0] == deltas[0].shape[1]:
        mistakes += [(sentences.TRANSPOSED_V, _with_rows_for_columns(some, k)) for some in (deltas, wide)]
    return mistakes


def _with_rows_for_columns(deltas: list[Tensor], k: int) -> Tensor:
    """Return TSV-M where columns of Vᵀ are taken for the right singular vectors; signs depend on the type."""
    parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
    u, v = torch.cat([u[:, :k] for u, _, _ in parts], 1), torch.cat([vh[:, :k] for _, _, vh in parts], 1)
    return (answers.polar(u) * torch.cat([s[:k] for _, s, _ in parts])) @ answers.polar(v).mT


def check_merge(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(base, experts, alpha)`` is the model that TSV-M makes of the experts.

    Matrices get alpha times the update of TSV-M; every other tensor and ``text_projection`` get alpha times the mean.
    """
    inputs = Inputs(seed)
    for n_tasks in (2, 3):
        alpha, base = inputs.number(1.2, 1.6), inputs.weights()
        vectors = inputs.task_vectors(n_tasks)
        experts = [{key: base[key] + change for key, change in vector.items()} for vector in vectors]
        trial = Trial(
            f"{n_tasks} experts, alpha = {alpha:.2f}",
            (base, experts, alpha),
            _merged(base, experts, alpha),
            _mistakes_of_merge(base, experts, alpha),
        )
        attempt(function, "merge", trial)


def _mistakes_of_merge(base: dict[str, Tensor], experts: list[dict[str, Tensor]], alpha: float) -> Mistakes:
    n_tasks, zero = len(experts), {key: torch.zeros_like(tensor) for key, tensor in base.items()}
    merged = _merged(base, experts, alpha)
    return [
        (sentences.BASE_FORGOTTEN, {key: merged[key] - base[key].double() for key in base}),
        ("what is no matrix is summed; TSV-M averages it", _merged(base, experts, alpha, other=n_tasks)),
        (
            "matrices are divided by the number of tasks; TSV-M sums them",
            _merged(base, experts, alpha, matrices=1 / n_tasks),
        ),
        ("alpha is ignored", _merged(base, experts, 1.0)),
        ("alpha scales the matrices alone; it scales the whole update", _merged(base, experts, alpha, other=1 / alpha)),
        (
            "`text_projection` is treated as a task matrix; the paper leaves it out",
            _merged(base, experts, alpha, exempt=""),
        ),
        ("what is no matrix stays as it was in the base; TSV-M averages it", _merged(base, experts, alpha, other=0.0)),
        (
            "the experts' weights are merged in the place of their task vectors",
            _merged(base, experts, alpha, start=zero),
        ),
    ]


def _merged(
    base: dict[str, Tensor],
    experts: list[dict[str, Tensor]],
    alpha: float,
    *,
    matrices: float | int = 1,
    other: float | int = 1,
    exempt: str = "text_projection",
    start: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return base + alpha * update, with factors on the updates of matrices and of everything else.

    ``exempt`` names the matrix that is averaged, ``start`` what is subtracted from the experts instead of the base.
    """
    found = {}
    for key, tensor in base.items():
        deltas = [expert[key].double() - (start or base)[key].double() for expert in experts]
        is_matrix = tensor.ndim == 2 and key != exempt
        update = matrices * answers.tsv_m(deltas) if is_matrix else other * torch.stack(deltas).mean(0)
        found[key] = tensor.double() + alpha * update
    return found


def check_ablation(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(deltas, low_rank, orthogonal)`` is the update with each step of TSV-M on or off."""
    inputs = Inputs(seed)
    choices = [(low, orthogonal) for low in (True, False) for orthogonal in (True, False)]
    for given, rows, columns in inputs.shapes():
        deltas = inputs.task_matrices(3, rows, columns)
        forms = {choice: _form(deltas, *choice) for choice in choices}
        for low, orthogonal in choices:
            mistakes: Mistakes = [
                ("the two switches are interchanged", forms[orthogonal, low]),
                ("the switch `low_rank` is turned round", forms[not low, orthogonal]),
                ("the switch `orthogonal` is turned round", forms[low, not orthogonal]),
                ("both switches are turned round", forms[not low, not orthogonal]),
                (sentences.MEAN_OF_MATRICES, forms[low, orthogonal] / 3),
                (ONE_SIDE.format("right"), _form(deltas, low, orthogonal, right=False)),
                (ONE_SIDE.format("left"), _form(deltas, low, orthogonal, left=False)),
            ]
            told = f"3 tasks, each {given}, with low_rank={low} and orthogonal={orthogonal}"
            attempt(function, "ablation", Trial(told, (deltas, low, orthogonal), forms[low, orthogonal], mistakes))


def _form(deltas: list[Tensor], low: bool, orthogonal: bool, left: bool = True, right: bool = True) -> Tensor:
    k = answers.kept_rank(deltas[0], len(deltas)) if low else min(deltas[0].shape)
    return answers.tsv_m(deltas, k, left=orthogonal and left, right=orthogonal and right)


def check_own_method(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(deltas)`` merges: an update of the right shape, of every task, in whatever order.

    What it is worth is measured by the leaderboard; here it is only asked to be a merging method.
    """
    inputs = Inputs(seed)
    for given, rows, columns in inputs.shapes():
        deltas = [inputs.matrix(rows, columns) for _ in range(3)]
        trial = Trial(f"3 tasks, each {given}", (deltas,), torch.zeros(rows, columns))
        found = _update(function, trial)
        turned = _update(function, Trial(trial.given, (deltas[::-1],), trial.answer))
        again = _update(function, trial)
        zero = torch.zeros_like(deltas[0])
        without = [[zero if number == task else delta for number, delta in enumerate(deltas)] for task in range(3)]
        unheard = any(is_same(_update(function, Trial(trial.given, (some,), trial.answer)), found) for some in without)
        troubles = {
            "two calls on the same matrices differ; draw random numbers from a seed or not at all": not is_same(
                again, found
            ),
            "the update depends on the order of the tasks, which means nothing": not is_same(turned, found),
            "the update is zero; nothing is merged": is_same(found, trial.answer),
            "one of the tasks leaves no trace in the update": unheard,
        }
        if present := [trouble for trouble, seen in troubles.items() if seen]:
            raise Wrong(f"`own_method`, tried on {trial.given}: {present[0]}.")


def _update(function: object, trial: Trial) -> Tensor:
    """Return what a method of one's own makes of task matrices, if it can be an update of them."""
    found = called(function, "own_method", trial)
    answer = trial.answer
    if isinstance(found, Tensor) and isinstance(answer, Tensor) and found.shape == answer.shape:
        if bool(found.isfinite().all()):
            return found
        raise Wrong(f"`own_method`, tried on {trial.given}: the update holds NaN or Inf.")
    raise Wrong(f"`own_method`, tried on {trial.given}: the update is no tensor with the shape of a task matrix.")
