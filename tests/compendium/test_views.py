# SPDX-License-Identifier: MIT
"""Widgets are for whoever runs a kernel; no file holds what is nothing without one."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from compendium import runner, views

STILL = {"image/png": "iVBORw0KGgo=", "text/plain": "what it shows"}
MOVING = {**STILL, views.VIEW: {"model_id": "0123", "version_major": 2, "version_minor": 0}}


@pytest.fixture
def notebook():
    cells = [
        new_code_cell("show()", outputs=[new_output("display_data", data=MOVING), new_output("stream", text="said")]),
        new_code_cell("1", outputs=[new_output("execute_result", data={"text/plain": "1"})]),
    ]
    return new_notebook(cells=cells, metadata={"widgets": {"state": {}}, "kernelspec": dict(runner.KERNEL)})


def test_saving_keeps_what_stands_for_a_widget(notebook):
    before = copy.deepcopy(notebook)
    views.before_saving(model={"type": "notebook", "content": notebook}, path="a.ipynb", contents_manager=None)
    assert notebook.cells[0].outputs[0].data == STILL
    assert notebook.cells[0].outputs[1:] == before.cells[0].outputs[1:]
    assert notebook.cells[1] == before.cells[1]
    assert notebook.metadata == {"kernelspec": runner.KERNEL}
    nbformat.validate(notebook)


@pytest.mark.parametrize(
    "model", [{"type": "file", "content": views.VIEW}, {"type": "directory"}, {"type": "notebook", "content": None}]
)
def test_saving_leaves_all_else(model):
    before = copy.deepcopy(model)
    views.before_saving(model=model, path="a", contents_manager=None)
    assert model == before


def test_executed_copies_hold_no_widgets(notebook):
    clean = runner.tidied(notebook)
    assert [output.output_type for output in clean.cells[0].outputs] == ["stream"]
    assert clean.metadata == {"kernelspec": runner.KERNEL}


def test_nobody_is_there_outside_a_notebook():
    assert not views.is_somebody_there()
