# SPDX-License-Identifier: MIT
"""Marks submissions by nbgrader, each run in a process of its own, so that a bad one costs nobody else anything."""

import ast
import os
import queue
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from compendium.course import assignments, confinement, stops, submissions, supervision
from compendium.course.assignments import known
from compendium.course.classroom import Classroom
from compendium.course.running import Cell, Ran, Request
from compendium.course.supervision import Limits
from tsvlib.errors import InputError

LIMITS = Limits()

SHOWN = ("text/plain", "image/png")
"""Kinds of output that feedback shows; others could be programs."""

TOLD = {
    "too long": ("CellTimeoutError", "the cell took too long and was ended"),
    "died": ("DeadKernelError", "Python itself ended in this cell: it was told to exit, ran out of memory, or crashed"),
    "": ("NotRun", "the cell was not reached: cells before it took all the time that a submission has, or ended it"),
}
"""Name and sentence of the error that stands in a cell that ended otherwise than by itself."""


@dataclass(frozen=True)
class Marked:
    """A submission that was marked, and what was wrong with it."""

    student: str
    remarks: Sequence[str]
    trouble: str = ""
    """Why it could not be marked at all."""


def grade(
    classroom: Classroom,
    name: str,
    only: Sequence[str] = (),
    *,
    limits: Limits = LIMITS,
    at_once: int = 2,
    tell: Callable[[str], object] = lambda sentence: None,
) -> list[Marked]:
    """Mark the submissions of an assignment, write feedback and export all marks; ``tell`` hears of each at once.

    Everything is marked anew, but points that were given by hand stay.

    Raises:
        InputError: the class lacks the assignment, or nobody (of ``only`` these students) has handed in something.
    """
    students = _students(classroom, name, only)
    if missing := confinement.walls().missing:
        tell(missing)
    with tempfile.TemporaryDirectory(prefix="tsv-") as folder:
        staged = [_staged(classroom, name, student, Path(folder)) for student in students]
        hidden = [classroom.folder, Path(folder), assignments.FOLDER]
        with _side_by_side(staged, limits, hidden, at_once) as running:
            # nbgrader changes the working directory and its grade book has one writer, so this is done one by one.
            found = [_marked(classroom, name, each, run, tell) for each, run in zip(staged, running, strict=True)]
    classroom.export()
    return found


def rows(classroom: Classroom, name: str, marked: Sequence[Marked]) -> list[tuple[str, ...]]:
    """Return what is told of submissions that were marked, with headings: points, for what some were lost, and remarks.

    Points by hand that are still to be given are told apart.
    """
    found: list[tuple[str, ...]] = [("Student", "Points", "By hand", "Lost in", "Remarks")]
    for each in marked:
        own = classroom.marks(name).query("student == @each.student")
        tested, open_ = own[own["points"].notna()], own[own["points"].isna()]
        points = f"{tested['points'].sum():g} of {tested['most'].sum():g}"
        by_hand = f"{open_['most'].sum():g} to give" if len(open_) else "nothing"
        lost = ", ".join(tested[tested["points"] < tested["most"]]["exercise"])
        found.append((each.student, points, by_hand, lost, each.trouble or " ".join(each.remarks)))
    return found


def _students(classroom: Classroom, name: str, only: Sequence[str]) -> list[str]:
    """Return whose submissions are to be marked, if they are there and their class as well."""
    classroom.release(name)
    handed_in = classroom.students(name)
    if strangers := sorted(set(only) - set(handed_in)):
        raise InputError(f"{name}: {strangers[0]} has handed in nothing; name a folder below submitted.")
    if not handed_in:
        place = classroom.file("submitted", name, "STUDENT")
        raise InputError(f"{place}: there is no submission like this; put them there, in a folder for each student.")
    return list(only) or handed_in


@dataclass(frozen=True)
class _Staged:
    """A submission that can be marked, below a folder; what is to be run of it; and what was wrong with it."""

    student: str
    folder: Path
    cells: list[Cell]
    remarks: list[str]


def _staged(classroom: Classroom, name: str, student: str, folder: Path) -> _Staged:
    file, release = classroom.file("submitted", name, student), classroom.release(name)
    remarks = submissions.staged(file, release, folder / student / name)
    notebook = submissions.read(folder / student / name / file.name)
    for grade_id, cell in assignments.marked(classroom.source(name)).items():
        if known(cell)["locked"]:
            assignments.marked(notebook)[grade_id].source = cell.source
    return _Staged(student, folder, to_run(notebook, release), remarks)


