# SPDX-License-Identifier: MIT
"""Experts that are better on test inputs than validation inputs let expect."""

from collections.abc import Sequence

from compendium.study.evaluation import shares
from compendium.study.runs import Row, Run
from compendium.worlds.protocol import SplitName

SPLITS: tuple[SplitName, ...] = ("test", "validation")

LARGEST = 5.0
"""Points by which the test accuracy of an expert may lie above that on validation inputs before it is told."""

MEANING = (
    "Test and validation inputs may come from different sources, of which one is easier; or the expert has seen test "
    "inputs, as the one of DTD among the paper's had (97.98 % on test and 78.55 % on validation images)"
)


def ahead_on_test(run: Run, tasks: Sequence[str]) -> list[Row]:
    """Return a row for each expert that is more than ``LARGEST`` points better on test than on validation inputs.

    Its values are both accuracies and their difference, in percent and points.
    """
    test, validation = (shares(run.individual(split, tasks)) for split in SPLITS)
    # Rounded, as 55 % less 50 % is more than 5 points in floating-point numbers.
    points = {task: round(100 * (test[task] - validation[task]), 9) for task in tasks}
    return [
        {
            "backbone": run.backbone,
            "seed": run.seed,
            "task": task,
            "test": 100 * test[task],
            "validation": 100 * validation[task],
            "points": points[task],
        }
        for task in tasks
        if points[task] > LARGEST
    ]


def told(rows: Sequence[Row]) -> str:
    """Return in words what rows of :func:`ahead_on_test` tell."""
    if not rows:
        return f"No expert is more than {LARGEST:.0f} points better on test than on validation inputs."
    cases = ", ".join(f"{row['task']} of {row['backbone']} (seed {row['seed']}): {row['points']:.1f}" for row in rows)
    return f"More than {LARGEST:.0f} points better on test than on validation inputs are {cases}. {MEANING}."
