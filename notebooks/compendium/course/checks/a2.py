# SPDX-License-Identifier: MIT
"""Checks of the assignment on low rank and TSV-C: truncation, energy, kept rank, storage, a compressed expert."""

import math

import torch

from compendium.course import answers, sentences
from compendium.course.inputs import Inputs, double
from compendium.course.trying import Mistakes, Trial, attempt

EXACT = 1e-9
"""Tolerance of what is counted."""


def check_low_rank(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(delta, k)`` is the best approximation of rank k."""
    inputs = Inputs(seed)
    for given, rows, columns in inputs.shapes():
        delta, k = inputs.matrix(rows, columns), inputs.whole(2, 3)
        trial = Trial(f"{given}, k = {k}", (delta, k), answers.low_rank(delta, k), _mistakes_of_low_rank(delta, k))
        attempt(function, "low_rank", trial)


def _mistakes_of_low_rank(delta: torch.Tensor, k: int) -> Mistakes:
    rank = min(delta.shape)
    return [
        *((sentences.TRANSPOSED_V, answers.low_rank_transposed(x, k)) for x in (delta, delta.double())),
        (sentences.SQUARED, answers.low_rank(delta, k, exponent=2)),
        (sentences.NO_SINGULAR_VALUES, answers.low_rank(delta, k, exponent=0)),
        (sentences.ONE_TOO_MANY, answers.low_rank(delta, k + 1)),
        (sentences.ONE_TOO_FEW, answers.low_rank(delta, k - 1)),
        ("the first component is left out; indices start at zero", answers.low_rank(delta, k - 1, first=1)),
        ("these are the k weakest components; the strongest come first", answers.low_rank(delta, k, first=rank - k)),
        (sentences.UNTRUNCATED, delta.double()),
        (
            "this is the part that is to be dropped; keep the k leading components",
            answers.low_rank(delta, rank, first=k),
        ),
    ]


def check_energy(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(delta, k)`` is the share of the k largest in the sum of squared singular values."""
    inputs = Inputs(seed)
    for given, rows, columns in inputs.shapes():
        delta, k = inputs.matrix(rows, columns), inputs.whole(2, 3)
        s = torch.linalg.svdvals(delta.double())
        energy = s.square().cumsum(0)
        share = float(energy[k - 1] / energy[-1])
        mistakes: Mistakes = [
            ("the singular values are not squared; energy is the sum of their squares", float(s[:k].sum() / s.sum())),
            ("this is a share of norms; energy is the square of the norm, so take no root", math.sqrt(share)),
            ("this is the energy that is lost; that which is kept is wanted", 1 - share),
            ("the energy is not divided by that of the whole matrix", float(energy[k - 1])),
            ("this is a share of the number of components; weigh each by its squared singular value", k / len(s)),
            (sentences.ONE_TOO_MANY, float(energy[k] / energy[-1])),
            (sentences.ONE_TOO_FEW, float(energy[k - 2] / energy[-1])),
        ]
        attempt(function, "energy", Trial(f"{given}, k = {k}", (delta, k), share, mistakes))


def check_kept_rank(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(rank, n_tasks)`` is rank / n_tasks, rounded down, and at least one."""
    inputs = Inputs(seed)
    drawn = [(inputs.whole(40, 900), inputs.whole(2, 20)) for _ in range(6)]
    for rank, n_tasks in [(50, 12), (768, 14), (768, 8), (49, 49), (5, 8), *drawn]:
        exact = rank / n_tasks
        mistakes: Mistakes = [
            (
                "this is rounded to the nearest number; round down, or the tasks together keep more than there is",
                round(exact),
            ),
            ("this is rounded up; round down, or the tasks together keep more than there is", math.ceil(exact)),
            ("this is no whole number; `//` divides and rounds down", exact),
            (
                "rounding has cost a component: 1 / n_tasks is not exact, so divide whole numbers by `//`",
                int(rank * (1 / n_tasks)) if rank >= n_tasks else -1,
            ),
            ("nothing is left of this task; keep at least one component", rank // n_tasks),
            ("this is the share of all tasks together; one over the number of tasks is that of each", rank),
        ]
        given = f"rank {rank} and {n_tasks} tasks"
        attempt(
            function, "kept_rank", Trial(given, (rank, n_tasks), max(1, rank // n_tasks), mistakes, tolerance=EXACT)
        )


def check_stored_numbers(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(rows, columns, k)`` counts the numbers of k components: k (rows + columns + 1)."""
    inputs = Inputs(seed)
    for _ in range(5):
        rows, columns, k = inputs.whole(20, 900), inputs.whole(20, 900), inputs.whole(2, 15)
        sides = k * (rows + columns)
        mistakes: Mistakes = [
            ("the singular values are forgotten; each component has one", sides),
            ("the singular values are counted as a square matrix; only its diagonal is stored", sides + k * k),
            ("this is the whole matrix; its factors are stored in its place", rows * columns),
            (
                "this is the whole matrix for every component; a component is a column, a row and a number",
                k * rows * columns,
            ),
            ("only the left side is counted", k * (rows + 1)),
            ("only the right side is counted", k * (columns + 1)),
            ("these are bytes; count numbers", 4 * k * (rows + columns + 1)),
        ]
        given = f"{rows} rows, {columns} columns and k = {k}"
        attempt(function, "stored_numbers", Trial(given, (rows, columns, k), sides + k, mistakes, tolerance=EXACT))


def check_tsv_c(function: object, seed: int = 0) -> None:
    """Raise Wrong unless ``function(base, expert, n_tasks)`` is base + the leading share of expert - base.

    All are matrices; the share is one over the number of tasks, rounded down, and at least one component.
    """
    inputs = Inputs(seed)
    for (given, rows, columns), n_tasks in zip(inputs.shapes(), (4, 3, 10), strict=True):
        base, delta = inputs.normal(rows, columns), inputs.matrix(rows, columns)
        expert = base + delta
        start, end = double(base, expert)
        change, k = end - start, answers.kept_rank(delta, n_tasks)
        kept = answers.low_rank(change, k)
        mistakes: Mistakes = [
            (sentences.BASE_FORGOTTEN, kept),
            (sentences.EXPERT_DECOMPOSED, answers.low_rank(end, k)),
            (sentences.EXPERT_DECOMPOSED, start + answers.low_rank(end, k)),
            (sentences.UNTRUNCATED, end),
            (
                "the change is divided by the number of tasks; TSV-C compresses one expert and averages nothing",
                start + kept / n_tasks,
            ),
            (sentences.ONE_TOO_MANY, start + answers.low_rank(change, k + 1)),
            ("k is the number of tasks; it is the rank divided by that", start + answers.low_rank(change, n_tasks)),
            (
                "k is taken of the longer side; the rank is at most the shorter one",
                start + answers.low_rank(change, max(change.shape) // n_tasks),
            ),
            ("the change is subtracted", start - kept),
            (sentences.SQUARED, start + answers.low_rank(change, k, exponent=2)),
            ("this is the base as it was; keep at least one component", start),
        ]
        attempt(
            function, "tsv_c", Trial(f"{given} and {n_tasks} tasks", (base, expert, n_tasks), start + kept, mistakes)
        )
