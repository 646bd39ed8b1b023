# SPDX-License-Identifier: MIT
"""What each of the two steps of TSV-M is worth, alone and with the other: an experiment of two factors.

Its four forms are those of the table of interference: ``none`` of the steps, which is task arithmetic, ``low_rank`` or
``interference_reduction`` alone, and ``both``, which is TSV-M.
"""

import pandas as pd

from compendium.paper import errors, evidence
from compendium.paper.evidence import FORMS, Evidence

STEPS = ("low_rank", "interference_reduction", "both", "interaction")
"""What is compared: each step alone, both of them, and what both are worth beyond the sum of each alone."""


def points(drawn: Evidence) -> pd.DataFrame:
    """Return a point for every backbone, suite and form: ``left``, ``accuracy`` and its standard ``error``.

    ``left`` is the interference left in what a form adds up, as a share of that of ``none``; rounding is zero.
    ``accuracy`` is normalised, in percent. Both are means over the seeds that were merged in all forms.
    """
    accuracies = evidence.by_form(drawn)
    left = evidence.interference_left(drawn).reindex(accuracies.index)
    none = evidence.at(left, form="none").reindex(left.droplevel("form").index).set_axis(left.index)
    accuracy = 100 * errors.over_seeds(accuracies)
    found = {"left": errors.over_seeds(left / none)[0], "accuracy": accuracy[0]}
    return pd.DataFrame(found | {"error": errors.standard_error(accuracy)})


def gains(drawn: Evidence) -> pd.DataFrame:
    """Return by backbone, suite and step the ``gain`` over ``none`` and its ``error``.

    They are in points of normalised accuracy; errors are those of paired draws. ``interaction`` is the gain of both
    steps less the gains of each alone. ``sure`` tells whether a gain differs from zero after Holm's correction for the
    number of rows.
    """
    accuracy = 100 * errors.over_seeds(evidence.by_form(drawn))
    none, low, reduced, both = (evidence.at(accuracy, form=form) for form in FORMS.values())
    steps = dict(zip(STEPS, (low - none, reduced - none, both - none, both - low - reduced + none), strict=True))
    paired = pd.concat(steps, names=["step"]).reorder_levels(["backbone", "n_tasks", "step"]).sort_index()
    found = pd.DataFrame({"gain": paired[0], "error": errors.standard_error(paired)})
    return found.assign(sure=errors.holm(2 * errors.chances(found.gain.abs(), found.error, strict=True)))


def told(gained: pd.DataFrame) -> dict[str, str]:
    """Return for each step of ``gains`` its mean over all backbones and suites, its range, and how often it is sure."""
    words = {}
    for step in STEPS:
        rows = gained.xs(step, level="step")
        mean, least, most = (round(value, 1) + 0.0 for value in (rows.gain.mean(), rows.gain.min(), rows.gain.max()))
        sure = f"surely more than zero in {(rows.sure & (rows.gain > 0)).sum()}"
        less = f"surely less in {(rows.sure & (rows.gain < 0)).sum()} of {len(rows)}"
        words[step] = f"{mean:.1f} points ({least:.1f} to {most:.1f}; {sure}, {less})"
    return words
