# SPDX-License-Identifier: MIT
"""A class from its releases to its marks, by nbgrader itself, with submissions of every kind."""

import csv
import sqlite3
from pathlib import Path

import pytest

from compendium import commands, paths
from compendium.course import assignments, building, grading, submissions
from compendium.course.classroom import Classroom
from compendium.course.supervision import Limits
from tsvlib.errors import InputError

SEED = 918273645
A0 = "a0_two_tasks"
TESTED = ["angle", "task_matrix", "procrustes", "sti_of_two"]
FULL = {"angle": 3, "task_matrix": 3, "procrustes": 5, "sti_of_two": 5}
# A kernel may have to start beside other work.
LIMITS = Limits(cell_seconds=25, seconds=600)


@pytest.fixture(scope="module")
def classroom(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    """A class for which all assignments have been generated."""
    found = Classroom(tmp_path_factory.mktemp("class"))
    for name in assignments.names():
        found.generate(name, SEED)
    return found


@pytest.fixture
def alone(tmp_path: Path) -> Classroom:
    """A class with the first assignment alone."""
    found = Classroom(tmp_path / "class")
    found.generate(A0, SEED)
    return found


def solutions(name: str) -> dict[str, str]:
    """Return the sources of the cells in which students write, with solutions."""
    cells = assignments.marked(assignments.source(name))
    return {grade_id: cell.source for grade_id, cell in cells.items() if assignments.known(cell)["solution"]}


@pytest.mark.parametrize("name", assignments.names())
def test_a_release_tells_no_solution_and_no_seed_and_stops_where_one_is_to_write(
    classroom: Classroom, name: str
) -> None:
    text = classroom.file("release", name).read_text(encoding="utf-8")
    release = classroom.release(name)
    for word in ("SOLUTION", "HIDDEN", str(SEED), "seed=COURSE_SEED"):
        assert word not in text
    for source in solutions(name).values():
        body = source.partition("### BEGIN SOLUTION\n")[2].partition("### END SOLUTION")[0]
        assert body.strip()
        for line in filter(None, map(str.strip, body.splitlines())):
            assert line not in "\n".join(cell.source for cell in release.cells)
    for grade_id, cell in assignments.marked(release).items():
        if grade_id in solutions(name):
            stub = "YOUR ANSWER HERE" if cell.cell_type == "markdown" else "raise NotImplementedError()"
            assert stub in cell.source
        assert "checksum" in assignments.known(cell)
    assert str(SEED) in classroom.file("source", name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", assignments.names())
def test_marked_cells_of_a_release_stop_only_where_something_is_to_be_written(classroom: Classroom, name: str) -> None:
    known: dict[str, object] = {}
    stopped = {}
    for grade_id, cell in assignments.marked(classroom.release(name)).items():
        if cell.cell_type == "code":
            try:
                exec(cell.source, known)
            except Exception as error:
                stopped[grade_id] = type(error)
    checks = assignments.overview().query("assignment == @name and `marked by` == 'tests'")["exercise"]
    assert stopped == {f"check_{exercise}": NotImplementedError for exercise in checks}


def test_a_class_keeps_its_seed_until_it_is_given_another(alone: Classroom) -> None:
    alone.generate(A0)
    assert assignments.seed_of(alone.source(A0)) == SEED
    alone.generate(A0, 4)
    assert assignments.seed_of(alone.source(A0)) == 4


def test_nbgrader_s_own_reason_is_told(alone: Classroom) -> None:
    source = alone.file("source", A0)
    source.write_text(source.read_text(encoding="utf-8").replace("### END HIDDEN TESTS", "###"), encoding="utf-8")
    with pytest.raises(InputError, match="no student release: nbgrader says 'RuntimeError: No end hidden tests"):
        alone._done(f"{A0}: no student release", lambda api: api.generate_assignment(A0))


STOPPED = "def sti_of_two(c, d, s1, s2):\n    {}\n"
KINDS: dict[str, dict[str, str]] = {
    "right": {},
    "subtly_wrong": {
        "procrustes": "def procrustes(x):\n    q, r = torch.linalg.qr(x)\n    return q * r.diagonal().sign()"
    },
    "ours": {"procrustes": "from tsvlib.linalg import orthogonalise as procrustes"},
    "crashing": {"sti_of_two": STOPPED.format("raise ValueError('no idea')")},
    "exiting": {"task_matrix": "import os\ndef task_matrix(s, u, v):\n    os._exit(0)"},
    "endless": {"task_matrix": "def task_matrix(s, u, v):\n    while True:\n        pass"},
    "memory_hungry": {"sti_of_two": STOPPED.format("return sum(torch.ones(10**10))")},
    "edited_test": {"angle": "def angle(a, b):\n    return 45.0", "check_angle": "print('all right')"},
    "syntax_error": {"angle": "def angle(a, b)\n    return 1"},
    "only_known_inputs": {},
    "deleted_cells": {},
    "warning": {"angle": "import warnings\nwarnings.warn('careful')\n" + solutions(A0)["angle"]},
}
LOST = {
    "subtly_wrong": {"procrustes"},
    "ours": {"procrustes"},
    "crashing": {"sti_of_two"},
    "exiting": {"task_matrix"},
    "endless": {"task_matrix"},
    "memory_hungry": {"sti_of_two"},
    "edited_test": {"angle"},
    "syntax_error": {"angle"},
    "only_known_inputs": {"angle"},
    "deleted_cells": {"procrustes"},
    "no_notebook": set(TESTED),
    "unanswered": set(TESTED),
}
SAID = {
    "subtly_wrong": "Gram-Schmidt (QR)",
    "ours": "it calls tsvlib.linalg.orthogonalise; write this step yourself",
    "crashing": "stopped with ValueError: no idea",
    "exiting": "Python itself ended in this cell",
    "endless": "the cell took too long and was ended",
    "memory_hungry": "stopped with RuntimeError",
    "edited_test": "The cell `check_angle` had been changed",
    "deleted_cells": "The cell `check_procrustes` was missing",
    "no_notebook": "this is not a notebook",
}
# Remembers the answers to the inputs that students see, and knows nothing else.
REMEMBERED = """
_seen = []
def angle(a, b):
    _seen.append(1)
    if len(_seen) > 6:
        return 1.0
    cosine = float(a @ b / (a.norm() * b.norm()))
    return math.degrees(math.acos(min(1.0, abs(cosine))))
"""


def hand_in_all(classroom: Classroom) -> None:
    release, right = classroom.release(A0), solutions(A0)
    for student, answers in KINDS.items():
        given = right | answers | ({"angle": REMEMBERED} if student == "only_known_inputs" else {})
        submissions.hand_in(classroom.folder, student, A0, assignments.answered(release, given))
    submissions.hand_in(classroom.folder, "unanswered", A0, release)
    notebook = submissions.read(classroom.file("submitted", A0, "deleted_cells"))
    for grade_id in ("procrustes", "check_procrustes", "seed"):
        notebook.cells.remove(assignments.marked(notebook)[grade_id])
    submissions.hand_in(classroom.folder, "deleted_cells", A0, notebook)
    letter = classroom.file("submitted", A0, "no_notebook")
    letter.parent.mkdir(parents=True)
    letter.write_text("Dear instructor, ...", encoding="utf-8")


@pytest.mark.slow
def test_each_submission_has_the_marks_that_it_deserves(classroom: Classroom) -> None:
    released = classroom.api().release_assignment(A0)
    assert released["success"], released
    assert (classroom.folder / "exchange" / "tsv" / "outbound" / A0 / f"{A0}.ipynb").is_file()
    hand_in_all(classroom)
    told: list[str] = []
    marked = {each.student: each for each in grading.grade(classroom, A0, limits=LIMITS, tell=told.append)}
    assert marked.keys() == KINDS.keys() | LOST.keys()
    assert not [each for each in marked.values() if each.trouble]
    assert len(told) >= len(marked)

    marks = classroom.marks(A0).set_index(["student", "exercise"])
    for student in marked:
        points = {exercise: marks.loc[(student, exercise), "points"] for exercise in TESTED}
        lost = LOST.get(student, set())
        assert points == {exercise: 0 if exercise in lost else FULL[exercise] for exercise in TESTED}, student
        # A written answer waits for somebody to read it, unless there is none.
        assert marks.loc[(student, "why_not_gram_schmidt"), "by hand"] == (student not in {"no_notebook", "unanswered"})
    for student, sentence in SAID.items():
        page = classroom.file("feedback", A0, student, "html").read_text(encoding="utf-8")
        assert sentence.replace("`", "") in page.replace("<code>", "").replace("</code>", ""), student
        assert str(SEED) not in page
        # Of a wrong answer, neither the code of the checks, in which answers stand, nor where this machine has it.
        assert ("trying.py" in page) == (student in {"deleted_cells", "no_notebook"})
    of_grades(classroom, {student: 16 - sum(FULL[each] for each in LOST.get(student, set())) for student in marked})
    points_by_hand_stay(classroom)


def of_grades(classroom: Classroom, wanted: dict[str, int]) -> None:
    """Assert that what is exported, and the grade book as SQLite reads it, are these points."""
    with (classroom.folder / "grades.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["assignment"] == A0]
    assert {row["student_id"]: float(row["score"]) for row in rows} == wanted
    assert {float(row["max_score"]) for row in rows} == {20}
    query = (
        "select s.student_id, sum(g.auto_score) from submitted_assignment s join assignment a on a.id = s.assignment_id"
    )
    query += " join submitted_notebook n on n.assignment_id = s.id join grade g on g.notebook_id = n.id"
    query += f" where a.name = '{A0}' group by s.student_id"
    with sqlite3.connect(classroom.folder / "gradebook.db") as book:
        found = dict(book.execute(query).fetchall())
    book.close()
    assert found == wanted


def points_by_hand_stay(classroom: Classroom) -> None:
    """Assert that marking again keeps the points that somebody gave, and adds them to what is exported."""
    with classroom.gradebook() as book:
        grade = book.find_grade("why_not_gram_schmidt", A0, A0, "right")
        grade.manual_score, grade.needs_manual_grade = 3.5, False
        book.db.commit()
    grading.grade(classroom, A0, ["right"], limits=LIMITS)
    with (classroom.folder / "grades.csv").open(encoding="utf-8") as file:
        scores = {row["student_id"]: row["score"] for row in csv.DictReader(file) if row["assignment"] == A0}
    assert float(scores["right"]) == 19.5


@pytest.mark.slow
@pytest.mark.parametrize("name", assignments.names()[1:])
def test_reference_solutions_of_a_class_earn_full_marks_and_empty_ones_nothing(classroom: Classroom, name: str) -> None:
    release = classroom.release(name)
    submissions.hand_in(classroom.folder, "ada", name, assignments.answered(release, solutions(name)))
    submissions.hand_in(classroom.folder, "emil", name, release)
    marked = grading.grade(classroom, name, limits=LIMITS)
    assert [(each.student, each.remarks, each.trouble) for each in marked] == [("ada", [], ""), ("emil", [], "")]
    marks = classroom.marks(name)
    tested = marks[~marks["exercise"].isin(by_hand(name))]
    assert (tested["points"] == tested["most"]).tolist() == (tested["student"] == "ada").tolist()
    assert tested[tested["student"] == "emil"]["points"].sum() == 0


def by_hand(name: str) -> set[str]:
    overview = assignments.overview()
    return set(overview[(overview["assignment"] == name) & (overview["marked by"] == "hand")]["exercise"])


@pytest.mark.slow
def test_all_that_a_class_needs_is_built_and_executed(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    said: list[str] = []
    building.build(tmp_path / "class", SEED, "smoke", said.append)
    classroom = Classroom(tmp_path / "class")
    assert len(said) == 2 * len(assignments.names()) + 1
    for name in assignments.names():
        solution = submissions.read(classroom.file("solution", name))
        assert str(SEED) not in classroom.file("solution", name).read_text(encoding="utf-8")
        assert any(cell.get("outputs") for cell in solution.cells)
    assert "Gram-Schmidt (QR)" in (classroom.folder / "guide.html").read_text(encoding="utf-8")
    assert len(list((classroom.folder / "example" / "feedback").glob(f"*/{A0}/{A0}.html"))) == 5
    assert not list((paths.ROOT / "notebooks" / "course").glob("*.ipynb"))


def test_the_command_line_tells_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["grade", A0, "--class", str(tmp_path)]) == 1
    assert "the file is missing; run `make course` with this CLASS first." in capsys.readouterr().err
    assert commands.main(["course", "--seed", "0"]) == 2
    assert commands.main(["grade"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_experts_a_sentence_says_so(tmp_path: Path, output: Path) -> None:
    source = assignments.source("a1_task_vectors")
    with pytest.raises(InputError, match="the file is missing"):
        building.solved(source, "a1_task_vectors", "smoke")
