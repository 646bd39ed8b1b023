# SPDX-License-Identifier: MIT
"""Accuracies are right, measured once, and never stale; the alpha search agrees with the full grid."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compendium import profiles, provenance
from compendium.study.evaluation import AlphaSearch, Evaluator, normalised_accuracy, packed, search_alpha
from compendium.worlds.mini import datasets, models
from tsvlib.errors import InputError
from tsvlib.methods import METHODS

SMOKE = profiles.load("smoke")
MODEL = models.load_base("smoke", "smoke-b32")
GRID = tuple(map(float, range(30)))


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


def test_normalised_accuracy_is_a_mean_of_ratios() -> None:
    assert normalised_accuracy({"a": 0.2, "b": 0.9}, {"a": 0.4, "b": 0.9}) == pytest.approx(0.75)


def test_normalised_accuracy_names_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="same tasks"):
        normalised_accuracy({"a": 1.0}, {"a": 1.0, "b": 1.0})
    with pytest.raises(InputError, match="task b: its expert has accuracy 0"):
        normalised_accuracy({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 0.0})


def counted(score: Callable[[float], float]) -> tuple[Callable[[float], float], list[float]]:
    asked: list[float] = []

    def ask(alpha: float) -> float:
        asked.append(alpha)
        return score(alpha)

    return ask, asked


@given(st.integers(0, 29), st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_single_peak_is_found_as_by_the_full_grid(peak: int, rise: float, fall: float) -> None:
    score, asked = counted(lambda alpha: rise * (alpha - peak) if alpha < peak else fall * (peak - alpha))
    found = search_alpha(score, GRID)
    assert found == AlphaSearch(max(GRID, key=score), 0.0, found.evaluations)
    assert found.evaluations == len(set(asked[: found.evaluations])) <= 10


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=30, max_size=30))
def test_any_scores_take_at_most_ten_evaluations_and_give_a_local_best(scores: list[float]) -> None:
    score, asked = counted(lambda alpha: scores[int(alpha)])
    found = search_alpha(score, GRID)
    assert found.evaluations == len(asked) <= 10
    assert found.score == scores[int(found.alpha)] == max(scores[int(alpha)] for alpha in asked)


@given(st.integers(0, 9), st.lists(st.floats(0, 0.1), min_size=30, max_size=30))
def test_noise_around_chance_at_large_alphas_does_not_mislead(peak: int, noise: list[float]) -> None:
    scores = [1 - abs(alpha - peak) / 10 if alpha < 12 else noise[int(alpha)] for alpha in GRID]
    assert search_alpha(lambda alpha: scores[int(alpha)], GRID).alpha == peak


@given(st.integers(0, 4), st.lists(st.floats(0, 0.1), min_size=30, max_size=30))
def test_a_model_that_only_small_alphas_leave_above_chance_is_found(peak: int, noise: list[float]) -> None:
    scores = [1 - abs(alpha - peak) / 10 if alpha < 7 else noise[int(alpha)] for alpha in GRID]
    assert search_alpha(lambda alpha: scores[int(alpha)], GRID).alpha == peak


@pytest.mark.parametrize("size", [2, 3, 5, 11])
def test_short_grids_are_searched_whole(size: int) -> None:
    for peak in range(size):
        assert search_alpha(lambda alpha, peak=peak: -abs(alpha - peak), GRID[:size]).alpha == peak


@pytest.mark.parametrize("name", METHODS)
def test_the_grid_of_every_method_is_searched_within_ten_evaluations(name: str) -> None:
    grid = METHODS[name].alphas
    for peak in grid:
        found = search_alpha(lambda alpha, peak=peak: -abs(alpha - peak), grid)
        assert found.alpha == peak
        assert found.evaluations <= 10


def test_a_single_alpha_is_not_scored() -> None:
    found = search_alpha(lambda _: pytest.fail("nothing to choose"), (1.0,))
    assert (found.alpha, found.evaluations) == (1.0, 0)
    assert math.isnan(found.score)
