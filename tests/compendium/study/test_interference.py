# SPDX-License-Identifier: MIT
"""Interference and Procrustes errors of a run are those of its task vectors, matrix by matrix."""

import math
from pathlib import Path

import pytest
import torch
from oracles import equation_6

from compendium import profiles
from compendium.study import interference, runs
from compendium.worlds.protocol import suite
from tsvlib import linalg, merging, sti
from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.methods import UPDATES
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import TaskVector

SMOKE = profiles.load("smoke")
KEY = "visual.transformer.resblocks.0.mlp.c_fc.weight"
OTHER = "visual.transformer.resblocks.0.mlp.c_proj.weight"


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    return next(runs.of(SMOKE))


def pick(rows: list[runs.Row], **wanted: object) -> list[runs.Row]:
    return [row for row in rows if wanted.items() <= row.items()]


def exact(run: runs.Run, n_tasks: int) -> list[linalg.Factors]:
    return [linalg.svd(run.task_vector(task)[KEY].double()) for task in suite(SMOKE, n_tasks)]


def changed(factors: list[linalg.Factors]) -> list[linalg.Factors]:
    """Orthogonalise the vectors of all tasks by the SVD of the matrices that hold them side by side."""
    s = [each.s for each in factors]
    sides = []
    for blocks in ([each.u for each in factors], [each.vh.T for each in factors]):
        p, _, qh = torch.linalg.svd(torch.cat(blocks, 1), full_matrices=False)
        sides.append(torch.split(p @ qh, [len(each) for each in s], dim=1))
    return [linalg.Factors(u, each, v.T) for u, each, v in zip(sides[0], s, sides[1], strict=True)]


def test_rows_cover_every_matrix_suite_and_norm(run: runs.Run) -> None:
    rows = interference.of_suites(run, SMOKE.suites)
    vector = run.task_vector(suite(SMOKE, 1)[0])
    matrices = {run.evaluator.world.place(key) for key, tensor in vector.items() if tensor.ndim == 2}
    assert {(row["layer"], row["matrix"]) for row in rows} == matrices
    assert len(rows) == len(matrices) * len(SMOKE.suites) * 8
    assert all(row.keys() == interference.INTERFERENCE_COLUMNS.keys() for row in rows)


@pytest.mark.parametrize("n_tasks", SMOKE.suites)
def test_values_are_equation_6_of_what_each_method_adds_up(run: runs.Run, n_tasks: int) -> None:
    rows = pick(interference.of_suites(run, SMOKE.suites), n_tasks=n_tasks, layer=0, matrix="mlp.c_fc.weight")
    whole = exact(run, n_tasks)
    k = linalg.kept_rank(len(whole[0].s), 1 / n_tasks)
    low = [linalg.truncate(each, k) for each in whole]
    forms = {"none": whole, "low_rank": low, "interference_reduction": changed(whole), "both": changed(low)}
    for form, factors in forms.items():
        columns = equation_6(factors).abs().sum(0)
        found = {row["metric"]: row["value"] for row in pick(rows, form=form)}
        expected = {"entrywise": float(columns.sum()), "induced": float(columns.max())}
        # Where the long side has room for all components, one side is orthonormal, and rounding to float32 is left.
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert all(row["value"] < 1e-9 for row in pick(rows, form="both"))


@pytest.mark.parametrize(("method", "share"), [("interference_reduction", 1.0), ("tsv_m", 1 / 3)])
def test_what_is_measured_is_what_the_method_adds_up(run: runs.Run, method: str, share: float) -> None:
    vectors = [run.task_vector(task) for task in suite(SMOKE, 3)]
    whole = exact(run, 3)
    kept = [linalg.truncate(each, linalg.kept_rank(len(whole[0].s), share)) for each in whole]
    expected = sum(each.product() for each in changed(kept))
    found = merging.merged_update(vectors, UPDATES[method])[KEY].double()
    assert (found - expected).norm() < 1e-3 * found.norm()


