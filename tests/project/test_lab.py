# SPDX-License-Identifier: MIT
"""What a reader changes in JupyterLab is in the source, and nothing else of the source changes."""

import asyncio
import os
import shutil
import time

import nbformat
import pytest
from checkout import KINDS
from jupytext import AsyncTextFileContentsManager
from nbformat.sign import MemorySignatureStore, NotebookNotary
from traitlets.config import Config

from compendium import paths, runner, views

NAMES = sorted(source.stem for source in (paths.ROOT / "notebooks").glob("*.py"))
LINE = "print(provenance.versions_line())"

each_kind = pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)


@pytest.fixture
def notebooks(tmp_path):
    """The notebooks of a checkout, where every copy was executed a day after its source was written."""
    folder = shutil.copytree(paths.ROOT / "notebooks", tmp_path / "notebooks")
    for file in folder.iterdir():
        then = time.time() - (1 if file.suffix == ".ipynb" else 86400)
        os.utime(file, (then, then))
    return folder


class Lab:
    """What JupyterLab asks of its server about one notebook: to open it, to save it, whether the file has changed."""

    def __init__(self, root, path):
        # Signatures in memory: those of a file would leave a database open, as Python 3.13 complains.
        notary = NotebookNotary(store_factory=MemorySignatureStore)
        hook = "compendium.views.before_saving"
        config = Config(ContentsManager={"pre_save_hook": hook})
        self.manager = AsyncTextFileContentsManager(root_dir=str(root), notary=notary, config=config)
        self.path = path
        self.model = self.opened()

    def opened(self):
        return asyncio.run(self.manager.get(self.path, content=True, type="notebook", require_hash=True))

    def is_changed_on_disk(self):
        """JupyterLab compares both before it saves, and asks when the answer is yes."""
        now = asyncio.run(self.manager.get(self.path, content=False, require_hash=True))
        return now["last_modified"] != self.model["last_modified"] or now["hash"] != self.model["hash"]

    def save(self):
        # A running kernel and the panel of properties leave such traces in every notebook.
        self.model["content"]["metadata"]["language_info"] = {"name": "python", "version": "3.12.1"}
        for number, cell in enumerate(self.model["content"]["cells"]):
            cell["metadata"] |= {"collapsed": True, "editable": True, "slideshow": {"slide_type": ""}}
            if cell["cell_type"] == "code":
                cell["execution_count"] = number
        asyncio.run(self.manager.save({key: self.model[key] for key in ("type", "format", "content")}, self.path))


def closing(model):
    """Return the code cell that a notebook ends with, before its questions."""
    return [cell for cell in model["content"]["cells"] if cell["cell_type"] == "code"][-1]


def cells(notebook):
    return [(cell.cell_type, cell.source, cell.get("outputs")) for cell in notebook.cells]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("root", [".", "notebooks"])
def test_every_executed_notebook_opens_and_saving_it_unchanged_leaves_its_source(notebooks, name, root):
    source, copy = notebooks / f"{name}.py", notebooks / f"{name}.ipynb"
    before, text = nbformat.read(copy, as_version=4), source.read_bytes()
    lab = Lab(notebooks.parent / root, f"notebooks/{name}.ipynb" if root == "." else f"{name}.ipynb")
    assert cells(lab.model["content"]) == cells(before)
    assert lab.model["content"]["metadata"]["kernelspec"]["name"] == "python3"
    lab.save()
    assert source.read_bytes() == text
    assert cells(nbformat.read(copy, as_version=4)) == cells(before)
    assert not list(notebooks.glob("*.orig")) + list(notebooks.parent.glob("*.py"))


@each_kind
def test_saving_changes_the_source_by_the_edited_line_and_keeps_outputs(notebooks, name):
    source, copy = notebooks / f"{name}.py", notebooks / f"{name}.ipynb"
    text, before = source.read_text(encoding="utf-8"), nbformat.read(copy, as_version=4)
    lab = Lab(notebooks.parent, f"notebooks/{name}.ipynb")
    edited = closing(lab.model)
    edited["source"] = edited["source"].replace(LINE, f"{LINE}  # edited")
    lab.save()
    assert source.read_text(encoding="utf-8") == text.replace(LINE, f"{LINE}  # edited")
    after = nbformat.read(copy, as_version=4)
    assert [cell.get("outputs") for cell in after.cells] == [cell.get("outputs") for cell in before.cells]
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    # So that make sees that the copy is older than its source.
    assert source.stat().st_mtime_ns > copy.stat().st_mtime_ns


