# SPDX-License-Identifier: MIT
"""Accuracies are right, measured once, and never stale."""

import dataclasses
import json
import math
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compendium import profiles, provenance
from compendium.study import evaluation
from compendium.study.evaluation import Candidate, Evaluator, normalised_accuracy, packed
from compendium.worlds.mini import datasets, models
from compendium.worlds.mini.world import Mini
from tsvlib.errors import InputError

SMOKE = profiles.load("smoke")
MODEL = models.load_base("smoke", "smoke-b32")


@pytest.fixture
def evaluator(output: Path) -> Evaluator:
    return Evaluator(SMOKE, "smoke-b32")


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one entry with each encoder that is put to work."""
    made: list[object] = []
    with_weights = models.with_weights

    def counted(*arguments: object) -> object:
        made.append(arguments)
        return with_weights(*arguments)

    monkeypatch.setattr(models, "with_weights", counted)
    return made


def test_accuracy_is_the_share_of_correct_classes(evaluator: Evaluator) -> None:
    task, data = datasets.TASKS["mnist"], datasets.cached(SMOKE, "mnist", "test")
    text = models.zero_shot_head(MODEL, task.classes, task.templates)
    best = [int((text @ feature).argmax()) for feature in models.encode(MODEL.visual, data.inputs)]
    expected = sum(guess == label for guess, label in zip(best, data.labels.tolist(), strict=True)) / len(best)
    assert evaluator.accuracy(evaluator.base, "mnist", "test") == expected
    hits = evaluator.hits(evaluator.base, ["mnist"], "test")["mnist"]
    assert hits.tolist() == [guess == label for guess, label in zip(best, data.labels.tolist(), strict=True)]


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_packed_hits_are_bits_in_order_and_zeros_at_the_end(hits: list[bool]) -> None:
    text = packed(torch.tensor(hits))
    bits = [digit == "1" for number in bytes.fromhex(text) for digit in f"{number:08b}"]
    assert bits[: len(hits)] == hits
    assert not any(bits[len(hits) :])
    assert len(bits) == 8 * math.ceil(len(hits) / 8)


def test_every_measurement_is_made_once(evaluator: Evaluator, encodings: list[object]) -> None:
    first = evaluator.accuracies(evaluator.base, ["mnist", "scenes"], "test")
    again = Evaluator(SMOKE, "smoke-b32").accuracies(evaluator.base, ["scenes", "mnist"], "test")
    assert first == again
    assert list(again) == ["scenes", "mnist"]
    assert len(encodings) == 1


def test_other_weights_splits_heads_and_images_are_measured_anew(
    evaluator: Evaluator, encodings: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator.accuracy(evaluator.base, "mnist", "test")
    evaluator.accuracy(evaluator.base, "mnist", "validation")
    evaluator.accuracy({key: 2 * tensor for key, tensor in evaluator.base.items()}, "mnist", "test")
    # Within one process a data set must stay as it is.
    monkeypatch.setattr(provenance, "_READ", {})
    task = dataclasses.replace(datasets.TASKS["mnist"], n_classes=9)
    monkeypatch.setitem(datasets.TASKS, "mnist", task)
    Evaluator(SMOKE, "smoke-b32").accuracy(evaluator.base, "mnist", "test")
    more = dataclasses.replace(SMOKE, samples=dataclasses.replace(SMOKE.samples, test=48))
    Evaluator(more, "smoke-b32").accuracy(evaluator.base, "mnist", "test")
    assert len(encodings) == 5


def test_a_part_of_the_images_is_completed_and_never_repeated(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = models.encode
    monkeypatch.setattr(models, "encode", lambda visual, images: seen.append(len(images)) or encode(visual, images))
    few = evaluator.predictions(evaluator.base, ["mnist", "scenes"], "test", 40)
    assert {task: len(classes) for task, classes in few.items()} == {"mnist": 40, "scenes": 40}
    whole = evaluator.predictions(evaluator.base, ["mnist"], "test")["mnist"]
    labels = datasets.cached(SMOKE, "mnist", "test").labels
    assert sum(seen) == 40 + len(labels) > 80
    assert whole[:40].equal(few["mnist"])
    expected = int((whole[:40] == labels[:40]).sum()) / 40
    assert evaluator.accuracy(evaluator.base, "mnist", "test", 40) == expected
    assert sum(seen) == 40 + len(labels)


def test_a_broken_record_is_measured_again(evaluator: Evaluator, output: Path) -> None:
    first = evaluator.accuracy(evaluator.base, "mnist", "test")
    (record,) = output.glob("data/cache/smoke/evaluations/smoke-b32/*/*.json")
    assert len(json.loads(record.read_text())) == 1
    record.write_text("{")
    assert evaluator.accuracy(evaluator.base, "mnist", "test") == first


def scaled(evaluator: Evaluator, factor: float) -> dict[str, torch.Tensor]:
    return {key: factor * tensor for key, tensor in evaluator.base.items()}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Grows by one entry, first image and first one after, with each batch of images that is read."""
    found: list[tuple[int, int]] = []

    class Counted:
        def __init__(self, inputs: torch.Tensor) -> None:
            self.inputs = inputs

        def __len__(self) -> int:
            return len(self.inputs)

        def __getitem__(self, chosen: slice) -> torch.Tensor:
            found.append((chosen.start, chosen.stop))
            return self.inputs[chosen]

    whole = Mini.split

    def split(self, task, name):
        data = whole(self, task, name)
        return dataclasses.replace(data, inputs=Counted(data.inputs))

    monkeypatch.setattr(Mini, "split", split)
    monkeypatch.setattr(evaluation, "workers", lambda: 1)
    return found


