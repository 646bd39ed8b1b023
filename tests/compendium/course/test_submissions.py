# SPDX-License-Identifier: MIT
"""Whatever is handed in, a notebook comes out in which each cell that counts is there once, and a sentence says why."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compendium.course import assignments, submissions
from compendium.course.assignments import known, marked
from tsvlib.errors import InputError

NAME = "a0_two_tasks"
RELEASE = assignments.without_hidden_tests(assignments.source(NAME, 7))
IDS = list(marked(RELEASE))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / f"{NAME}.ipynb"


def handed_in(file: Path, notebook: Any) -> submissions.Received:
    file.write_text(json.dumps(notebook), encoding="utf-8")
    return submissions.received(file, RELEASE)


def as_handed_out(notebook: Any) -> None:
    """Assert that each cell that counts is there once, in its order, with what nbgrader is to know of it."""
    ids = [known(cell)["grade_id"] for cell in notebook.cells if known(cell)]
    assert sorted(ids) == sorted(IDS)
    for grade_id, cell in marked(RELEASE).items():
        mine = marked(notebook)[grade_id]
        assert (mine.metadata, mine.cell_type) == (cell.metadata, cell.cell_type)
    nbformat.validate(notebook)


def test_what_was_answered_stays_as_it_is(file: Path) -> None:
    answer = assignments.answered(RELEASE, {"angle": "def angle(a, b):\n    return 1.0"})
    found = handed_in(file, answer)
    assert found.remarks == []
    assert [cell.source for cell in found.notebook.cells] == [cell.source for cell in answer.cells]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Dear instructor, ...", "this is not a notebook"),
        (b"", "this is not a notebook"),
        (b"\xff\xfe\x00", "this is not a notebook"),
        (b"[1, 2]", "this is not a notebook"),
        (b"{}", "this is not a notebook"),
        (b'{"cells": 3, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "this is not a notebook"),
        (b'{"cells": [{}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "this is not a notebook"),
        (b"[" * 100_000, "this is not a notebook"),
        (b"x" * 10_000_001, "more than 10 MB"),
    ],
)
def test_what_cannot_be_read_counts_as_nothing_written(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    found = submissions.received(file, RELEASE)
    assert found.notebook == RELEASE
    assert len(found.remarks) == 1
    assert found.remarks[0].startswith("Nothing could be marked: ")
    assert words in found.remarks[0]
    assert str(file.parent) not in found.remarks[0]


def test_no_file_a_link_and_a_pipe_count_as_nothing_written(file: Path) -> None:
    assert "the file is missing" in submissions.received(file, RELEASE).remarks[0]
    os.mkfifo(file)
    assert "this is a pipe" in submissions.received(file, RELEASE).remarks[0]
    file.unlink()
    elsewhere = file.with_name("other.ipynb")
    elsewhere.write_text(json.dumps(RELEASE), encoding="utf-8")
    file.symlink_to(elsewhere)
    assert "this is a link" in submissions.received(file, RELEASE).remarks[0]


@pytest.mark.parametrize("grade_id", IDS)
def test_a_deleted_cell_is_put_back_where_it_was(file: Path, grade_id: str) -> None:
    notebook = copy.deepcopy(RELEASE)
    notebook.cells.remove(marked(notebook)[grade_id])
    found = handed_in(file, notebook)
    as_handed_out(found.notebook)
    assert list(marked(found.notebook)) == IDS
    assert found.remarks == [f"The cell `{grade_id}` was missing; it was put back as it was handed out."]


def test_a_changed_test_is_told_and_a_changed_answer_is_not(file: Path) -> None:
    answers = {"check_angle": "print('all right')", "angle": "def angle(a, b): ..."}
    found = handed_in(file, assignments.answered(RELEASE, answers))
    as_handed_out(found.notebook)
    assert found.remarks == ["The cell `check_angle` had been changed; it was run as it was handed out."]
    assert marked(found.notebook)["check_angle"].source == marked(RELEASE)["check_angle"].source
    assert marked(found.notebook)["angle"].source == "def angle(a, b): ..."


def test_of_copies_the_first_one_counts(file: Path) -> None:
    notebook = copy.deepcopy(RELEASE)
    notebook.cells.append(copy.deepcopy(marked(notebook)["angle"]))
    found = handed_in(file, notebook)
    as_handed_out(found.notebook)
    assert found.remarks == ["The cell `angle` was there twice; the first one counts."]


@pytest.mark.parametrize("spoilt", [None, [], "x", {"grade_id": ["angle"]}, {"grade_id": "foreign"}, {"points": 99}])
def test_what_nbgrader_is_made_to_believe_is_mended(file: Path, spoilt: object) -> None:
    notebook = copy.deepcopy(RELEASE)
    for cell in notebook.cells:
        cell.metadata["nbgrader"] = copy.deepcopy(spoilt)
    as_handed_out(handed_in(file, notebook).notebook)
    richer = copy.deepcopy(RELEASE)
    marked(richer)["check_angle"].metadata.nbgrader.update(points=99, grade=False, locked=False, solution=True)
    as_handed_out(handed_in(file, richer).notebook)


@given(st.lists(st.integers(0, len(RELEASE.cells) - 1), max_size=2 * len(RELEASE.cells)))
def test_any_cells_in_any_order_can_be_marked(tmp_path_factory: Any, chosen: list[int]) -> None:
    notebook = copy.deepcopy(RELEASE)
    notebook.cells = [copy.deepcopy(RELEASE.cells[number]) for number in chosen]
    file = tmp_path_factory.mktemp("any") / f"{NAME}.ipynb"
    as_handed_out(handed_in(file, notebook).notebook)


def test_old_notebooks_are_read(file: Path) -> None:
    old = nbformat.convert(copy.deepcopy(RELEASE), 3)  # type: ignore[no-untyped-call]
    file.write_text(nbformat.v3.writes_json(old), encoding="utf-8")
    as_handed_out(submissions.received(file, RELEASE).notebook)


def test_a_submission_is_staged_with_the_time_when_it_came(file: Path, tmp_path: Path) -> None:
    handed_in(file, RELEASE)
    file.with_name("timestamp.txt").write_text("2027-01-01 12:00:00 UTC", encoding="utf-8")
    file.with_name("torch.py").write_text("1 / 0", encoding="utf-8")
    assert submissions.staged(file, RELEASE, tmp_path / "staged") == []
    assert sorted(each.name for each in (tmp_path / "staged").iterdir()) == [file.name, "timestamp.txt"]


def test_a_submission_is_written_where_nbgrader_looks(tmp_path: Path) -> None:
    place = submissions.hand_in(tmp_path, "ada", NAME, RELEASE)
    assert place == tmp_path / "submitted" / "ada" / NAME / f"{NAME}.ipynb"
    assert submissions.read(place).cells == RELEASE.cells


def test_reading_tells_the_file(file: Path) -> None:
    file.write_text("no", encoding="utf-8")
    with pytest.raises(
        InputError, match=rf"^{file}: this is not a notebook \(NotJSONError\); hand in the \.ipynb file"
    ):
        submissions.read(file)