def test_new_cells_and_tags_reach_the_source(notebooks):
    source = notebooks / "00_tour.py"
    text = source.read_text(encoding="utf-8")
    lab = Lab(notebooks.parent, "notebooks/00_tour.ipynb")
    new = nbformat.v4.new_code_cell("1 + 1", metadata={"tags": ["mine"], "scrolled": True})
    lab.model["content"]["cells"].append(new)
    lab.save()
    assert source.read_text(encoding="utf-8") == f'{text}\n# %% tags=["mine"]\n1 + 1\n'


def test_saving_leaves_the_picture_of_sliders_and_not_their_view(notebooks):
    copy = notebooks / "00_tour.ipynb"
    lab = Lab(notebooks.parent, "notebooks/00_tour.ipynb")
    still = {"image/png": "iVBORw0KGgo=", "text/plain": "what it shows"}
    view = {views.VIEW: {"model_id": "0123", "version_major": 2, "version_minor": 0}}
    closing(lab.model)["outputs"] = [nbformat.v4.new_output("display_data", data=still | view)]
    lab.save()
    outputs = [cell.outputs for cell in nbformat.read(copy, as_version=4).cells if cell.cell_type == "code"]
    assert [output.data for output in outputs[-1]] == [still]


@each_kind
def test_a_source_that_changes_on_disk_is_noticed_before_it_could_be_overwritten(notebooks, name):
    source = notebooks / f"{name}.py"
    lab = Lab(notebooks.parent, f"notebooks/{name}.ipynb")
    assert not lab.is_changed_on_disk()
    then = source.stat().st_mtime
    source.write_text(source.read_text(encoding="utf-8").replace(LINE, f"{LINE}  # pulled"), encoding="utf-8")
    assert lab.is_changed_on_disk()
    # Even where the clock tells nothing.
    os.utime(source, (then, then))
    assert lab.is_changed_on_disk()
    assert "# pulled" in closing(lab.opened())["source"]


def test_an_executed_copy_that_changes_on_disk_is_noticed_too(notebooks):
    lab = Lab(notebooks.parent, "notebooks/00_tour.ipynb")
    copy = notebooks / "00_tour.ipynb"
    copy.write_text(copy.read_text(encoding="utf-8").replace("mini", "other"), encoding="utf-8")
    assert lab.is_changed_on_disk()


def test_where_only_the_copy_was_edited_the_text_of_the_source_wins(notebooks):
    """As for make, which runs the source: what is shown is what will be run."""
    copy = notebooks / "00_tour.ipynb"
    copy.write_text(copy.read_text(encoding="utf-8").replace(LINE, "print(1)"), encoding="utf-8")
    lab = Lab(notebooks.parent, "notebooks/00_tour.ipynb")
    assert LINE in closing(lab.model)["source"]


def test_copies_outside_are_no_pair(notebooks):
    elsewhere = notebooks.parent / "build" / "smoke" / "notebooks" / "smoke"
    elsewhere.mkdir(parents=True)
    shutil.copy(notebooks / "00_tour.ipynb", elsewhere)
    Lab(notebooks.parent, "build/smoke/notebooks/smoke/00_tour.ipynb").save()
    assert [file.name for file in elsewhere.iterdir() if file.is_file()] == ["00_tour.ipynb"]


def test_the_source_opens_as_a_notebook_too(notebooks):
    source, copy = notebooks / "00_tour.py", notebooks / "00_tour.ipynb"
    text, executed = source.read_bytes(), runner.tidied(nbformat.read(copy, as_version=4))
    nbformat.write(executed, copy)
    lab = Lab(notebooks.parent, "notebooks/00_tour.py")
    assert cells(lab.model["content"]) == cells(executed)
    lab.save()
    assert source.read_bytes() == text
    assert cells(nbformat.read(copy, as_version=4)) == cells(executed)
