# SPDX-License-Identifier: MIT
"""Notebooks are prose, calls and assertions, and their executed copies show the same cells."""

import ast
import re
from itertools import pairwise

import jupytext
import nbformat
import pytest
from graph import imported_modules

from compendium import paths, sourcecode

SOURCES = sorted((paths.ROOT / "notebooks").glob("*.py"))
FORBIDDEN = re.compile(r"^\s*[!%]|sys\.path|filterwarnings|https?://|open_clip|\bclass \w", re.MULTILINE)
COMPUTING = {"evaluation", "experts", "merging", "compression", "models", "training", "datasets", "linalg"}

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


def cells(source, kind=None):
    return [cell for cell in jupytext.read(source).cells if kind in (None, cell.cell_type)]


def code(source):
    return [cell.source for cell in cells(source, "code")]


def imports(text):
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]


@each_source
def test_opens_with_title_and_table(source):
    first = cells(source)[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    for row in ("Reads", "Writes", "Paper item", "Run time"):
        assert re.search(rf"^\| \**{row}\** \|", first.source, re.MULTILINE), row


@each_source
def test_then_come_literal_parameters_with_comments(source):
    second = cells(source)[1]
    assert second.metadata.get("tags") == ["parameters"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells(source)) == 1
    lines = second.source.splitlines()
    assert lines[0].startswith('profile = "mini"  # ')
    for statement, line in zip(ast.parse(second.source).body, lines, strict=True):
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
        assert "  # " in line


@each_source
def test_parameters_keep_their_values(source):
    for text in code(source)[1:]:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
                assert node.id not in sourcecode.parameters(source), "the sidecar would name another value"


@each_source
def test_then_come_all_imports(source):
    third = cells(source)[2]
    assert third.cell_type == "code"
    assert imports(third.source)
    assert not [text for text in code(source) if text != third.source and imports(text)]


@each_source
def test_prose_leads_from_cell_to_cell(source):
    kinds = [cell.cell_type for cell in cells(source)]
    assert len(kinds) <= 25
    assert 0.4 <= kinds.count("markdown") / len(kinds) <= 0.7
    for before, kind in pairwise(kinds[2:]):
        assert "markdown" in (before, kind), "two code cells without prose between them"


@each_source
def test_code_cells_are_short_and_plain(source):
    longest = 30 if source.name.startswith("2") else 15
    for text in code(source):
        assert len(text.splitlines()) <= longest, text
        assert not FORBIDDEN.search(text), text
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 3, node.name


@each_source
def test_claims_are_asserted_at_the_end(source):
    last = ast.parse("\n".join(code(source)[-2:]))
    assert [node for node in ast.walk(last) if isinstance(node, ast.Assert)]


@each_source
def test_computing_and_drawing_are_apart(source):
    text = source.read_text(encoding="utf-8")
    if source.name.startswith("1"):
        assert "save_figure" not in text
        assert "save_table" not in text
    if source.name.startswith(("2", "3")):
        assert COMPUTING.isdisjoint(part for module in imported_modules(source) for part in module.split("."))
        assert "results.save(" not in text


@each_source
def test_the_executed_copy_has_the_same_cells(source):
    copy = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert [(cell.cell_type, cell.source) for cell in copy.cells] == [
        (cell.cell_type, cell.source) for cell in cells(source)
    ]


@each_source
def test_the_executed_copy_is_complete_and_timeless(source):
    file = source.with_suffix(".ipynb")
    copy = nbformat.read(file, as_version=4)
    assert copy.metadata == {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    outputs = [output for cell in copy.cells for output in cell.get("outputs", [])]
    assert outputs
    assert all(output.output_type != "error" for output in outputs)
    assert all(cell.get("execution_count") is None for cell in copy.cells)
    assert not re.search(r" at 0x[0-9a-f]{6}", file.read_text(encoding="utf-8"))
