# SPDX-License-Identifier: MIT
"""Makes of the sources what a class needs: student releases, executed solutions, and the guide with its example."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from compendium import paths, profiles, runner, sourcecode
from compendium.course import assignments
from compendium.course.classroom import Classroom
from tsvlib.errors import InputError
from tsvlib.files import replacing

QUIET: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
"""How a kernel is started: what it has to say comes in messages."""

GUIDE = assignments.FOLDER / "guide.py"


def build(folder: Path, seed: int | None, profile: str, tell: Callable[[str], object]) -> None:
    """Make all assignments of a class and their solutions, which must pass the class's own tests, and the guide.

    Raises:
        InputError: nbgrader refuses an assignment, or a solution does not run, as without experts.
    """
    classroom = Classroom(folder)
    for name in assignments.names():
        classroom.generate(name, seed)
        tell(f"{name}: {classroom.file('release', name)} is for students")
    for name in assignments.names():
        executed = solved(classroom.source(name), name, profile)
        tell(f"{name}: {classroom.keep_solution(name, executed)} passes all tests")
    tell(f"guide: {guide(classroom.folder)} is for instructors, with an example of what students get back")


def solved(source: NotebookNode, name: str, profile: str) -> NotebookNode:
    """Return an assignment with its solutions after all its cells have run, on the experts of a profile."""
    own = sourcecode.parameters(assignments.FOLDER / f"{name}.py")
    wanted: dict[str, object] = {"profile": profile}
    if isinstance(images := own.get("images"), int):
        wanted["images"] = min(images, profiles.load(profile).samples.validation)
    changed = {key: value for key, value in wanted.items() if key in own and own[key] != value}
    return _executed(source, changed, name)


def guide(folder: Path) -> Path:
    """Run the guide on an example class in ``folder / "example"``, and return its page."""
    source: NotebookNode = jupytext.read(GUIDE)
    source.metadata.kernelspec = dict(runner.KERNEL)
    found = _executed(source, {"folder": str(folder / "example")}, GUIDE.stem)
    page, _ = HTMLExporter().from_notebook_node(found)  # type: ignore[no-untyped-call]
    text: str = nbformat.writes(found)  # type: ignore[no-untyped-call]
    for suffix, content in (("ipynb", f"{text}\n"), ("html", page)):
        with replacing(folder / f"{GUIDE.stem}.{suffix}") as draft:
            draft.write_text(content, encoding="utf-8")
    return folder / f"{GUIDE.stem}.html"


def _executed(source: NotebookNode, parameters: Mapping[str, object], name: str) -> NotebookNode:
    """Return a notebook after all its cells have run in the checkout, with other parameters than it states."""
    stated = next((cell for cell in source.cells if "parameters" in cell.metadata.get("tags", [])), None)
    if stated:
        stated.source = "\n".join([stated.source, *(f"{key} = {value!r}" for key, value in parameters.items())])
    resources = {"metadata": {"path": str(paths.ROOT)}}
    client = NotebookClient(source, timeout=None, kernel_name="python3", resources=resources)
    try:
        # Cell by cell, since its own loop over them takes Ctrl-C for the death of the kernel.
        with client.setup_kernel(**QUIET):
            for number, cell in enumerate(source.cells):
                client.execute_cell(cell, number)
    except CellExecutionError as error:
        if error.ename == InputError.__name__:
            raise InputError(error.evalue) from None
        raise InputError(f"{name}: a cell stopped with {error.ename}: {error.evalue}; run it in JupyterLab.") from error
    return runner.tidied(source)
