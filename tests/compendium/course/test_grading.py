# SPDX-License-Identifier: MIT
"""What is run of a submission, and what nbgrader is given of it."""

from typing import Any

import nbformat
import pytest
from nbgrader.utils import determine_grade

from compendium.course import assignments, grading
from compendium.course.classroom import Classroom
from tsvlib.errors import InputError

NAME = "a1_task_vectors"
SOURCE = assignments.source(NAME, 7)
RELEASE = assignments.without_hidden_tests(SOURCE)


def test_of_cells_as_they_were_handed_out_only_what_they_define_is_run() -> None:
    cells = grading.to_run(SOURCE, RELEASE)
    by_number = {cell["number"]: cell["source"] for cell in cells}
    for number, cell in enumerate(SOURCE.cells):
        if cell.cell_type == "code" and assignments.known(cell):
            assert by_number[number] == cell.source
    run = "\n".join(by_number.values())
    assert "def length(model):" in run
    assert "plt.show()" not in run
    assert "profiles.load" not in run
    compile(run, "all", "exec")


def test_what_a_student_wrote_anywhere_is_run() -> None:
    mine = assignments.source(NAME)
    mine.cells.insert(3, nbformat.v4.new_code_cell("def helper(x):\n    return x\nprint(helper(1))"))
    shown = next(cell for cell in mine.cells if "plt.show()" in cell.source)
    shown.source += "\nhelped = helper(2)"
    sources = [cell["source"] for cell in grading.to_run(mine, RELEASE)]
    assert mine.cells[3].source in sources
    assert shown.source in sources


def test_checks_are_those_that_give_points_so_that_the_seed_is_told_to_every_kernel() -> None:
    checks = {cell["source"] for cell in grading.to_run(SOURCE, RELEASE) if cell["check"]}
    assert len(checks) == 5
    assert all(".check_" in source for source in checks)


def ran(number: int, status: str = "ok", *outputs: dict[str, Any]) -> Any:
    return {"number": number, "status": status, "outputs": list(outputs)}


def stream(name: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": "careful"}


ERROR = {"output_type": "error", "ename": "Wrong", "evalue": "it is wrong.", "traceback": ["Wrong"]}
PICTURE = {
    "output_type": "display_data",
    "data": {"text/plain": "a", "text/html": "<script>", "application/javascript": "alert()"},
    "metadata": {},
}


@pytest.mark.parametrize(
    ("results", "points", "remarks"),
    [
        ([ran(0)], 3, []),
        ([ran(0, "ok", stream("stdout"))], 3, []),
        ([ran(0, "ok", stream("stderr"))], 3, []),
        ([ran(0, "error", ERROR)], 0, []),
        ([ran(0, "error")], 0, []),
        ([ran(0, "too long", stream("stdout"))], 0, ["`check_x`: the cell took too long"]),
        ([ran(0, "died")], 0, ["`check_x`: Python itself ended in this cell"]),
        ([], 0, ["`check_x`: the cell was not reached"]),
        ([ran(1)], 0, ["`check_x`: the cell was not reached"]),
    ],
)
def test_only_what_succeeded_gives_points(results: list[Any], points: int, remarks: list[str]) -> None:
    metadata = {"nbgrader": {"grade": True, "grade_id": "check_x", "points": 3, "locked": True, "solution": False}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("check(x)", metadata=metadata)])
    said = grading.put_back(notebook, results)
    assert determine_grade(notebook.cells[0]) == (points, 3)
    assert [sentence.startswith(start) for sentence, start in zip(said, remarks, strict=True)] == [True] * len(said)
    nbformat.validate(notebook)


def test_feedback_shows_text_and_pictures_and_no_programs() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x")])
    assert grading.put_back(notebook, [ran(0, "ok", PICTURE)]) == []
    assert notebook.cells[0].outputs[0].data == {"text/plain": "a"}


def test_a_class_that_is_not_there_and_one_without_submissions_are_told(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r"release/.*the file is missing; run `make course` with this CLASS first"):
        grading.grade(Classroom(tmp_path), NAME)
    place = tmp_path / "release" / NAME / f"{NAME}.ipynb"
    place.parent.mkdir(parents=True)
    nbformat.write(RELEASE, place)
    with pytest.raises(InputError, match="there is no submission like this; put them there"):
        grading.grade(Classroom(tmp_path), NAME)
    with pytest.raises(InputError, match="eve has handed in nothing"):
        grading.grade(Classroom(tmp_path), NAME, ["eve"])