def test_where_the_method_takes_the_mean_so_does_every_form(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix of two rows cannot give each of three tasks a component, as positions of a model with few patches."""
    vectors = {task: {KEY: run.task_vector(task)[KEY][:2]} for task in suite(SMOKE, 3)}
    monkeypatch.setattr(runs.Run, "suite_on_disk", lambda _, tasks: MemorySuite([vectors[task] for task in tasks]))
    rows = pick(interference.of_suites(run, [2, 3]), metric="entrywise")
    none, *others = (row["value"] for row in pick(rows, n_tasks=3))
    assert others == pytest.approx([float(none) / 3] * 3)
    assert pick(rows, n_tasks=2, form="both")[0]["value"] == pytest.approx(0, abs=1e-9)


def test_a_matrix_that_some_experts_left_alone_counts_those_that_changed_it(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = suite(SMOKE, SMOKE.tasks)
    vectors = {task: run.task_vector(task) for task in (first, *others)}
    monkeypatch.setattr(runs.Run, "suite_on_disk", lambda _, tasks: MemorySuite([vectors[task] for task in tasks]))
    vectors[first][KEY].zero_()
    rows = pick(interference.of_suites(run, SMOKE.suites), layer=0, matrix="mlp.c_fc.weight")
    rows = pick(rows, metric="entrywise", form="none")
    two = [linalg.svd(vectors[task][KEY].double()) for task in others]
    assert rows[0]["value"] == pytest.approx(0, abs=1e-2)
    assert rows[1]["value"] == pytest.approx(sti.singular_task_interference(two).entrywise, rel=1e-3)
    for task in others:
        vectors[task][KEY].zero_()
    rows = pick(interference.of_suites(run, SMOKE.suites), layer=0, matrix="mlp.c_fc.weight")
    assert [row["value"] for row in rows] == [0.0] * 16


def test_a_matrix_that_no_expert_changed_has_no_errors(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = suite(SMOKE, 2)
    vectors = {task: {key: run.task_vector(task)[key] for key in (KEY, OTHER)} for task in tasks}
    for task in tasks:
        vectors[task][KEY] = torch.zeros_like(vectors[task][KEY])
    monkeypatch.setattr(runs.Run, "suite_on_disk", lambda _, tasks: MemorySuite([vectors[task] for task in tasks]))
    rows = interference.procrustes_errors(run, 2)
    assert {(row["layer"], row["matrix"]) for row in rows} == {run.evaluator.world.place(OTHER)}
    assert [layer.key for layer in run.changed_matrices(tasks)] == [OTHER]


def test_a_suite_that_changed_no_matrix_is_told_before_anything_is_decomposed(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = {task: TaskVector(run.task_vector(task)) for task in suite(SMOKE, SMOKE.tasks)}
    for task in suite(SMOKE, 2):
        vectors[task] |= {key: torch.zeros_like(each) for key, each in vectors[task].items() if each.ndim > 1}
    monkeypatch.setattr(runs.Run, "suite_on_disk", lambda _, tasks: MemorySuite([vectors[task] for task in tasks]))
    monkeypatch.setattr(Layer, "factors", None)
    message = f"backbone {run.backbone}, seed 0: none of the experts of .* changed a matrix.* not those of the base"
    for measured in (
        lambda: interference.procrustes_errors(run, 2),
        lambda: interference.of_suites(run, SMOKE.suites),
        lambda: run.changed_matrices(suite(SMOKE, 2)),
    ):
        with pytest.raises(InputError, match=message):
            measured()


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
            assert found["chance"] == pytest.approx(by_chance(len(x), count, n_tasks), rel=0.05)


def test_chance_of_square_blocks_is_the_closed_form(run: runs.Run) -> None:
    rows = pick(interference.procrustes_errors(run, 3), layer=0, matrix="attn.out_proj.weight", rank="full")
    n = len(run.task_vector(suite(SMOKE, 1)[0])[KEY.replace("mlp.c_fc", "attn.out_proj")])
    expected = math.sqrt(n) * (math.sqrt(3) - 1)
    assert [row[name] for row in rows for name in ("error", "chance")] == pytest.approx([expected] * 4, rel=1e-4)


def by_chance(rows: int, columns: int, n_tasks: int) -> float:
    """Return the mean error of other random orthonormal blocks than those of the table."""
    drawn = [
        torch.cat([torch.linalg.qr(torch.randn(rows, columns).double()).Q for _ in range(n_tasks)], 1)
        for _ in range(20)
    ]
    return sum(float((linalg.orthogonalise(x) - x).norm()) for x in drawn) / len(drawn)


def test_there_are_two_norms() -> None:
    for norm in ("entrywise", "induced"):
        interference.check_norm(norm)
    with pytest.raises(InputError, match="no norm 'spectral'; choose one of entrywise, induced"):
        interference.check_norm("spectral")