def test_several_candidates_share_one_pass_over_the_images(
    evaluator: Evaluator, reads: list[tuple[int, int]], output: Path
) -> None:
    evaluator.predictions(scaled(evaluator, 3), ["mnist"], "test")
    alone = list(reads)
    assert len(alone) == -(-SMOKE.samples.test // models.BATCH) > 1
    reads.clear()
    candidates = [Candidate(partial(scaled, evaluator, factor), ("mnist",)) for factor in (0.5, 1, 2, 3)]
    found = evaluator.predictions_of(candidates, "test")
    assert reads == alone
    for each, factor in zip(found, (0.5, 1, 2, 3), strict=True):
        assert each["mnist"].equal(evaluator.predictions(scaled(evaluator, factor), ["mnist"], "test")["mnist"])
    assert reads == alone
    assert len(list(output.glob("data/cache/smoke/evaluations/smoke-b32/*/*.json"))) == 4


def test_what_is_kept_is_that_of_candidates_measured_alone(
    evaluator: Evaluator, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(place: Path) -> dict[str, bytes]:
        return {file.relative_to(place).as_posix(): file.read_bytes() for file in place.rglob("*.json")}

    several = [Candidate(partial(scaled, evaluator, factor), ("mnist", "scenes")) for factor in (1, 2)]
    evaluator.predictions_of(several, "test", 40)
    evaluator.predictions_of([several[0]._replace(tasks=("scenes",)), several[1]], "test")
    together = files(output / "data" / "cache" / "smoke" / "evaluations")
    monkeypatch.setenv("TSV_OUTPUT", str(tmp_path / "alone"))
    for candidate in several:
        evaluator.predictions(candidate.make(), candidate.tasks, "test", 40)
    evaluator.predictions(several[0].make(), ["scenes"], "test")
    evaluator.predictions(several[1].make(), ["mnist", "scenes"], "test")
    assert files(tmp_path / "alone" / "data" / "cache" / "smoke" / "evaluations") == together
    assert len(together) == 4


@pytest.mark.parametrize(("together", "passes"), [(0, 4), (1, 4), (2, 2), (3, 2), (4, 1)])
def test_candidates_are_made_when_there_is_room_for_them(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, together: int, passes: int
) -> None:
    size = sum(tensor.nbytes for tensor in evaluator.base.values())
    monkeypatch.setattr(evaluation, "CANDIDATES", 2 * together * size)
    made, measured, predict = [], [], Evaluator.predict

    def make(factor: float) -> dict[str, torch.Tensor]:
        made.append(factor)
        return scaled(evaluator, factor)

    def noted(self, states, split, wanted):
        measured.append(len(made))
        return predict(self, states, split, wanted)

    monkeypatch.setattr(Evaluator, "predict", noted)
    lazily = (Candidate(partial(make, factor), ("mnist",)) for factor in (1.0, 2.0, 3.0, 4.0))
    assert len(evaluator.predictions_of(lazily, "test")) == 4
    assert len(measured) == passes
    assert measured == [min(4, max(1, together) * (number + 1)) for number in range(passes)]


def test_equal_candidates_are_predicted_once(evaluator: Evaluator, reads: list[tuple[int, int]]) -> None:
    tasks = (("mnist",), ("mnist", "scenes"), ("scenes",))
    found = evaluator.predictions_of([Candidate(lambda: evaluator.base, some) for some in tasks], "test", 64)
    assert [tuple(each) for each in found] == list(tasks)
    assert len(reads) == 2


def test_few_batches_are_shared_out_by_candidates(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = [Candidate(partial(scaled, evaluator, factor), ("mnist",)) for factor in (1, 2, 3)]
    monkeypatch.setattr(evaluation, "workers", lambda: 8)
    found = evaluator.predictions_of(candidates, "test")
    monkeypatch.setattr(Evaluator, "folder", lambda self, weights: Path(os.environ["TSV_OUTPUT"]) / "alone" / weights)
    alone = [evaluator.predictions(each.make(), ["mnist"], "test") for each in candidates]
    assert all(one["mnist"].equal(other["mnist"]) for one, other in zip(found, alone, strict=True))


def test_a_unit_refuses_an_encoder_that_is_not_the_one_who_asked_has(evaluator: Evaluator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give all the same device"):
        evaluation.predict(SMOKE, "smoke-b32", "cuda float16", tmp_path / "state", "test", {}, tmp_path)


def test_normalised_accuracy_is_a_mean_of_ratios() -> None:
    assert normalised_accuracy({"a": 0.2, "b": 0.9}, {"a": 0.4, "b": 0.9}) == pytest.approx(0.75)


def test_normalised_accuracy_names_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="same tasks"):
        normalised_accuracy({"a": 1.0}, {"a": 1.0, "b": 1.0})
    with pytest.raises(InputError, match="task b: its expert has accuracy 0"):
        normalised_accuracy({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 0.0})
