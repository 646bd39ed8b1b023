# SPDX-License-Identifier: MIT
"""All methods run, say what they take, and are handed no more than they declare to need."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compendium import profiles
from compendium.paper import requirements, tables
from compendium.study import adaptation, beyond, collecting, runs, statistics, studies, timing
from compendium.study.adaptation import Settings
from compendium.worlds.mini.world import Mini
from compendium.worlds.protocol import Split
from tsvlib import merging
from tsvlib.methods import METHODS, named
from tsvlib.methods.base import NOTHING, VALIDATION, Needs
from tsvlib.taskvectors import MatrixRule

SMOKE = profiles.load("smoke")
EVERY = (*beyond.MERGED, *beyond.ADAPTED, *beyond.PACKED)
BRIEF = Settings(steps=2)


class UndeclaredError(Exception):
    """A method asked for what it does not declare to need."""


class Unlabelled:
    """A split whose labels nobody may read."""

    def __init__(self, whole: Split) -> None:
        self.inputs, self.digest, self.sources = whole.inputs, whole.digest, whole.sources

    @property
    def labels(self) -> torch.Tensor:
        raise UndeclaredError


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> runs.Run:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    monkeypatch.setattr(collecting, "_file", lambda run, quantity, task: tmp_path / f"{quantity}-{task}.safetensors")
    adapted = studies.adapted
    monkeypatch.setattr(studies, "adapted", lambda run, n_tasks, names: adapted(run, n_tasks, BRIEF, names))
    return next(runs.of(SMOKE))


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Needs], None]:
    """Let a world give what a method declares to need of the validation split, and nothing else of it."""
    whole = Mini.split

    def hand(needs: Needs) -> None:
        def split(self, task, name):
            if name == "validation" and not needs.inputs:
                raise UndeclaredError
            found = whole(self, task, name)
            return Unlabelled(found) if name == "validation" and not needs.labels else found

        monkeypatch.setattr(Mini, "split", split)

    return hand


def declared(name: str) -> Needs:
    """Return what Table 1 says of a method, as this study runs it."""
    if name == beyond.SPLIT or name.endswith(beyond.ONE):
        return NOTHING
    if name == "tsv_m":
        return VALIDATION
    return named(name).needs if "+" in name else requirements.declared()[name]


def pick(rows: list[runs.Row], metric: str) -> dict[str, float]:
    return {str(row["task"]): float(row["value"]) for row in rows if row["metric"] == metric}


@pytest.mark.parametrize("name", EVERY)
def test_a_method_runs_with_what_it_declares_and_no_more(
    run: runs.Run, handed: Callable[[Needs], None], name: str
) -> None:
    handed(declared(name))
    rows = beyond.measured(run, 2, name)
    assert all(row.keys() == beyond.TAKEN.keys() for row in rows)
    assert {row["method"] for row in rows} == {name}
    assert list(pick(rows, "accuracy")) == list(run.tasks(2))
    (inputs,), (labels,) = pick(rows, "inputs").values(), pick(rows, "labels").values()
    assert bool(inputs) == declared(name).inputs
    assert bool(labels) == declared(name).labels
    assert not labels or labels == inputs
    assert timing.seconds(run, 2, name)["value"] > 0


@pytest.mark.parametrize("name", [name for name in EVERY if declared(name).inputs])
def test_a_method_that_gets_less_than_it_declares_asks_for_it(
    run: runs.Run, handed: Callable[[Needs], None], name: str
) -> None:
    needs = declared(name)
    less = Needs(inputs=True) if needs.labels else NOTHING
    handed(less)
    with pytest.raises(UndeclaredError):
        beyond.measured(run, 2, name)


def test_all_that_declares_is_measured_in_some_chapter() -> None:
    parts = {part for name in EVERY for part in name.removesuffix(beyond.ONE).split("+")}
    elsewhere = {"tsv_m_eigen", "low_rank", "interference_reduction", "tsv_m_adapted"}
    assert parts - {beyond.SPLIT} == requirements.declared().keys() - elsewhere
    assert METHODS.keys() <= requirements.declared().keys()
    assert set(EVERY) <= set(tables.TITLES)


def test_alphas_are_every_third_of_a_grid_where_labels_choose_and_one_elsewhere() -> None:
    for name in beyond.MERGED:
        alphas = beyond.method(name, lambda _: []).alphas
        if beyond.is_searched(name):
            whole = named(name).alphas
            assert alphas == whole[::3]
            assert len(alphas) == 10
        else:
            assert alphas == (1.0,)
    assert 1.0 in beyond.method("tsv_m", lambda _: []).alphas
    searched = {name for name in beyond.MERGED if beyond.is_searched(name)}
    assert {"tsv_m", "dc_merge", "task_arithmetic", "task_arithmetic+boosting"} <= searched
    assert {"tsv_m_alpha_1", "task_arithmetic+svc", "tsv_m_alpha_1+boosting", "fisher", "wudi"}.isdisjoint(searched)


def test_tsv_m_with_alpha_one_is_that_of_the_paper(run: runs.Run) -> None:
    rows = beyond.measured(run, 2, studies.AT_ONE)
    state = run.merged(named("tsv_m"), 2).apply(run.evaluator.base)
    assert pick(rows, "accuracy") == run.evaluator.accuracies(state, run.tasks(2), "test")
    assert pick(rows, "bytes") == {"all": sum(tensor.nbytes for tensor in run.evaluator.base.values())}


def test_projections_apart_are_those_of_the_finer_rule(run: runs.Run) -> None:
    how = beyond.computing(beyond.SPLIT, run.computing)
    assert how.rule == MatrixRule(split_qkv=True)
    assert how.spectra is run.computing.spectra
    chosen = beyond.method(beyond.SPLIT, lambda _: [])
    found = beyond.update(run, run.tasks(2), chosen, how)
    vectors = [run.task_vector(task) for task in run.tasks(2)]
    expected = merging.merged_update(vectors, "tsv_m", computing=how)
    fused = merging.merged_update(vectors, "tsv_m")
    key = "visual.transformer.resblocks.0.attn.in_proj_weight"
    assert torch.equal(found[key], expected[key])
    assert not torch.allclose(found[key], fused[key])


@pytest.mark.parametrize("name", beyond.PACKED)
def test_models_for_each_task_are_counted_with_all_that_they_store(run: runs.Run, name: str) -> None:
    (size,) = pick(beyond.measured(run, 3, name), "bytes").values()
    one = run.task_vector(run.tasks(1)[0]).stored_bytes
    entries = sum(tensor.numel() for tensor in run.evaluator.base.values())
    if name == "tsv_c":
        assert size < 3 * one
    else:
        # A bit for each weight and task beside one update, but for bytes that are not full, and numbers that rescale.
        assert one + 3 * entries / 8 <= size < one + 3 * (entries / 8 + len(run.evaluator.base) + 8)


def test_room_is_what_the_measured_models_store(run: runs.Run) -> None:
    rooms = {row["method"]: row["value"] for row in studies.room(run, 2)}
    for name in ("tall_mask_ta", "emr"):
        assert pick(beyond.measured(run, 2, name), "bytes") == {"all": rooms[name]}


def test_inputs_are_counted_as_methods_look_at_them(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = dataclasses.replace(SMOKE, samples=dataclasses.replace(SMOKE.samples, alpha=100))
    brief = dataclasses.replace(run, profile=profile)
    counts = [len(run.evaluator.world.split(task, "validation").labels) for task in run.tasks(2)]
    assert beyond.shown(brief, 2, "ties") == (100, 100)
    assert beyond.shown(brief, 2, "consensus_ta") == beyond.shown(brief, 2, "tall_mask_ta") == (sum(counts),) * 2
    assert beyond.shown(brief, 2, "esm") == (2 * statistics.COUNTS["inputs"], 0)
    assert beyond.shown(brief, 2, "fisher") == (sum(counts), 0)
    assert beyond.shown(brief, 2, "emr") == beyond.shown(brief, 2, "tsv_m_alpha_1") == (0, 0)
    monkeypatch.setattr(beyond, "PROTOCOL", Settings(steps=3, batch=5))
    assert beyond.shown(brief, 2, "adamerging") == (30, 0)


def test_task_wise_adaptation_has_one_coefficient_for_each_task(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    adapt = adaptation.adapt

    def noted(*arguments, **options):
        found = adapt(*arguments, **options)
        asked.append((options["taskwise"], tuple(found.coefficients.shape)))
        return found

    monkeypatch.setattr(adaptation, "adapt", noted)
    for name in beyond.ADAPTED:
        beyond.measured(run, 2, name)
    assert sorted(asked) == [(False, (2, len(run.evaluator.base))), (True, (2, 1))]


def test_no_method_is_measured_twice() -> None:
    every = (*beyond.MERGED, *beyond.PACKED, *beyond.ADAPTED)
    assert len(set(every)) == len(every)
