# SPDX-License-Identifier: MIT
"""Changed prose reaches executed copies, which keep what they were run with and what came of it."""

import jupytext
import nbformat
import pytest

from compendium import prose

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
