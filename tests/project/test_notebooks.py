# SPDX-License-Identifier: MIT
"""Notebooks are prose, calls and assertions, and their executed copies show the same cells."""

import ast
import re
from itertools import pairwise

import jupytext
import nbformat
import pytest
from graph import imported_modules

from compendium import paths, runner, sourcecode

SOURCES = sorted((paths.ROOT / "notebooks").glob("*.py"))
FORBIDDEN = re.compile(r"^\s*[!%]|sys\.path|filterwarnings|https?://|open_clip|\bclass \w", re.MULTILINE)
DRAWN, PRINTED = ("2", "63"), ("3", "62")
COMPUTED = ("1", "60", "61")
COMPUTING = {"evaluation", "experts", "merging", "compression", "models", "training", "datasets", "linalg"}

CHAPTERS = [source for source in SOURCES if source.name.startswith(("00", "1"))]

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
each_chapter = pytest.mark.parametrize("source", CHAPTERS, ids=lambda source: source.stem)


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


@each_chapter
def test_a_chapter_says_what_one_learns_and_ends_with_two_questions_that_parameters_answer(source):
    assert re.search(r"^\| You learn \| .{20,} \|$", cells(source)[0].source, re.MULTILINE)
    last = cells(source)[-1]
    assert last.cell_type == "markdown"
    assert last.source.startswith("## Try\n")
    parameters = sourcecode.parameters(source)
    questions = re.findall(r"^\d\. (.+?)(?=^\d\. |\Z)", last.source, re.MULTILINE | re.DOTALL)
    assert len(questions) == 2
    for question in questions:
        assert question.count("?"), question
        words = re.findall(r"`(\w+)[ =`]", question)
        assert words, question
        assert words[0] in parameters, question
    # The command is one that the runner takes.
    (command,) = re.findall(rf"python -m compendium run notebooks/{source.name}((?: -p \w+=\S+)+)", last.source)
    given = dict(word.split("=", 1) for word in command.replace("`", "").split()[1::2])
    changed, *_ = runner._strict_parameters(source, given)
    assert changed.keys() == given.keys()


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
    longest = 30 if source.name.startswith(DRAWN) else 15
    for text in code(source):
        assert len(text.splitlines()) <= longest, text
        assert not FORBIDDEN.search(text), text
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 3, node.name


def test_tsv_m_takes_twelve_lines_of_plain_torch():
    every = cells(paths.ROOT / "notebooks" / "00_tour.py")
    (place,) = [number for number, cell in enumerate(every) if cell.source.startswith("## TSV-M in twelve lines")]
    text = every[place + 1].source
    assert len(text.splitlines()) == 12
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    assert {node.id for node in names} - made == {"base", "vectors", "n_tasks", "alpha", "torch", "dict", "min"}


@each_source
def test_claims_are_asserted_at_the_end(source):
    last = ast.parse("\n".join(code(source)[-2:]))
    assert [node for node in ast.walk(last) if isinstance(node, ast.Assert)]


@each_source
def test_computing_and_drawing_are_apart(source):
    text = source.read_text(encoding="utf-8")
    if source.name.startswith(COMPUTED):
        assert "save_figure" not in text
        assert "save_table" not in text
    if source.name.startswith(DRAWN + PRINTED):
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
