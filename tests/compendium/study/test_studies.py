# SPDX-License-Identifier: MIT
"""The experiments on the tiny profile: complete rows, agreement with direct computation, nothing measured twice."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from compendium import profiles
from compendium.study import adaptation, evaluation, runs, studies
from compendium.study.adaptation import Settings, Unlabelled
from compendium.worlds.mini import datasets, models
from compendium.worlds.protocol import suite
from tsvlib import checkpoints, merging
from tsvlib.compression import Rank, compress
from tsvlib.errors import InputError
from tsvlib.methods import MEASURED, UPDATES, masks, named
from tsvlib.store import Spectra
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import StateDict

SMOKE = profiles.load("smoke")
BRIEF = Settings(steps=2)


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    return next(runs.of(SMOKE))


def pick(rows: list[runs.Row], metric: str, method: str) -> dict[str, float]:
    return {row["task"]: row["value"] for row in rows if row["metric"] == metric and row["method"] == method}


def test_runs_cover_every_backbone_and_seed(run: runs.Run) -> None:
    found = [(one.evaluator.backbone.name, one.seed) for one in runs.of(SMOKE)]
    assert found == [("smoke-b32", 0), ("smoke-b32", 1), ("smoke-l14", 0)]


def test_cells_are_every_run_with_every_suite(run: runs.Run) -> None:
    found = [(one.evaluator.backbone.name, one.seed, n_tasks) for one, n_tasks in runs.cells(SMOKE, "merging")]
    expected = [(backbone.name, seed) for backbone in SMOKE.backbones for seed in backbone.seeds]
    assert found == [(*cell, n_tasks) for cell in expected for n_tasks in SMOKE.suites]


def test_rows_have_just_the_described_columns(run: runs.Run) -> None:
    rows = [*studies.references(run, 2), *studies.merge(run, 2, named("tsv_m")), *studies.compressed(run, 2)]
    assert all(row.keys() == studies.COLUMNS.keys() for row in rows)


def test_an_accuracy_is_the_mean_of_its_hits(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "workers", lambda: 1)
    rows = [*studies.references(run, 2), *studies.compressed(run, 2), *studies.masked(run, 2)]
    rows += [row for found in studies.adapted(run, 2, BRIEF) for row in found]
    for row in rows:
        if not str(row["metric"]).startswith("accuracy"):
            assert row["hits"] == ""
            continue
        n = len(datasets.cached(SMOKE, str(row["task"]), "test").labels)
        bits = f"{int(str(row['hits']), 16):0{4 * len(str(row['hits']))}b}"
        assert len(bits) == 8 * -(-n // 8)
        assert bits[:n].count("1") / n == row["value"]
        assert "1" not in bits[n:]


def test_hits_stand_in_the_order_of_the_split(run: runs.Run) -> None:
    (task,) = suite(SMOKE, 1)
    rows = [row for row in studies.references(run, 2) if row["method"] == "individual" and row["task"] == task]
    predicted = run.evaluator.predictions(run.expert(task), [task], "test")[task]
    bits = f"{int(str(rows[0]['hits']), 16):0{4 * len(str(rows[0]['hits']))}b}"
    for place, (guess, label) in enumerate(zip(predicted, datasets.cached(SMOKE, task, "test").labels, strict=True)):
        assert bits[place] == str(int(guess == label))


def test_tsv_m_is_measured_with_the_chosen_alpha_and_with_one(run: runs.Run) -> None:
    rows = studies.tsv_merge(run, 2)
    assert [row for row in rows if row["method"] == "tsv_m"] == studies.merge(run, 2, named("tsv_m"))
    state = run.merged(named("tsv_m"), 2).apply(run.evaluator.base, 1.0)
    assert pick(rows, "accuracy", studies.AT_ONE) == run.evaluator.accuracies(state, suite(SMOKE, 2), "test")
    assert not pick(rows, "alpha", studies.AT_ONE)


def test_references_are_the_base_and_each_expert_on_its_own_task(run: runs.Run) -> None:
    rows = studies.references(run, 3)
    for task in suite(SMOKE, 3):
        assert pick(rows, "accuracy", "zero_shot")[task] == run.evaluator.accuracy(run.evaluator.base, task, "test")
        expert = checkpoints.load(run.evaluator.world.expert("smoke-b32", task, 0))
        assert pick(rows, "accuracy", "individual")[task] == run.evaluator.accuracy(expert, task, "test")
    assert pick(rows, "normalised_accuracy", "individual") == {"all": 1.0}


@pytest.mark.parametrize("name", UPDATES)
def test_a_merge_reports_the_test_of_the_alpha_that_validation_chose(run: runs.Run, name: str) -> None:
    method, tasks = UPDATES[name], suite(SMOKE, 2)
    rows = studies.merge(run, 2, method)
    alpha = pick(rows, "alpha", name).get("all", 1.0)
    update = merging.merged_update([run.task_vector(task) for task in tasks], method)
    state = update.apply(run.evaluator.base, alpha)
    assert pick(rows, "accuracy", name) == run.evaluator.accuracies(state, tasks, "test")
    assert alpha in method.alphas
    assert len(rows) == 3 + 3 * method.searches_alpha


@pytest.mark.parametrize(("n_tasks", "most"), [(2, 50), (3, 33)])
def test_an_alpha_is_judged_by_the_stated_number_of_validation_images(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_tasks: int, most: int
) -> None:
    profile = dataclasses.replace(SMOKE, samples=dataclasses.replace(SMOKE.samples, alpha=100))
    brief, tasks, seen, encode = dataclasses.replace(run, profile=profile), suite(SMOKE, n_tasks), [], models.encode
    monkeypatch.setattr(models, "encode", lambda visual, images: seen.append(len(images)) or encode(visual, images))
    monkeypatch.setattr(evaluation.Evaluator, "folder", lambda self, weights: tmp_path / weights)
    update = run.merged(named("task_arithmetic"), n_tasks)
    score = studies.validation_score(brief, update, tasks)
    assert seen == []
    found = score(0.5)
    assert sum(seen) == 2 * n_tasks * most
    score(0.6)
    assert sum(seen) == 3 * n_tasks * most

    def right(weights: Mapping[str, Tensor], task: str) -> int:
        """Return how many of the first images of a task are recognised."""
        labels = datasets.cached(SMOKE, task, "validation").labels
        predicted = run.evaluator.predictions(weights, [task], "validation")[task]
        return int((predicted == labels)[:most].sum())

    state = update.apply(run.evaluator.base, 0.5)
    ratios = [right(state, task) / right(run.expert(task), task) for task in tasks]
    assert found == pytest.approx(sum(ratios) / n_tasks)


def test_alpha_never_sees_test_images(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    whole = evaluation.Evaluator.hits_of

    def noted(self, candidates, split, most=None):
        asked.append(split)
        return whole(self, candidates, split, most)

    monkeypatch.setattr(evaluation.Evaluator, "hits_of", noted)
    rows = studies.merge(run, 2, named("task_arithmetic"))
    searched = int(pick(rows, "evaluations", "task_arithmetic")["all"])
    experts_validated = 1  # both in one pass
    assert asked[: experts_validated + searched] == ["validation"] * (experts_validated + searched)
    assert set(asked[experts_validated + searched :]) == {"test"}


def test_truncation_matches_direct_compression(run: runs.Run) -> None:
    task = suite(SMOKE, 1)[0]
    direct = compress(run.task_vector(task), Rank(fraction=0.25))
    state = direct.expand().apply(run.evaluator.base)
    ((hits, size),) = run.truncated(task, [Rank(fraction=0.25)])
    assert hits.equal(run.evaluator.hits(state, [task], "test")[task])
    assert size == direct.stored_bytes


def test_compression_tells_its_size(run: runs.Run) -> None:
    rows = studies.compressed(run, 3)
    whole = sum(run.task_vector(task).stored_bytes for task in suite(SMOKE, 3))
    assert pick(rows, "bytes", "individual") == {"all": whole}
    assert 0 < pick(rows, "bytes", "tsv_c")["all"] < whole


@pytest.mark.parametrize("text", ["1/4", "2"])
def test_compression_takes_another_rank(run: runs.Run, text: str) -> None:
    rank = Rank.parse(text)
    (task,) = suite(SMOKE, 1)
    direct = [compress(run.task_vector(each), rank) for each in suite(SMOKE, 3)]
    rows = studies.compressed(run, 3, rank)
    assert pick(rows, "bytes", "tsv_c") == {"all": sum(each.stored_bytes for each in direct)}
    state = direct[0].expand().apply(run.evaluator.base)
    assert pick(rows, "accuracy", "tsv_c")[task] == run.evaluator.accuracy(state, task, "test")


def test_compression_by_energy_is_refused(run: runs.Run) -> None:
    with pytest.raises(InputError, match=r"shares or numbers of components; choose one of these, not energy=0\.5"):
        studies.compressed(run, 3, Rank.parse("energy=0.5"))


def test_lambdas_are_the_smallest_of_the_best_on_each_tasks_own_validation_images(run: runs.Run) -> None:
    tasks = suite(SMOKE, 3)
    total = run.merged(named("task_arithmetic"), 3)
    chosen = studies.lambdas(run, 3, total)
    assert list(chosen) == list(tasks)
    for task, value in chosen.items():
        states = [masks.masked(total, run.task_vector(task), each) for each in SMOKE.lambdas]
        scores = [run.evaluator.accuracy(s.apply(run.evaluator.base), task, "validation") for s in states]
        assert value == SMOKE.lambdas[scores.index(max(scores))]


def test_consensus_takes_the_lambda_of_each_task(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(zip(suite(SMOKE, 3), (0.6, 0.2, 0.5), strict=True))
    monkeypatch.setattr(studies, "lambdas", lambda *_: given)
    rows = studies.consensus(run, 3)
    assert pick(rows, "lambda", "consensus_ta") == given
    assert not pd.DataFrame(rows).drop(columns=["value", "hits"]).duplicated().any()
    consensus = dataclasses.replace(named("consensus_ta"), bind=masks.consensus([0.6, 0.2, 0.5]))
    update = merging.merged_update([run.task_vector(task) for task in suite(SMOKE, 3)], consensus)
    state = update.apply(run.evaluator.base, pick(rows, "alpha", "consensus_ta")["all"])
    assert pick(rows, "accuracy", "consensus_ta") == run.evaluator.accuracies(state, suite(SMOKE, 3), "test")


def test_masked_experts_are_tested_on_their_own_task_with_the_bytes_of_one_update_and_all_masks(
    run: runs.Run,
) -> None:
    rows = studies.masked(run, 3)
    chosen = pick(rows, "lambda", "tall_mask_ties")
    shared = masks.shared_update(MemorySuite([run.task_vector(task) for task in suite(SMOKE, 3)]))
    for task, accuracy in pick(rows, "accuracy", "tall_mask_ties").items():
        state = masks.masked(shared, run.task_vector(task), chosen[task]).apply(run.evaluator.base)
        assert accuracy == run.evaluator.accuracy(state, task, "test")
    expected = shared.stored_bytes + sum(3 * -(-tensor.numel() // 8) for tensor in shared.values())
    assert pick(rows, "bytes", "tall_mask_ties") == {"all": expected}


def test_no_choice_sees_test_images_and_nothing_is_predicted_twice(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    splits, predicted = [], []
    predictions_of, predict = evaluation.Evaluator.predictions_of, evaluation.Evaluator.predict

    def asked(self, candidates, split, most=None):
        splits.append(split)
        return predictions_of(self, candidates, split, most)

    def noted(self, states, split, wanted):
        for place, tasks in wanted.items():
            weights = checkpoints.state_digest(states[place])
            predicted.extend((weights, split, task, n) for task, x in tasks.items() for n in range(x.start, x.stop))
        return predict(self, states, split, wanted)

    monkeypatch.setattr(evaluation.Evaluator, "predictions_of", asked)
    monkeypatch.setattr(evaluation.Evaluator, "predict", noted)
    monkeypatch.setattr(evaluation.Evaluator, "folder", lambda self, weights: tmp_path / weights)
    for study in (studies.consensus, studies.masked):
        splits.clear()
        study(run, 3)
        assert splits == sorted(splits, key=("validation", "test").index)
    assert len(set(predicted)) == len(predicted)


def test_all_keys_of_a_table_are_distinct(run: runs.Run) -> None:
    rows = [row for n in SMOKE.suites for row in studies.merge(run, n, named("tsv_m"))]
    assert not pd.DataFrame(rows).drop(columns=["value", "hits"]).duplicated().any()


def test_results_do_not_depend_on_who_asked_the_store_first(run: runs.Run, tmp_path: Path) -> None:
    delta = run.task_vector(suite(SMOKE, 1)[0])["visual.proj"]
    asked_first = {}
    for name, ranks in {"few": (2, 9), "many": (9, 2)}.items():
        store = Spectra(tmp_path / name, whole=True)
        found = {k: store.factors(delta, k) for k in ranks}
        asked_first[name] = [part.tolist() for k in (2, 9) for part in found[k]]
        assert [entry.rank for entry in store.list()] == [min(delta.shape)]
    assert asked_first["few"] == asked_first["many"]
    assert isinstance(run.computing.spectra, Spectra)
    assert run.computing.spectra.whole


def test_confusion_counts_every_input_and_has_the_accuracies_on_its_diagonal(run: runs.Run) -> None:
    method = named("tsv_m")
    rows = studies.confusion(run, 2, method, 0.5)
    state = run.merged(method, 2).apply(run.evaluator.base, 0.5)
    for task, accuracy in run.evaluator.accuracies(state, suite(SMOKE, 2), "test").items():
        counts = {(row["true"], row["predicted"]): row["inputs"] for row in rows if row["task"] == task}
        labels = datasets.cached(SMOKE, task, "test").labels
        n_classes = len(datasets.TASKS[task].classes)
        assert len(counts) == n_classes**2
        assert [sum(counts[i, j] for j in range(n_classes)) for i in range(n_classes)] == labels.bincount(
            minlength=n_classes
        ).tolist()
        assert sum(counts[i, i] for i in range(n_classes)) / len(labels) == pytest.approx(accuracy)


def test_adaptation_covers_all_forms(run: runs.Run) -> None:
    frame = pd.DataFrame([row for rows in studies.adapted(run, 2, BRIEF) for row in rows])
    assert set(frame.columns) == studies.ADAPTED_COLUMNS.keys()
    assert not frame.drop(columns=["value", "hits"]).duplicated().any()
    groups = frame.groupby(["backbone", "n_tasks", "method", "seed"]).size()
    assert list(groups.index) == [("smoke-b32", 2, name, 0) for name in sorted(studies.STARTS)]
    assert groups.unique() == [2 * 3 + 5]


def test_adaptation_starts_from_task_arithmetic_and_from_tsv_m(run: runs.Run) -> None:
    rows = [row for rows in studies.adapted(run, 2, BRIEF) for row in rows if row["seed"] == 0]
    tasks = suite(SMOKE, 2)
    starts = {"adamerging_task": ("task_arithmetic", 0.3), "adamerging": ("task_arithmetic", 0.3)}
    for name, (method, alpha) in (starts | {"tsv_m_adapted": ("tsv_m", 1.0)}).items():
        start = run.merged(UPDATES[method], 2).apply(run.evaluator.base, alpha)
        assert pick(rows, "accuracy_before", name) == run.evaluator.accuracies(start, tasks, "test")


def test_adaptation_is_that_of_the_validation_images_alone(run: runs.Run) -> None:
    tasks = [
        Unlabelled(datasets.cached(SMOKE, task, "validation").inputs, run.evaluator.head(task))
        for task in suite(SMOKE, 2)
    ]
    encoder = run.evaluator.encoder.differentiable()
    vectors = [run.task_vector(task) for task in suite(SMOKE, 2)]

    def parts(key: str) -> Tensor:
        return torch.stack([vector[key] for vector in vectors])

    found = adaptation.adapt(run.evaluator.base, parts, tasks, encoder, start=0.3, seed=0, settings=BRIEF)
    rows = next(studies.adapted(run, 2, BRIEF, ["adamerging"]))
    assert pick(rows, "accuracy", "adamerging") == run.evaluator.accuracies(found.state, suite(SMOKE, 2), "test")
    assert pick(rows, "entropy_after", "adamerging")["all"] == pytest.approx(found.after, rel=1e-6)
    learnt = [dict(zip(run.evaluator.base, row.unbind(), strict=True)) for row in found.coefficients]
    update = merging.merged_update(vectors, MEASURED["adamerging"].by(learnt))
    for key, tensor in update.apply(run.evaluator.base).items():
        torch.testing.assert_close(tensor, found.state[key])


def test_adaptation_encodes_no_more_inputs_at_once_than_the_encoder_says(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, seen = run.evaluator.encoder, list[int]()
    differentiable = encoder.differentiable

    def noting() -> adaptation.Encoder:
        encode = differentiable()

        def noted(state: StateDict, inputs: Tensor) -> Tensor:
            seen.append(len(inputs))
            return encode(state, inputs)

        return noted

    monkeypatch.setattr(encoder, "differentiable", noting)
    monkeypatch.setattr(encoder, "batch", BRIEF.batch + 1)
    assert len(run.evaluator.world.split(suite(SMOKE, 1)[0], "validation").labels) > BRIEF.batch + 1
    next(studies.adapted(run, 2, BRIEF))
    assert max(seen) == BRIEF.batch + 1


def test_adaptation_reads_no_test_image_and_no_label(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = next(studies.adapted(run, 2, BRIEF))
    world = type(run.evaluator.world)
    whole, asked = world.split, []

    def noted(self, task, split):
        asked.append(split)
        found = whole(self, task, split)
        # With other labels, whoever read them would adapt in another way.
        return dataclasses.replace(found, labels=found.labels.flip(0)) if split == "validation" else found

    hits_of, before_measuring = evaluation.Evaluator.hits_of, []

    def measured(self, candidates, split, most=None):
        before_measuring.append(set(asked))
        return hits_of(self, candidates, split, most)

    monkeypatch.setattr(world, "split", noted)
    monkeypatch.setattr(evaluation.Evaluator, "hits_of", measured)
    found = next(studies.adapted(run, 2, BRIEF))
    assert before_measuring[0] == {"validation"}
    assert found == expected


def test_adaptation_does_not_depend_on_the_number_of_workers(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for workers in (1, 2):
        monkeypatch.setattr(studies, "workers", lambda workers=workers: workers)
        found.append([row for rows in studies.adapted(run, 2, BRIEF) for row in rows])
    assert found[0] == found[1]
