# SPDX-License-Identifier: MIT
"""Changed prose reaches executed copies, which keep what they were run with and what came of it."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from click.testing import CliRunner

from compendium import commands, paths, prose

SOURCE = """# %% [markdown]
# # Old words

# %% tags=["parameters"]
profile = "mini"

# %%
1 + 1
"""


@pytest.fixture
def executed() -> nbformat.NotebookNode:
    """The copy of another profile: a cell of parameters beyond those of the source, and an output."""
    notebook = jupytext.reads(SOURCE, "py:percent")
    injected = nbformat.v4.new_code_cell('profile = "minilm"', metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(2, injected)
    notebook.cells[3].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2"})]
    return notebook


def test_words_are_those_of_the_source_and_all_else_stays(executed: nbformat.NotebookNode) -> None:
    source = jupytext.reads(SOURCE.replace("Old", "New"), "py:percent")
    found = prose.renewed(executed, source)
    assert [cell.source for cell in found.cells] == ["# New words", 'profile = "mini"', 'profile = "minilm"', "1 + 1"]
    assert found.cells[2].metadata.tags == ["injected-parameters"]
    assert found.cells[3].outputs[0]["data"]["text/plain"] == "2"


def test_what_other_code_gave_is_not_shown_beside_new_code(executed: nbformat.NotebookNode) -> None:
    found = prose.renewed(executed, jupytext.reads(SOURCE.replace("1 + 1", "1 + 2"), "py:percent"))
    assert found.cells[3].source == "1 + 2"
    assert not found.cells[3].outputs


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executed: nbformat.NotebookNode) -> Path:
    """A checkout with one source and its copies of two profiles."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for folder in ("notebooks", "notebooks/minilm"):
        (tmp_path / folder).mkdir()
        nbformat.write(executed, tmp_path / folder / "10_words.ipynb")
    return tmp_path


def test_a_copy_that_ran_other_code_is_left_as_it_is_and_named(checkout: Path) -> None:
    source = SOURCE.replace("Old", "New")
    (checkout / "notebooks/10_words.py").write_text(source)
    other = checkout / "notebooks/minilm/10_words.ipynb"
    other.write_text(other.read_text().replace("1 + 1", "1 + 2"))
    before = other.read_bytes()

    assert prose.bring() == [other]
    assert other.read_bytes() == before
    renewed = nbformat.read(checkout / "notebooks/10_words.ipynb", as_version=4)
    assert renewed.cells[0].source == "# New words"
    assert renewed.cells[3].outputs


def test_the_command_says_which_copies_were_left(checkout: Path) -> None:
    (checkout / "notebooks/10_words.py").write_text(SOURCE.replace("1 + 1", "1 + 2"))
    found = CliRunner().invoke(commands.cli, ["prose"])
    assert found.exit_code == 0
    assert [line.split()[0] for line in found.output.splitlines()] == [
        "notebooks/10_words.ipynb",
        "notebooks/minilm/10_words.ipynb",
    ]
