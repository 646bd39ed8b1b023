# SPDX-License-Identifier: MIT
"""The folder of a class, which is a course of nbgrader: sources, what students get and hand in, marks, feedback.

Its grade book is ``gradebook.db``, a file of SQLite. ``nbgrader`` started in the folder works on the same class.
"""

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.plugins import CsvExportPlugin
from nbgrader.preprocessors import AssignLatePenalties, CheckCellMetadata, GetGrades, LimitOutput, SaveAutoGrades
from traitlets.config import Config

from compendium.course import assignments, stops
from tsvlib.errors import InputError
from tsvlib.files import replacing

Step = Callable[[NotebookNode, Any], tuple[NotebookNode, Any]]
"""What is done to a notebook on its way, as nbgrader wants it told."""

COURSE = "tsv"

_LOG = logging.getLogger("nbgrader.class")
_LOG.propagate = False
_LOG.addHandler(logging.NullHandler())

_REASON = re.compile(r"^\s*([\w.]+(?:Error|Exception|Entry|Warning): .*)$", re.MULTILINE)

SETTINGS = f'''# What nbgrader, started in this folder, is to know of this class. Mark submissions by `make grade`,
# which runs each apart from the others, without network and within limits: `nbgrader autograde` does nothing of that.
import pathlib

c = get_config()
c.CourseDirectory.course_id = "{COURSE}"
c.CourseDirectory.root = str(pathlib.Path(__file__).parent.resolve())
c.Exchange.root = str(pathlib.Path(__file__).parent.resolve() / "exchange")
'''


