# SPDX-License-Identifier: MIT
"""Means over tasks, spread over seeds, and cells that tell what was not run."""

import math
import os
import subprocess
import sys

import checkout
import pandas as pd
import pytest

from compendium import profiles, published
from compendium.paper import tables
from tsvlib.methods import METHODS

SMOKE = profiles.load("smoke")
NAMES = {"task_arithmetic": "Task arithmetic", "tsv_m": "TSV-M"}


def frame(backbone: str, n_tasks: int, seeds: int, lead: float) -> pd.DataFrame:
    """Accuracies 50 % and 70 % of two tasks, shifted by ten points per seed and by ``lead`` for TSV-M."""
    rows = []
    for method, more in (("task_arithmetic", 0.0), ("tsv_m", lead)):
        for seed in range(seeds):
            value = 0.5 + 0.1 * seed + more
            key = (backbone, n_tasks, method, seed)
            rows += [(*key, "first", "accuracy", value), (*key, "second", "accuracy", value + 0.2)]
            rows.append((*key, "all", "normalised_accuracy", value))
    return pd.DataFrame(rows, columns=["backbone", "n_tasks", "method", "seed", "task", "metric", "value"])


def test_spread_is_that_of_whole_runs() -> None:
    row = tables.summary(frame("smoke-b32", 2, 3, 0.0)).loc[("smoke-b32", 2, "tsv_m", "accuracy")]
    assert row["mean"] == pytest.approx(0.7)
    assert row["spread"] == pytest.approx(0.1)
    assert row["seeds"] == 3


def test_one_seed_has_no_spread() -> None:
    assert math.isnan(tables.summary(frame("smoke-b32", 2, 1, 0.0))["spread"].iloc[0])


def test_cells_show_accuracy_spread_and_normalised_accuracy() -> None:
    rows = tables.summary(pd.concat([frame("smoke-b32", 2, 3, 0.0), frame("smoke-l14", 2, 1, 0.0)]))
    assert tables.cell(rows, ("smoke-b32", 2, "tsv_m")) == "70.0 ± 10.0 (60.0)"
    assert tables.cell(rows, ("smoke-l14", 2, "tsv_m")) == "60.0 (50.0)"
    assert tables.cell(rows, ("smoke-l14", 3, "tsv_m")) == "not run"


def test_what_no_seed_can_change_shows_no_spread() -> None:
    same = frame("smoke-b32", 2, 3, 0.0)
    same["value"] = 0.7
    assert tables.cell(tables.summary(same), ("smoke-b32", 2, "tsv_m")) == "70.0 (70.0)"


def test_a_table_has_a_row_per_method_and_a_column_per_setting() -> None:
    table = tables.accuracy_table(frame("smoke-b32", 2, 1, 0.1), SMOKE, NAMES)
    assert list(table.index) == ["Task arithmetic", "TSV-M"]
    assert list(table.columns) == [f"smoke {model}, {n} tasks" for model in ("B/32", "L/14") for n in (2, 3)]
    assert table.loc["TSV-M"].tolist() == ["70.0 (60.0)", "not run", "not run", "not run"]


def test_the_best_is_found_where_something_was_run() -> None:
    assert tables.best(frame("smoke-b32", 3, 1, 0.1), SMOKE, NAMES) == [("TSV-M", "smoke B/32, 3 tasks")]
    assert tables.best(frame("smoke-b32", 3, 1, -0.1), SMOKE, NAMES) == [("Task arithmetic", "smoke B/32, 3 tasks")]


def test_published_cells_stand_as_printed_under_the_backbone_that_stands_for_them() -> None:
    mini = profiles.load("mini")
    table = tables.published_table(published.load("merging"), mini, NAMES | {"ties": "TIES"}, "paper")
    assert list(table.columns) == list(tables.accuracy_table(frame("mini-b32", 8, 1, 0.1), mini, NAMES).columns)
    assert table.loc["TSV-M, paper", "mini L/14, 20 tasks"] == "87.72 (92.50)"
    assert table.loc["Task arithmetic, paper", "mini B/16, 8 tasks"] == "75.41 (79.58)"
    assert set(table.loc["TIES, paper"]) == {"not published"}
    assert (tables.published_table(published.load("merging"), SMOKE, NAMES, "paper") == "not published").all(axis=None)


def test_titles_are_those_of_the_methods() -> None:
    assert {name: tables.TITLES[name] for name in METHODS} == {name: method.title for name, method in METHODS.items()}


def test_what_only_draws_and_prints_needs_no_torch() -> None:
    code = "import sys; from compendium.paper import plotting, tables; assert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": checkout.roots()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
