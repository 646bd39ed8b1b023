# SPDX-License-Identifier: MIT
"""Sources of assignments have the seed of a class, and what is shown of them tells neither it nor a solution."""

import pytest

from compendium.course import assignments
from tsvlib.errors import InputError

SEED = 918273645
NAMES = assignments.names()


def texts(notebook: assignments.NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells)


def test_all_assignments_of_the_folder_are_known_in_order() -> None:
    numbers = [name.partition("_")[0] for name in NAMES]
    assert numbers == [f"a{number}" for number in range(len(NAMES))]
    assert len(NAMES) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_of_a_class_takes_the_place_of_the_known_one_everywhere(name: str) -> None:
    public, own = assignments.source(name), assignments.source(name, SEED)
    known = assignments.seed_of(public)
    assert str(known) in texts(public)
    assert assignments.seed_of(own) == SEED
    assert str(known) not in texts(own)
    assert texts(own).replace(str(SEED), str(known)) == texts(public)


@pytest.mark.parametrize("name", NAMES)
def test_without_hidden_tests_nothing_tells_the_seed_and_nothing_else_is_missing(name: str) -> None:
    own = assignments.source(name, SEED)
    shown = assignments.without_hidden_tests(own)
    assert str(SEED) not in texts(shown)
    assert "HIDDEN" not in texts(shown)
    assert "seed=COURSE_SEED" not in texts(shown)
    for cell, before in zip(shown.cells, own.cells, strict=True):
        kept = before.source.partition("\n### BEGIN HIDDEN")[0]
        assert cell.source == kept
    assert assignments.seed_of(own) == SEED


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_the_same_every_time(name: str) -> None:
    assert assignments.source(name) == assignments.source(name)


def test_each_assignment_has_twenty_points_and_a_written_answer() -> None:
    overview = assignments.overview()
    assert overview.groupby("assignment")["points"].sum().to_dict() == dict.fromkeys(NAMES, 20)
    assert set(overview[overview["marked by"] == "hand"]["assignment"]) == set(NAMES)


def test_answers_are_put_into_a_copy() -> None:
    source = assignments.source(NAMES[0])
    found = assignments.answered(source, {"angle": "angle = 1"})
    assert assignments.marked(found)["angle"].source == "angle = 1"
    assert source == assignments.source(NAMES[0])


def test_an_assignment_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match=r"^a9_none: there is no such assignment; choose one of a0_two_tasks, "):
        assignments.source("a9_none")
