# SPDX-License-Identifier: MIT
"""What each step is worth is what accuracies made for it say, and shares of interference are those of the table."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from compendium.paper import factorial
from compendium.paper.evidence import FORMS, Evidence

INPUTS = 400
TASKS = ("one", "two")
EXPERT = 0.8
ACCURACY = {"task_arithmetic": 0.4, "low_rank": 0.4, "interference_reduction": 0.48, "tsv_m": 0.6}
LEFT = {"none": 50.0, "low_rank": 5.0, "interference_reduction": 1.0, "both": 1e-6}


def rows(method: str, accuracy: float, seed: int = 0) -> list[dict[str, object]]:
    """Return a row for each task and suite; the first inputs are right."""
    hits = np.packbits(np.arange(INPUTS) < round(accuracy * INPUTS)).tobytes().hex()
    cell = {"backbone": "b", "seed": seed, "method": method, "metric": "accuracy", "value": accuracy, "hits": hits}
    return [cell | {"n_tasks": n_tasks, "task": task} for n_tasks in (2, 3) for task in TASKS]


def named(task: str) -> str:
    """Return a name for the source of every input, which no other task shows."""
    return " ".join(hashlib.sha256(f"{task}/{i}".encode()).hexdigest()[:8] for i in range(INPUTS))


@pytest.fixture
def drawn() -> Evidence:
    """Results of two seeds, of which the first was merged in all four forms; every input is a source of its own."""
    merged = rows("individual", EXPERT) + rows("individual", EXPERT, 1) + rows("tsv_m", 0.1, 1)
    merged += rows("tsv_m", ACCURACY["tsv_m"]) + rows("task_arithmetic", ACCURACY["task_arithmetic"])
    alone = [row for name in ("low_rank", "interference_reduction") for row in rows(name, ACCURACY[name])]
    orders = " ".join(map(str, range(INPUTS)))
    left = [
        ("b", n_tasks, seed, layer, form, (1 + seed) * value)
        for n_tasks in (2, 3) for seed in (0, 1) for layer in (0, 1) for form, value in LEFT.items()
    ]  # fmt: skip
    tables = {
        "merge": pd.DataFrame(merged),
        "ablation": pd.DataFrame(alone),
        "sources": pd.DataFrame(
            [(task, "test", INPUTS, INPUTS, orders, named(task)) for task in TASKS],
            columns=["task", "split", "inputs", "sources", "order", "names"],
        ),
        "interference": pd.DataFrame(left, columns=["backbone", "n_tasks", "seed", "layer", "form", "value"]).assign(
            metric="entrywise", matrix="proj"
        ),
    }
    return Evidence(tables)


def test_points_are_shares_of_interference_and_accuracies_of_the_seed_that_has_all_forms(drawn: Evidence) -> None:
    points = factorial.points(drawn)
    assert len(points) == 2 * len(FORMS)
    for method, form in FORMS.items():
        point = points.loc["b", 3, form]
        assert point.accuracy == pytest.approx(100 * ACCURACY[method] / EXPERT)
        assert point.error > 0
    assert points.loc["b", 2].left.to_dict() == pytest.approx(
        {"none": 1, "low_rank": 0.1, "interference_reduction": 0.02, "both": 0}
    )


def test_gains_of_each_step_alone_and_beyond_their_sum(drawn: Evidence) -> None:
    gained = factorial.gains(drawn)
    found = gained.gain.loc["b", 2].to_dict()
    # In points of normalised accuracy: 0, 8, 20 points of accuracy over experts of 80 %, and 20 - 8 - 0 of them.
    assert found == pytest.approx({"low_rank": 0, "interference_reduction": 10, "both": 25, "interaction": 15})
    assert gained.error.loc["b", 2].low_rank == 0
    assert gained.sure.loc["b", 2].to_dict() == {
        "low_rank": False, "interference_reduction": True, "both": True, "interaction": True
    }  # fmt: skip


def test_gains_are_paired(drawn: Evidence) -> None:
    """Two models that are right on the same images differ by less noise than each has."""
    alone = factorial.points(drawn).error.loc["b", 2]
    assert factorial.gains(drawn).error.loc["b", 2].interference_reduction < 0.6 * np.hypot(
        alone.none, alone.interference_reduction
    )


def test_words_tell_range_and_how_often_a_gain_is_sure(drawn: Evidence) -> None:
    words = factorial.told(factorial.gains(drawn))
    assert list(words) == list(factorial.STEPS)
    assert words["both"] == "25.0 points (25.0 to 25.0; surely more than zero in 2, surely less in 0 of 2)"
    assert words["low_rank"] == "0.0 points (0.0 to 0.0; surely more than zero in 0, surely less in 0 of 2)"
