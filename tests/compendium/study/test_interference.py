# SPDX-License-Identifier: MIT
"""Interference and Procrustes errors of a run are those of its task vectors, matrix by matrix."""

from pathlib import Path

import pytest
import torch

from compendium import profiles
from compendium.study import interference, runs
from compendium.worlds.protocol import suite
from tsvlib import linalg, sti
from tsvlib.layers import MemorySuite

SMOKE = profiles.load("smoke")
KEY = "visual.transformer.resblocks.0.mlp.c_fc.weight"


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    return next(runs.of(SMOKE))


def pick(rows: list[runs.Row], **wanted: object) -> list[runs.Row]:
    return [row for row in rows if wanted.items() <= row.items()]


def exact(run: runs.Run, n_tasks: int) -> list[linalg.Factors]:
    return [linalg.svd(run.task_vector(task)[KEY].double()) for task in suite(SMOKE, n_tasks)]


def test_rows_cover_every_matrix_suite_and_norm(run: runs.Run) -> None:
    rows = interference.of_suites(run, SMOKE.suites)
    vector = run.task_vector(suite(SMOKE, 1)[0])
    matrices = {run.evaluator.world.place(key) for key, tensor in vector.items() if tensor.ndim == 2}
    assert {(row["layer"], row["matrix"]) for row in rows} == matrices
    assert len(rows) == len(matrices) * len(SMOKE.suites) * 4
    assert all(row.keys() == interference.INTERFERENCE_COLUMNS.keys() for row in rows)


@pytest.mark.parametrize("n_tasks", SMOKE.suites)
def test_values_are_equation_6_in_float64(run: runs.Run, n_tasks: int) -> None:
    rows = pick(interference.of_suites(run, SMOKE.suites), n_tasks=n_tasks, layer=0, matrix="mlp.c_fc.weight")
    whole = exact(run, n_tasks)
    k = linalg.kept_rank(len(whole[0].s), 1 / n_tasks)
    for rank, factors in (("full", whole), ("low", [linalg.truncate(each, k) for each in whole])):
        expected = sti.singular_task_interference(factors)._asdict()
        assert {row["metric"]: row["value"] for row in pick(rows, rank=rank)} == pytest.approx(expected, rel=1e-3)


def test_a_matrix_that_some_experts_left_alone_counts_those_that_changed_it(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = suite(SMOKE, SMOKE.tasks)
    vectors = {task: run.task_vector(task) for task in (first, *others)}
    monkeypatch.setattr(runs.Run, "suite_on_disk", lambda _, tasks: MemorySuite([vectors[task] for task in tasks]))
    vectors[first][KEY].zero_()
    rows = pick(interference.of_suites(run, SMOKE.suites), layer=0, matrix="mlp.c_fc.weight")
    rows = pick(rows, metric="entrywise", rank="full")
    two = [linalg.svd(vectors[task][KEY].double()) for task in others]
    assert rows[0]["value"] == pytest.approx(0, abs=1e-2)
    assert rows[1]["value"] == pytest.approx(sti.singular_task_interference(two).entrywise, rel=1e-3)
    for task in others:
        vectors[task][KEY].zero_()
    rows = pick(interference.of_suites(run, SMOKE.suites), layer=0, matrix="mlp.c_fc.weight")
    assert [row["value"] for row in rows] == [0.0] * 8


def test_errors_are_distances_to_the_procrustes_solution(run: runs.Run) -> None:
    n_tasks = SMOKE.suites[0]
    rows = pick(interference.procrustes_errors(run, n_tasks), layer=0, matrix="mlp.c_fc.weight")
    assert len(rows) == 4
    assert all(row.keys() == interference.ERROR_COLUMNS.keys() for row in rows)
    factors = exact(run, n_tasks)
    k = linalg.kept_rank(len(factors[0].s), 1 / n_tasks)
    for rank, count in (("full", len(factors[0].s)), ("low", k)):
        sides = {"u": [f.u[:, :count] for f in factors], "v": [f.vh[:count].T for f in factors]}
        for vectors, blocks in sides.items():
            x = torch.cat(blocks, 1)
            (found,) = pick(rows, rank=rank, vectors=vectors)
            assert found["error"] == pytest.approx(float((linalg.orthogonalise(x) - x).norm()), rel=1e-2)