@contextmanager
def _side_by_side(
    staged: Sequence[_Staged], limits: Limits, hidden: Sequence[Path], at_once: int
) -> "Iterator[list[Future[list[Ran]]]]":
    """Run submissions, so many at a time, during the block; whatever ends the block early ends all of them."""

    def ran(each: _Staged) -> list[Ran]:
        request: Request = {"cells": each.cells, "seconds": limits.cell_seconds, "memory": limits.memory}
        return supervision.run(request, limits, hidden)

    with ThreadPoolExecutor(at_once, initializer=_settled, initargs=(_places(at_once),)) as pool:
        running = [pool.submit(ran, each) for each in staged]
        try:
            yield running
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            with stops.waiting():
                # More than once, since one may just be about to start.
                while not all(each.done() for each in running):
                    confinement.end_all()
                    time.sleep(0.05)
            raise


def _places(at_once: int) -> "queue.SimpleQueue[list[int]]":
    """Return for each submission that runs at a time the CPUs that are its own, as far as there are enough."""
    found: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for number in range(at_once):
        found.put(cpus[number::at_once])
    return found


def _settled(places: "queue.SimpleQueue[list[int]]") -> None:
    """Let this thread, and the processes that it starts, run on CPUs of their own."""
    if cpus := places.get():
        os.sched_setaffinity(0, cpus)


def _marked(
    classroom: Classroom, name: str, staged: _Staged, running: "Future[list[Ran]]", tell: Callable[[str], object]
) -> Marked:
    """Let nbgrader mark a submission by what became of its cells, write feedback, and tell of it."""
    remarks = list(staged.remarks)

    def execute(notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        if to_run(notebook, classroom.release(name)) != staged.cells:
            raise RuntimeError("nbgrader would run other cells than those that were run")
        remarks.extend(put_back(notebook, ran))
        if remarks:
            note = "**When this was marked**\n\n" + "\n".join(f"- {remark}" for remark in remarks)
            notebook.cells.insert(0, nbformat.v4.new_markdown_cell(note))  # type: ignore[no-untyped-call]
        return notebook, resources

    try:
        # Here, since nbgrader would take an interruption for a fault of the submission.
        ran = running.result()
        classroom.autograde(name, staged.student, staged.folder, execute)
        classroom.feedback(name, staged.student)
    except InputError as error:
        found = Marked(staged.student, remarks, str(error))
    else:
        found = Marked(staged.student, remarks)
    tell(f"{found.student}: {found.trouble or ' '.join(found.remarks) or 'marked'}")
    return found


def to_run(notebook: NotebookNode, release: NotebookNode) -> list[Cell]:
    """Return what is to be run of a submission to mark it.

    Cells that only look at experts, as they were handed out, are left out but for what they define.
    """
    shown = {cell.source for cell in release.cells if cell.cell_type == "code" and not known(cell)}
    return [
        {
            "number": number,
            "source": definitions(cell.source) if cell.source in shown and not known(cell) else cell.source,
            "check": bool(known(cell).get("points")),
        }
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
    ]


def definitions(source: str) -> str:
    r"""Return the imports, functions, classes and constants of a cell of ours, without anything that does something.

    >>> definitions("import math; limit = 3; print(math.pi)")
    'import math\nlimit = 3'
    """
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    kept = [line for line in ast.parse(source).body if isinstance(line, kinds) or _is_constant(line)]
    return "\n".join(ast.unparse(line) for line in kept)


def _is_constant(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)


def put_back(notebook: NotebookNode, ran: Sequence[Ran]) -> list[str]:
    """Put what became of cells into a notebook, so that nbgrader gives no points for what did not succeed.

    Return what is to be said of cells that did not end by themselves.
    """
    found = {each["number"]: each for each in ran}
    remarks = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            each = found.get(number, {"number": number, "status": "", "outputs": []})
            cell.outputs = _outputs(each)
            cell.execution_count = number if number in found else None
            if each["status"] in TOLD and known(cell):
                remarks.append(f"`{known(cell)['grade_id']}`: {TOLD[each['status']][1]}.")
    return remarks


def _outputs(ran: Ran) -> list[NotebookNode]:
    """Return what a cell showed, with an error where it did not succeed."""
    found = [_output(each) for each in ran["outputs"]]
    name, sentence = TOLD.get(ran["status"], ("Error", "the cell did not succeed"))
    if ran["status"] != "ok" and not any(each.output_type == "error" for each in found):
        error = {"ename": name, "evalue": sentence, "traceback": [f"{name}: {sentence}"]}
        found.append(nbformat.v4.new_output("error", **error))  # type: ignore[no-untyped-call]
    return found


def _output(output: dict[str, Any]) -> NotebookNode:
    """Return an output of a kind that feedback shows; a warning costs nothing, as it would for nbgrader."""
    found = nbformat.from_dict(output)  # type: ignore[no-untyped-call]
    if found.output_type == "stream":
        found.name = "stdout"
    if "data" in found:
        found.data = {kind: data for kind, data in found.data.items() if kind in SHOWN}
        found.metadata = {}
    kept: NotebookNode = found
    return kept
