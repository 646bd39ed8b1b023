# SPDX-License-Identifier: MIT
"""Means over tasks, their errors and spread over seeds, and cells that tell what was not run."""

import math
import os
import subprocess
import sys

import checkout
import numpy as np
import pandas as pd
import pytest

from compendium import profiles, published
from compendium.paper import tables
from tsvlib.errors import InputError
from tsvlib.methods import METHODS, named

SMOKE = profiles.load("smoke")
NAMES = {"task_arithmetic": "Task arithmetic", "tsv_m": "TSV-M"}


INPUTS = 400
SOURCES = pd.DataFrame(
    [
        (task, INPUTS, INPUTS, " ".join(map(str, range(INPUTS))), " ".join(f"{first + i:08x}" for i in range(INPUTS)))
        for task, first in (("first", 0), ("second", INPUTS))
    ],
    columns=["task", "inputs", "sources", "order", "names"],
).assign(split="test")


def frame(backbone: str, n_tasks: int, seeds: int, lead: float) -> pd.DataFrame:
    """Accuracies 50 % and 70 % of two tasks, shifted by ten points per seed and by ``lead`` for TSV-M.

    Experts are right on all inputs, so an accuracy is its own normalised accuracy.
    """
    rows = []
    for method, more in (("individual", None), ("task_arithmetic", 0.0), ("tsv_m", lead)):
        for seed in range(seeds):
            values = (1.0, 1.0) if more is None else (0.5 + 0.1 * seed + more, 0.7 + 0.1 * seed + more)
            key = (backbone, n_tasks, method, seed)
            rows += [
                (*key, task, "accuracy", value, np.packbits(np.arange(INPUTS) < round(value * INPUTS)).tobytes().hex())
                for task, value in zip(SOURCES.task, values, strict=True)
            ]
            rows.append((*key, "all", "normalised_accuracy", sum(values) / 2, ""))
    return pd.DataFrame(rows, columns=["backbone", "n_tasks", "method", "seed", "task", "metric", "value", "hits"])


def test_spread_is_that_of_whole_runs() -> None:
    row = tables.summary(frame("smoke-b32", 2, 3, 0.0), SOURCES).loc[("smoke-b32", 2, "tsv_m", "accuracy")]
    assert row["mean"] == pytest.approx(0.7)
    assert row["spread"] == pytest.approx(0.1)
    assert row["seeds"] == 3


def test_errors_are_those_of_sampling_and_pool_the_seeds_on_the_same_inputs() -> None:
    rows = tables.summary(frame("smoke-b32", 2, 1, 0.0), SOURCES)
    expected = math.sqrt(0.5 * 0.5 / INPUTS + 0.7 * 0.3 / INPUTS) / 2
    for metric in ("accuracy", "normalised_accuracy"):
        assert rows.error["smoke-b32", 2, "tsv_m", metric] == pytest.approx(expected, rel=0.1)
    same = frame("smoke-b32", 2, 1, 0.0)
    twice = tables.summary(pd.concat([same, same.assign(seed=1)]), SOURCES)
    assert twice.error["smoke-b32", 2, "tsv_m", "accuracy"] == rows.error["smoke-b32", 2, "tsv_m", "accuracy"]


def test_one_seed_has_no_spread() -> None:
    assert math.isnan(tables.summary(frame("smoke-b32", 2, 1, 0.0), SOURCES)["spread"].iloc[0])


def test_cells_show_accuracy_and_normalised_accuracy_with_errors_and_the_spread_of_seeds() -> None:
    rows = tables.summary(pd.concat([frame("smoke-b32", 2, 3, 0.0), frame("smoke-l14", 2, 1, 0.0)]), SOURCES)
    assert tables.cell(rows, ("smoke-b32", 2, "tsv_m")) == "70.0 ± 1.4 (70.0 ± 1.4) [10.0]"
    assert tables.cell(rows, ("smoke-l14", 2, "tsv_m")) == "60.0 ± 1.7 (60.0 ± 1.7)"
    assert tables.cell(rows, ("smoke-l14", 2, "individual")) == "100.0 (100.0)"
    assert tables.cell(rows, ("smoke-l14", 3, "tsv_m")) == "not run"


def test_what_no_seed_can_change_shows_no_spread() -> None:
    one = frame("smoke-b32", 2, 1, 0.0)
    rows = tables.summary(pd.concat([one, one.assign(seed=1)]), SOURCES)
    assert tables.cell(rows, ("smoke-b32", 2, "tsv_m")) == "60.0 ± 1.7 (60.0 ± 1.7)"


