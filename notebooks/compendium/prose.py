# SPDX-License-Identifier: MIT
"""Prose that was changed in a notebook's source, brought into its executed copies without running them."""

from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from nbformat import NotebookNode

from compendium import paths
from compendium.runner import tidied
from tsvlib.files import replacing


def bring() -> list[Path]:
    """Rewrite every executed copy in the checkout whose prose is no longer that of its source.

    A copy that ran other code than its source now holds is left as it is, since what it shows is what that code gave.

    Returns:
        The copies that were left.
    """
    left = []
    for copy, source in _pairs():
        before = copy.read_text(encoding="utf-8")
        executed = nbformat.reads(before, as_version=4)  # type: ignore[no-untyped-call]
        stated = jupytext.read(source)
        if _code(executed) != _code(stated):
            left.append(copy)
            continue
        after: str = nbformat.writes(renewed(executed, stated))  # type: ignore[no-untyped-call]
        if f"{after}\n" != before:
            with replacing(copy) as draft:
                draft.write_text(f"{after}\n", encoding="utf-8")
    return left


def renewed(executed: NotebookNode, source: NotebookNode) -> NotebookNode:
    """Return the cells of a source with the outputs that these had, and the parameters that a copy was run with."""
    found = combine_inputs_with_outputs(source, executed)
    found.metadata = executed.metadata
    injected = [cell for cell in executed.cells if _is_injected(cell)]
    stated = [number for number, cell in enumerate(found.cells) if "parameters" in cell.metadata.get("tags", [])]
    for number in stated:
        found.cells[number + 1 : number + 1] = injected
    return tidied(found)


def _code(notebook: NotebookNode) -> list[str]:
    """Return what a notebook executes but for the parameters that a run was given."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code" and not _is_injected(cell)]


def _is_injected(cell: NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


def _pairs() -> Iterator[tuple[Path, Path]]:
    """Yield the executed copies of all profiles, each with its source, which has the same name."""
    folder = paths.ROOT / "notebooks"
    sources = {source.stem: source for source in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")])}
    for copy in sorted([*folder.glob("*.ipynb"), *folder.glob("*/*.ipynb")]):
        if copy.stem in sources:
            yield copy, sources[copy.stem]
