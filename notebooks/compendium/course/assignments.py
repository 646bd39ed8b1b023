# SPDX-License-Identifier: MIT
"""The assignments of the checkout as nbgrader wants them: notebooks with solutions and with the seed of a class."""

import copy
import re
from collections.abc import Mapping
from typing import Any

import jupytext
import pandas as pd
from nbformat import NotebookNode

from compendium import paths, runner
from tsvlib.errors import InputError

FOLDER = paths.ROOT / "notebooks" / "course"

_SEED = re.compile(r"(### BEGIN HIDDEN TESTS\nCOURSE_SEED = )(\d+)")
_HIDDEN = re.compile(r"\n?^### BEGIN HIDDEN TESTS\n(?:.*\n)*?### END HIDDEN TESTS$", re.MULTILINE)


def names() -> list[str]:
    """Return the names of all assignments in their order, such as ``a0_two_tasks``."""
    return sorted(file.stem for file in FOLDER.glob("a[0-9]_*.py"))


def source(name: str, seed: int | None = None) -> NotebookNode:
    """Return an assignment with solutions and hidden tests; a seed takes the place of the one that everybody knows.

    Raises:
        InputError: there is no such assignment, or no hidden test of it sets the seed.
    """
    if name not in names():
        raise InputError(f"{name}: there is no such assignment; choose one of {', '.join(names())}.")
    notebook: NotebookNode = jupytext.read(FOLDER / f"{name}.py")
    notebook.metadata.kernelspec = dict(runner.KERNEL)
    # Without its formats, a student's copy beside the chapters would be saved as a pair like these.
    notebook.metadata.jupytext = {"formats": "ipynb"}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{name[:2]}-{number}"
    seeds = [cell for cell in notebook.cells if _SEED.search(cell.source)]
    if len(seeds) != 1:
        raise InputError(f"{name}: {len(seeds)} cells set COURSE_SEED in a hidden test; see that one does.")
    if seed is not None:
        seeds[0].source = _SEED.sub(rf"\g<1>{seed}", seeds[0].source)
    return notebook


def seed_of(notebook: NotebookNode) -> int:
    """Return the seed that the hidden tests of a notebook have, with which a class was made."""
    return next(int(found[2]) for cell in notebook.cells if (found := _SEED.search(cell.source)))


def marked(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """Return by their ids the cells that nbgrader knows: what is to be written, what tests it, what stays as it is."""
    return {known(cell)["grade_id"]: cell for cell in notebook.cells if known(cell)}


def known(cell: NotebookNode) -> dict[str, Any]:
    """Return what nbgrader knows of a cell, which is nothing for most of them."""
    found = cell.metadata.get("nbgrader")
    return found if isinstance(found, dict) and isinstance(found.get("grade_id"), str) else {}


def overview() -> pd.DataFrame:
    """Return a row for each exercise of each assignment, with its points and by whom it is marked."""
    rows = []
    for name in names():
        for grade_id, cell in marked(source(name)).items():
            if points := known(cell).get("points"):
                by = "hand" if known(cell)["solution"] else "tests"
                rows.append({"assignment": name, "exercise": exercise(grade_id), "points": points, "marked by": by})
    return pd.DataFrame(rows)


def exercise(grade_id: str) -> str:
    """Return the name of an exercise, by that of the cell that gives its points."""
    return grade_id.removeprefix("check_")


def answered(notebook: NotebookNode, answers: Mapping[str, str]) -> NotebookNode:
    """Return a copy of a notebook with other sources in the cells with these ids."""
    found = copy.deepcopy(notebook)
    for grade_id, text in answers.items():
        marked(found)[grade_id].source = text
    return found


def without_hidden_tests(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of a notebook that can be shown to students, whose tests do not tell the seed of the class."""
    found = copy.deepcopy(notebook)
    for cell in found.cells:
        if known(cell).get("locked"):
            cell.source = _HIDDEN.sub("", cell.source)
    return found