def test_a_table_has_a_row_per_method_and_a_column_per_setting() -> None:
    table = tables.accuracy_table(frame("smoke-b32", 2, 1, 0.1), SOURCES, SMOKE, NAMES)
    assert list(table.index) == ["Task arithmetic", "TSV-M"]
    assert list(table.columns) == [f"smoke {model}, {n} tasks" for model in ("B/32", "L/14") for n in (2, 3)]
    assert table.loc["TSV-M"].str[:4].tolist() == ["70.0", "not ", "not ", "not "]


def test_the_best_is_found_where_something_was_run() -> None:
    assert tables.best(frame("smoke-b32", 3, 1, 0.1), SMOKE, NAMES) == [("TSV-M", "smoke B/32, 3 tasks")]
    assert tables.best(frame("smoke-b32", 3, 1, -0.1), SMOKE, NAMES) == [("Task arithmetic", "smoke B/32, 3 tasks")]


def test_what_the_best_is_ahead_of_by_no_more_than_sampling_is_named() -> None:
    near, far = (tables.behind_the_best(frame("smoke-b32", 3, 1, lead), SOURCES, NAMES) for lead in (0.0025, 0.1))
    assert (near.behind.round(6).tolist(), near.surely.tolist()) == ([0.25], [False])
    assert far.error.tolist() == pytest.approx([100 * math.sqrt(0.1 * 0.9 / INPUTS / 2)], rel=0.1)
    assert far.surely.all()
    assert "Task arithmetic (smoke B/32, 3 tasks)" in tables.unsure(near, SMOKE)
    assert tables.unsure(far, SMOKE).endswith("explain: none.")
    assert "Of 1 paired comparisons" in tables.unsure(far, SMOKE)


def test_captions_tell_draws_inputs_sources_and_tasks_of_few_sources() -> None:
    words = tables.sampling(SOURCES)
    assert "1,000 bootstrap draws" in words
    assert "400 inputs of 400 sources for each of 2 tasks." in words
    less = SOURCES.assign(sources=[3, 400])
    assert "of 3 to 400 sources for each of 2 tasks; fewer than 20 sources: first." in tables.sampling(less)


def test_published_cells_stand_as_printed_under_the_backbone_that_stands_for_them() -> None:
    mini = profiles.load("mini")
    table = tables.published_table(published.load("merging"), mini, NAMES | {"ties": "TIES"}, "paper")
    assert list(table.columns) == list(
        tables.accuracy_table(frame("mini-b32", 8, 1, 0.1), SOURCES, mini, NAMES).columns
    )
    assert table.loc["TSV-M, paper", "mini L/14, 20 tasks"] == "87.72 (92.50)"
    assert table.loc["Task arithmetic, paper", "mini B/16, 8 tasks"] == "75.41 (79.58)"
    assert set(table.loc["TIES, paper"]) == {"not published"}
    assert (tables.published_table(published.load("merging"), SMOKE, NAMES, "paper") == "not published").all(axis=None)


def test_titles_are_those_of_the_methods() -> None:
    assert {name: tables.TITLES[name] for name in METHODS} == {name: row.title for name, row in METHODS.items()}
    followed = [name for name in tables.TITLES if "+" in name]
    assert followed
    assert [tables.TITLES[name] for name in followed] == [named(name).title for name in followed]
    assert len(set(tables.TITLES.values())) == len(tables.TITLES)


def test_what_only_draws_and_prints_needs_no_torch() -> None:
    code = "import sys; from compendium.paper import plotting, tables; assert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": checkout.roots()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_part_has_the_columns_of_the_whole_and_says_where_nothing_was_run() -> None:
    part = profiles.load("smoke", "smoke-b32", "2")
    rows = frame("smoke-b32", 2, 1, 0.1)
    table = tables.accuracy_table(rows, SOURCES, part, NAMES | {"ties": "TIES"})
    assert list(table) == tables.columns(SMOKE)
    (run,) = tables.columns(part)
    assert (table.drop(columns=run) == tables.NOT_RUN).all(axis=None)
    assert (table[run] == tables.NOT_RUN).tolist() == [False, False, True]
    assert list(tables.published_table(published.load("merging"), part, NAMES, "paper")) == tables.columns(SMOKE)
    assert tables.best(rows, part, NAMES | {"ties": "TIES"}) == [("TSV-M", run)]


def test_the_alpha_of_a_method_is_the_one_that_was_chosen():
    rows = pd.DataFrame(
        [("tsv_m", "alpha", 1.1), ("tsv_m", "accuracy", 0.5), ("ties", "alpha", 0.4), ("zero_shot", "accuracy", 0.2)],
        columns=["method", "metric", "value"],
    )
    assert tables.chosen_alpha(rows, "tsv_m") == 1.1
    with pytest.raises(InputError, match="no alpha was chosen for 'zero_shot'; take one of tsv_m, ties"):
        tables.chosen_alpha(rows, "zero_shot")
