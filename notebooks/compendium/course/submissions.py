# SPDX-License-Identifier: MIT
"""What a student hands in, made fit to be marked whatever was done to it."""

import copy
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from compendium.course.assignments import known, marked
from tsvlib.errors import InputError
from tsvlib.files import opened, replacing

LARGEST = 10
"""Megabytes that a submission may have; those of this course have less than one, with all their pictures."""

TIMESTAMP = "timestamp.txt"
"""Where nbgrader notes when a submission came."""


class Received(NamedTuple):
    """A submission that nbgrader can mark, and what was wrong with it."""

    notebook: NotebookNode
    remarks: list[str]


def read(file: Path) -> NotebookNode:
    """Return the notebook in a file.

    Raises:
        InputError: there is none in it that can be read.
    """
    if file.is_symlink():
        raise InputError(f"{file}: this is a link, not a notebook; hand in the file itself.")
    with opened(file) as stream:
        content = stream.read(LARGEST * 10**6 + 1)
    if len(content) > LARGEST * 10**6:
        raise InputError(f"{file}: the file has more than {LARGEST} MB; clear the outputs of its cells.")
    try:
        with warnings.catch_warnings():
            # Cells without ids, or with the same one, as they come about by hand and in old notebooks.
            warnings.simplefilter("ignore")
            notebook = nbformat.reads(content.decode(), as_version=4)  # type: ignore[no-untyped-call]
            _, notebook = nbformat.validator.normalize(notebook)
            nbformat.validate(notebook)
    except Exception as error:
        raise InputError(
            f"{file}: this is not a notebook ({type(error).__name__}); hand in the .ipynb file."
        ) from error
    # Which normalising makes a plain dictionary of an old one.
    found: NotebookNode = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
    return found


def hand_in(folder: Path, student: str, assignment: str, notebook: NotebookNode) -> Path:
    """Write a submission to where nbgrader looks for it below the folder of a class, and return the file."""
    file = folder / "submitted" / student / assignment / f"{assignment}.ipynb"
    with replacing(file) as draft:
        nbformat.write(notebook, draft)  # type: ignore[no-untyped-call]
    return file


def received(file: Path, release: NotebookNode) -> Received:
    """Return a submission with each cell that nbgrader knows of the release, once, and of the kind that it has there.

    What cannot be read counts as if nothing had been written.
    """
    try:
        notebook = read(file)
    except InputError as error:
        reason = str(error).removeprefix(f"{file}: ")
        return Received(copy.deepcopy(release), [f"Nothing could be marked: {reason}"])
    remarks = _forgotten(notebook, release)
    notebook.metadata = copy.deepcopy(release.metadata)
    place = 0
    for grade_id, cell in marked(release).items():
        mine = marked(notebook).get(grade_id)
        if mine is None:
            remarks.append(f"The cell `{grade_id}` was missing; it was put back as it was handed out.")
            notebook.cells.insert(place, copy.deepcopy(cell))
        else:
            place = next(number for number, each in enumerate(notebook.cells) if each is mine)
            remarks += _changed(mine, cell)
            notebook.cells[place] = _of_kind(mine, cell)
        place += 1
    for number, cell in enumerate(notebook.cells):
        # Cells that were put back may have the id of a copy that somebody made.
        cell.id = f"cell-{number}"
    return Received(notebook, remarks)


def staged(file: Path, release: NotebookNode, place: Path) -> list[str]:
    """Write what can be marked of a submission, and when it came, to a folder; return what was wrong with it."""
    found = received(file, release)
    place.mkdir(parents=True)
    nbformat.write(found.notebook, place / file.name)  # type: ignore[no-untyped-call]
    stamp = file.with_name(TIMESTAMP)
    if stamp.is_file() and not stamp.is_symlink():
        shutil.copyfile(stamp, place / TIMESTAMP)
    return found.remarks


def _forgotten(notebook: NotebookNode, release: NotebookNode) -> list[str]:
    """Take from cells what nbgrader would know of them if they are copies, or unknown; say which ones are copies."""
    seen: set[str] = set()
    copies = []
    for cell in notebook.cells:
        grade_id = known(cell).get("grade_id")
        if grade_id in seen:
            copies.append(f"The cell `{grade_id}` was there twice; the first one counts.")
        if grade_id in marked(release).keys() - seen:
            seen.add(grade_id)
        else:
            cell.metadata.pop("nbgrader", None)
    return copies


def _changed(mine: NotebookNode, handed_out: NotebookNode) -> list[str]:
    """Say whether a cell is not what it should be, in which nothing was to be written."""
    is_changed = mine.source.strip() != handed_out.source.strip() or mine.cell_type != handed_out.cell_type
    if known(handed_out)["locked"] and is_changed:
        name = known(handed_out)["grade_id"]
        return [f"The cell `{name}` had been changed; it was run as it was handed out."]
    return []


def _of_kind(mine: NotebookNode, handed_out: NotebookNode) -> NotebookNode:
    """Return what was written in a cell, as a cell of the kind that was handed out."""
    found = copy.deepcopy(handed_out)
    if not known(handed_out)["locked"]:
        found.source = mine.source
    return found
