# SPDX-License-Identifier: MIT
"""Right answers pass on every seed, and each usual mistake is called by its name."""

import importlib

import pytest

from compendium.course.trying import Wrong

from .mutants import EXERCISES, MUTANTS
from .reference import REFERENCES, Function

SEEDS = range(5)
FAMILIES = [
    pytest.param(assignment, exercise, words, mutant, id=f"{assignment}-{exercise}-{number}")
    for assignment, exercise in EXERCISES
    for number, (words, mutant) in enumerate(MUTANTS[assignment][exercise])
]


def check_of(assignment: str, exercise: str) -> Function:
    check: Function = getattr(importlib.import_module(f"compendium.course.checks.{assignment}"), f"check_{exercise}")
    return check


@pytest.mark.parametrize(("assignment", "exercise"), EXERCISES)
def test_the_right_answer_passes(assignment: str, exercise: str) -> None:
    for seed in SEEDS:
        assert check_of(assignment, exercise)(REFERENCES[assignment][exercise], seed=seed) is None


@pytest.mark.parametrize(("assignment", "exercise", "words", "mutant"), FAMILIES)
def test_a_mistake_is_called_by_its_name(assignment: str, exercise: str, words: str, mutant: Function) -> None:
    for seed in SEEDS:
        with pytest.raises(Wrong) as caught:
            check_of(assignment, exercise)(mutant, seed=seed)
        sentence = str(caught.value)
        assert words in sentence
        assert sentence.startswith(f"`{exercise}`, tried on ")
        assert sentence.endswith(".")
        assert "\n" not in sentence


@pytest.mark.parametrize(("assignment", "exercise"), EXERCISES)
def test_what_is_not_written_yet_is_no_mistake(assignment: str, exercise: str) -> None:
    def unwritten(*arguments: object) -> object:
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        check_of(assignment, exercise)(unwritten)


@pytest.mark.parametrize(("assignment", "exercise"), EXERCISES)
def test_every_exercise_has_at_least_four_mutants(assignment: str, exercise: str) -> None:
    assert len(MUTANTS[assignment][exercise]) >= 4
    assert MUTANTS[assignment].keys() == REFERENCES[assignment].keys()
