# SPDX-License-Identifier: MIT
"""The notebooks are assignments that nbgrader understands, and what students get stops only where they are to write."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import matplotlib.pyplot as plt
import nbformat
import pytest

from compendium import paths
from compendium.course import assignments
from compendium.course.trying import Wrong

from .reference import ASSIGNMENTS, REFERENCES, notebook

KEYS = {"grade", "grade_id", "locked", "schema_version", "solution", "task"}
CALLED = {"low_rank", "kept_rank", "tsv_m"}
"""Exercises whose function the solution of another one calls."""
SOLUTION, HIDDEN = ("SOLUTION", "raise NotImplementedError()"), ("HIDDEN TESTS", "")

each_assignment = pytest.mark.parametrize("assignment", ASSIGNMENTS)


def cells(assignment: str) -> list[Any]:
    found: list[Any] = jupytext.read(notebook(assignment)).cells
    return found


def metadata(cell: Any) -> dict[str, Any]:
    found: dict[str, Any] = cell.metadata.get("nbgrader", {})
    return found


def without(source: str, region: str, stub: str) -> str:
    """Return the source of a cell with a stub in the place of every region of a kind, as nbgrader makes it."""
    pattern = rf"^([ ]*)### BEGIN {region}\n(?:.*\n)*?[ ]*### END {region}$"
    return re.sub(pattern, rf"\g<1>{stub}", source, flags=re.MULTILINE)


def student(assignment: str) -> list[str]:
    """Return the code cells that a student gets."""
    codes = [cell.source for cell in cells(assignment) if cell.cell_type == "code"]
    return [without(without(source, *SOLUTION), *HIDDEN) for source in codes]


def told_points(assignment: str) -> int:
    found = re.search(r"^\| Points \| (\d+): (.*) \|$", cells(assignment)[0].source, re.MULTILINE)
    assert found
    assert sum(map(int, re.findall(r" (\d+)(?:,|$)", found[2]))) == int(found[1])
    return int(found[1])


@each_assignment
def test_the_first_cell_tells_what_a_student_wants_to_know(assignment: str) -> None:
    first = cells(assignment)[0].source
    assert first.startswith(f"# Assignment {assignment[1:]}: ")
    for row in ("You learn", "You need", "Points", "Time", "Paper item"):
        assert f"\n| {row} | " in first


@each_assignment
def test_metadata_are_those_of_nbgrader(assignment: str) -> None:
    marked = [cell for cell in cells(assignment) if metadata(cell)]
    ids = [metadata(cell)["grade_id"] for cell in marked]
    assert len(set(ids)) == len(ids)
    for cell in marked:
        found = metadata(cell)
        assert found.keys() == KEYS | ({"points"} if found["grade"] else set())
        assert found["schema_version"] == 3
        assert found["locked"] != found["solution"]
        assert re.fullmatch(r"[a-z0-9_]+", found["grade_id"])
        if cell.cell_type == "markdown":
            assert found["grade"]
            assert found["solution"]


@each_assignment
def test_points_add_up_to_what_is_told(assignment: str) -> None:
    points = [metadata(cell)["points"] for cell in cells(assignment) if metadata(cell).get("grade")]
    assert sum(points) == told_points(assignment) == 20
    headings = re.findall(r"\((\d+) points\)$", "\n".join(cell.source for cell in cells(assignment)), re.MULTILINE)
    assert [int(number) for number in headings] == [number for number in points if number]


@each_assignment
def test_regions_are_in_cells_of_their_kind(assignment: str) -> None:
    for cell in cells(assignment):
        found, source = metadata(cell), cell.source
        assert ("### BEGIN SOLUTION" in source) == bool(found.get("solution"))
        is_check = bool(found.get("grade") and not found.get("solution"))
        assert ("### BEGIN HIDDEN TESTS" in source) == is_check
        for region in ("SOLUTION", "HIDDEN TESTS"):
            assert source.count(f"### BEGIN {region}") == source.count(f"### END {region}")


@each_assignment
def test_every_exercise_is_checked_in_sight_and_out_of_it(assignment: str) -> None:
    checks = {metadata(c)["grade_id"]: c.source for c in cells(assignment) if metadata(c).get("locked")}
    for exercise in REFERENCES[assignment]:
        call = f"{assignment}.check_{exercise}({exercise}"
        visible, hidden = f"{call})", f"{call}, seed=COURSE_SEED)"
        expected = f"{visible}\n### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS"
        assert checks[f"check_{exercise}"] == expected
    assert re.findall(r"^COURSE_SEED = (\d+)", checks["seed"], re.MULTILINE)[0] == "0"


@each_assignment
def test_no_solution_is_left_for_students(assignment: str) -> None:
    released = "\n".join(student(assignment))
    for cell in cells(assignment):
        for body in re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n((?:.*\n)*?)[ ]*### END", cell.source):
            for line in filter(None, map(str.strip, body.splitlines())):
                assert line not in released


@each_assignment
def test_lines_are_short_but_for_those_of_nbgrader(assignment: str) -> None:
    for line in notebook(assignment).read_text(encoding="utf-8").splitlines():
        # Rows of a table cannot be broken.
        assert len(line) <= 120 or line.startswith(("# %% ", "# | ")), line


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    yield
    # Cells that stop leave open what they were about to show.
    plt.close("all")


def executed(codes: list[str]) -> list[type[BaseException]]:
    """Run code cells, one after the other whatever becomes of each, and return what stopped them."""
    shared: dict[str, object] = {}
    stopped: list[type[BaseException]] = []
    for number, source in enumerate(codes):
        try:
            exec(compile(source, f"cell {number}", "exec"), shared)
        except Exception as error:
            stopped.append(type(error))
    return stopped


def smoke(codes: list[str]) -> list[str]:
    return [
        source.replace('profile = "mini"', 'profile = "smoke"').replace("images = 100", "images = 96")
        for source in codes
    ]


@pytest.mark.usefixtures("headless")
@each_assignment
def test_with_solutions_every_cell_runs_and_without_only_what_is_to_be_written_stops(
    assignment: str, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    assert executed(smoke([cell.source for cell in cells(assignment) if cell.cell_type == "code"])) == []
    stopped = executed(smoke(student(assignment)))
    assert set(stopped) == {NotImplementedError}
    assert len(stopped) >= len(REFERENCES[assignment])


@each_assignment
def test_graded_cells_need_no_expert(assignment: str) -> None:
    """Imports, seed, solutions and checks alone run, and a wrong answer stops its own check and no other."""
    marked = [cell.source for cell in cells(assignment) if cell.cell_type == "code" and metadata(cell)]
    assert executed(marked) == []
    for exercise in REFERENCES[assignment]:
        spoilt = [
            re.sub(rf"^def {exercise}\(", f"{exercise} = lambda *_: 'wrong'\ndef _(", x, flags=re.M) for x in marked
        ]
        stopped = executed(spoilt)
        assert set(stopped) == {Wrong}
        assert len(stopped) == (2 if exercise in CALLED else 1)


@each_assignment
def test_a_copy_beside_the_chapters_is_no_pair(assignment: str, tmp_path: Path) -> None:
    # Pairs are made in the folder of notebooks, into which students put what they are given.
    shutil.copy(paths.ROOT / "notebooks" / "jupytext.toml", tmp_path)
    manager = jupytext.TextFileContentsManager(root_dir=str(tmp_path))
    for name, copy in (
        ("mine", assignments.source(notebook(assignment).stem)),
        ("chapter", nbformat.v4.new_notebook()),
    ):
        manager.save({"type": "notebook", "format": "json", "content": copy}, f"{name}.ipynb")
    assert sorted(path.name for path in tmp_path.glob("*.py")) == ["chapter.py"]
