# SPDX-License-Identifier: MIT
"""Subsets are the paper's by place, rows are those of direct computation, and the search ends where grids do."""

from pathlib import Path

import pandas as pd
import pytest

from compendium import paths, profiles, published
from compendium.study import alpha, runs, studies
from compendium.study.evaluation import packed, shares
from compendium.worlds.mini import datasets
from compendium.worlds.protocol import suite
from tsvlib import merging
from tsvlib.methods import UPDATES, named
from tsvlib.search import best_alpha

SMOKE, MINI = profiles.load("smoke"), profiles.load("mini")
RECORDED = pd.read_csv(paths.ROOT / "data" / "results" / "mini" / "alpha_search.csv")


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    return next(runs.of(SMOKE))


@pytest.mark.parametrize(("backbone", "count"), [("mini-b32", 7), ("mini-b16", 7), ("mini-l14", 3)])
def test_subsets_hold_the_tasks_at_the_papers_places(backbone: str, count: int) -> None:
    found = alpha.subsets(MINI, backbone)
    assert len(found) == count
    assert found[3] == suite(MINI, 8)
    order = list(published.load("data_sets").sort_values("place").task)
    named = published.load("alpha_subsets").groupby("subset").task.apply(list)
    for subset, tasks in found.items():
        assert [suite(MINI, 20).index(task) for task in tasks] == [order.index(task) for task in named[subset]]


def test_fewer_tasks_leave_smaller_subsets_and_drop_those_without_a_pair() -> None:
    assert alpha.subsets(SMOKE, "smoke-b32") == {3: suite(SMOKE, 3), 4: suite(SMOKE, 3)}


def test_rows_of_a_subset_are_those_of_merging_its_experts(run: runs.Run) -> None:
    rows = pd.DataFrame(alpha.over_subset(run, 4))
    assert set(rows.columns) == set(alpha.SUBSET_COLUMNS)
    merged = rows[rows.method == "tsv_m"]
    assert sorted(merged.alpha.unique()) == sorted(published.load("alpha").alpha.unique())
    tasks = alpha.subsets(SMOKE, "smoke-b32")[4]
    update = merging.merged_update([run.task_vector(task) for task in tasks], named("tsv_m"))
    hits = run.evaluator.hits(update.apply(run.evaluator.base, 1.2), tasks, "validation")
    found = merged[merged.alpha == 1.2].set_index("task")
    assert list(found.step.unique()) == [12]
    assert found.accuracy.to_dict() == shares(hits)
    assert found.hits.to_dict() == {task: packed(each) for task, each in hits.items()}


def test_rows_of_a_subset_have_the_experts_on_all_validation_images(run: runs.Run) -> None:
    rows = pd.DataFrame(alpha.over_subset(run, 4))
    experts = rows[rows.method == alpha.INDIVIDUAL].set_index("task")
    assert set(rows.groupby(["method", "alpha"]).size()) == {3}
    for task in alpha.subsets(SMOKE, "smoke-b32")[4]:
        assert experts.accuracy[task] == run.evaluator.accuracy(run.expert(task), task, "validation")
        assert len(experts.hits[task]) == 2 * -(-len(datasets.cached(SMOKE, task, "validation").labels) // 8)


@pytest.mark.parametrize("name", ["task_arithmetic", "tsv_m"])
def test_a_grid_tells_what_the_search_scored_and_found(run: runs.Run, name: str) -> None:
    method = UPDATES[name]
    rows = pd.DataFrame(alpha.over_grid(run, 2, method))
    assert set(rows.columns) == set(alpha.GRID_COLUMNS)
    curve = rows.pivot_table(index="step", columns="metric", values="value")
    assert tuple(curve.alpha) == method.alphas
    merged = {row["metric"]: row["value"] for row in studies.merge(run, 2, method) if row["task"] == studies.ALL_TASKS}
    visited = curve[curve.visit > 0]
    assert sorted(visited.visit) == list(range(1, int(merged["evaluations"]) + 1))
    best = visited[visited.score == visited.score.max()].sort_values("visit").iloc[0]
    assert (best.alpha, best.score) == (merged["alpha"], merged["validation_score"])


@pytest.mark.parametrize("setting", sorted(set(zip(RECORDED.n_tasks, RECORDED.method, strict=True))))
def test_on_mini_the_search_finds_the_best_alpha_of_the_whole_grid(setting: tuple[int, str]) -> None:
    n_tasks, method = setting
    rows = RECORDED[(RECORDED.n_tasks == n_tasks) & (RECORDED.method == method)]
    curve = rows.pivot_table(index="step", columns="metric", values="value")
    assert len(curve) == len(UPDATES[method].alphas) == 30
    found = best_alpha(lambda step: curve.score[int(step)], [float(step) for step in curve.index])
    assert found.score == curve.score.max()
    assert found.evaluations <= 10
    assert found.alpha in curve.index[curve.score == found.score]
