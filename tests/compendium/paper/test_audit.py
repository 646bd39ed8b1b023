# SPDX-License-Identifier: MIT
"""Arithmetic on published numbers: sizes behind accuracies, means, and how two decimals come about."""

from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compendium import published
from compendium.paper import audit
from tsvlib.errors import InputError


@given(st.integers(1, 100_000), st.data())
def test_an_accuracy_fits_its_own_number_of_images_and_multiples_only(size, data):
    correct = data.draw(st.integers(0, size))
    accuracy = correct / size
    least = Fraction(correct, size).denominator
    assert audit.is_multiple(accuracy, size)
    assert audit.fitting_sizes([accuracy], range(1, min(size, 200) + 1)) == list(
        range(least, min(size, 200) + 1, least)
    )


def test_all_accuracies_must_fit():
    assert audit.fitting_sizes([1 / 3, 1 / 4], range(1, 30)) == [12, 24]


def test_means_leave_tasks_out_of_both_and_take_ratios_first():
    measured = pd.DataFrame({"backbone": "b", "n_tasks": 2, "method": "m", "task": ["x", "y"], "accuracy": [0.4, 0.9]})
    experts = pd.DataFrame({"backbone": "b", "task": ["x", "y"], "accuracy": [0.8, 0.9]})
    whole = audit.recomputed(measured, experts).loc["b", 2, "m"]
    assert (whole.accuracy, whole.normalised_accuracy) == (pytest.approx(65), pytest.approx(75))
    part = audit.recomputed(measured, experts, ["y"]).loc["b", 2, "m"]
    assert (part.accuracy, part.normalised_accuracy) == (pytest.approx(40), pytest.approx(50))


@given(st.integers(0, 1_000_000))
def test_rounded_cut_off_and_different_numbers_are_told_apart(ten_thousandths):
    exact = ten_thousandths / 10_000
    assert audit.verdict(round(exact, 2), exact) == "rounded"
    assert audit.verdict(ten_thousandths // 100 / 100, exact) in ("rounded", "cut off")
    assert audit.verdict(exact + 0.011, exact) == audit.verdict(exact - 0.011, exact) == "different"
    assert audit.verdict(exact + 0.0055, exact) == "different"


def test_published_tables_are_whole_and_of_one_vocabulary():
    sizes = {"merging": 90, "compression": 54, "ablation": 36, "alpha": 170, "experts": 120, "per_dataset": 504}
    assert {name: len(published.load(name)) for name in sizes} == sizes
    tasks = set(published.load("data_sets").task)
    assert len(tasks) == 20
    for name in ("experts", "per_dataset", "alpha_subsets"):
        assert set(published.load(name).task) <= tasks
    for name in published.NAMES:
        frame = published.load(name)
        assert not frame.isna().any(axis=None)
        assert not frame.duplicated([column for column in frame if column not in ("percent", "accuracy")]).any()


def test_tables_agree_where_they_state_the_same_number():
    cells = [published.load(name) for name in ("merging", "compression")]
    percent = pd.concat(cells).set_index(["backbone", "n_tasks", "method", "metric"]).percent
    experts = published.load("experts").query("split == 'test'")
    order = published.load("data_sets").sort_values("place").task
    for backbone, rows in experts.groupby("backbone"):
        for n_tasks in (8, 14, 20):
            mean = 100 * rows[rows.task.isin(order[:n_tasks])].accuracy.mean()
            assert percent[backbone, n_tasks, "individual", "accuracy"] == pytest.approx(mean, abs=0.01)
    ablation = published.load("ablation").set_index(["backbone", "n_tasks", "method", "metric"]).percent
    shared = ablation.index.intersection(percent.index)
    assert len(shared) == 18
    assert (ablation[shared] - percent[shared]).abs().max() < 0.1


def test_an_unknown_table_is_named(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="there are no published numbers `radar`; choose one of ablation"):
        published.load("radar")
    monkeypatch.setattr("compendium.paths.ROOT", tmp_path)
    with pytest.raises(InputError, match=r"merging\.csv: cannot be read .*restore it from git"):
        published.load("merging")