class Classroom:
    """One class, in a folder that is made where there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        # To make a grade book, nbgrader starts `alembic` by its name.
        programs = str(Path(sys.executable).parent)
        if programs not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] = os.pathsep.join([programs, os.environ["PATH"]])

    def generate(self, name: str, seed: int | None = None) -> None:
        """Write the source of an assignment and make of it what students get.

        The seed is that of the class; without one it stays what it was, or is that of the checkout at first.

        Raises:
            InputError: nbgrader refuses, as it does for cells that come or go when there are submissions.
        """
        place = self.file("source", name)
        if seed is None and place.is_file():
            seed = assignments.seed_of(self.source(name))
        # Where nbgrader hands out and collects, which it wants to be there.
        (self.folder / "exchange").mkdir(parents=True, exist_ok=True)
        _write(self.folder / "nbgrader_config.py", SETTINGS)
        _write(place, _text(assignments.source(name, seed)))
        self._done(f"{name}: no student release", lambda api: api.generate_assignment(name))

    def source(self, name: str) -> NotebookNode:
        """Return an assignment with solutions and the hidden tests of this class."""
        return self._notebook("source", name)

    def release(self, name: str) -> NotebookNode:
        """Return an assignment as students get it."""
        return self._notebook("release", name)

    def file(self, step: str, name: str, student: str = ".", suffix: str = "ipynb") -> Path:
        """Return the file of an assignment in one of nbgrader's folders, of a student where it has such."""
        return self.folder / step / student / name / f"{name}.{suffix}"

    def students(self, name: str) -> list[str]:
        """Return who has handed in something for an assignment."""
        return sorted(place.parent.name for place in self.folder.glob(f"submitted/*/{name}") if place.is_dir())

    def keep_solution(self, name: str, executed: NotebookNode) -> Path:
        """Write an executed solution, without the tests that would tell the seed of the class, and return its file."""
        place = self.file("solution", name)
        _write(place, _text(assignments.without_hidden_tests(executed)))
        return place

    def autograde(self, name: str, student: str, submitted: Path, execute: Step) -> None:
        """Let nbgrader mark what lies below ``submitted``, where ``execute`` runs the cells, and keep the marks."""
        c = self._config()
        c.CourseDirectory.submitted_directory = str(submitted)
        c.Autograde.autograde_preprocessors = [
            execute,
            LimitOutput,
            SaveAutoGrades,
            AssignLatePenalties,
            CheckCellMetadata,
        ]
        with warnings.catch_warnings():
            # nbgrader looks for a submission while it makes one, which is of no consequence.
            warnings.filterwarnings("ignore", r"Object of type <\w+> not in session")
            self._done(f"{name} of {student}: not marked", lambda api: api.autograde(name, student), c)

    def feedback(self, name: str, student: str) -> Path:
        """Write what a student gets back, as a page without the hidden tests, and return its file."""
        c = self._config()
        c.GenerateFeedback.preprocessors = [GetGrades, _shown, CSSHTMLHeaderPreprocessor]
        self._done(f"{name} of {student}: no feedback", lambda api: api.generate_feedback(name, student), c)
        return self.file("feedback", name, student, "html")

    def marks(self, name: str) -> pd.DataFrame:
        """Return the points of all submissions, a row for each student and exercise; NaN is still to be marked."""
        with self.gradebook() as book:
            grades = [
                (submission.student_id, grade.name, grade.score, grade.max_score, _is_open(grade))
                for submission in book.assignment_submissions(name)
                for notebook in submission.notebooks
                for grade in notebook.grades
                if grade.max_score
            ]
        found = pd.DataFrame(grades, columns=["student", "exercise", "points", "most", "by hand"])
        found["exercise"] = found["exercise"].map(assignments.exercise)
        return found.assign(points=found["points"].astype(float).mask(found["by hand"]))

    def export(self) -> Path:
        """Write the points of all assignments and students as nbgrader exports them, and return the file."""
        place = self.folder / "grades.csv"
        with self.gradebook() as book, replacing(place) as draft:
            CsvExportPlugin(to=str(draft)).export(book)
        return place

    @contextlib.contextmanager
    def gradebook(self) -> Iterator[Gradebook]:
        """Open the grade book of the class for the block."""
        with Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}", COURSE) as book:
            yield book

    def api(self, config: Config | None = None) -> NbGraderAPI:
        """Return nbgrader's own door to this class, which says nothing but in what its functions return."""
        return NbGraderAPI(config=config or self._config(), log=_LOG)

    def _config(self) -> Config:
        c = Config()
        c.CourseDirectory.root = str(self.folder)
        c.CourseDirectory.course_id = COURSE
        c.Exchange.root = str(self.folder / "exchange")
        return c

    def _notebook(self, step: str, name: str) -> NotebookNode:
        place = self.file(step, name)
        if not place.is_file():
            raise InputError(f"{place}: the file is missing; run `make course` with this CLASS first.")
        notebook: NotebookNode = nbformat.read(place, as_version=4)  # type: ignore[no-untyped-call]
        return notebook

    def _done(self, trouble: str, step: Callable[[NbGraderAPI], dict[str, Any]], config: Config | None = None) -> None:
        """Let nbgrader do a step, wholly or not at all; InputError with its own reason when it does not."""
        with stops.waiting():
            result = step(self.api(config))
        if not result["success"]:
            told = "\n".join(filter(None, (result.get("error"), result.get("log"))))
            reasons = [each for each in _REASON.findall(told) if not each.startswith("nbgrader.")]
            reason = (reasons or ["no reason given"])[-1]
            raise InputError(f"{trouble}: nbgrader says {reason!r}; see to that and run the command again.")


def _is_open(grade: Any) -> bool:
    """Tell whether somebody has still to read an answer and to give its points."""
    return bool(grade.needs_manual_grade) and grade.manual_score is None


def _shown(notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
    return assignments.without_hidden_tests(notebook), resources


def _text(notebook: NotebookNode) -> str:
    return f"{nbformat.writes(notebook)}\n"  # type: ignore[no-untyped-call]


def _write(place: Path, text: str) -> None:
    with replacing(place) as draft:
        draft.write_text(text, encoding="utf-8")
