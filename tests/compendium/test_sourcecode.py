# SPDX-License-Identifier: MIT
"""The digest of code follows what is executed, wherever it is imported from, and nothing else."""

import ast
from pathlib import Path

import pytest

from compendium import paths, sourcecode

NOTEBOOK = """\
# %% [markdown]
# # A title

# %% tags=["parameters"]
profile = "mini"  # which size
steps = 3  # how many

# %%
from tsvlib import step, study

# %%
study.run(profile, steps)
"""
STUDY = '''\
"""A study."""

TASKS = ("a", "b")
"""Their order counts."""


def run(profile, steps):
    """Take steps."""
    from tsvlib.deep.down import far

    return far(f"{profile:>3} {steps!r}", *TASKS)  # all of them
'''
FILES = {
    "notebooks/13_merge.py": NOTEBOOK,
    "tsvlib/__init__.py": "",
    "tsvlib/study.py": STUDY,
    "tsvlib/step.py": "import os.path as place\n",
    "tsvlib/deep/__init__.py": "from . import near\n",
    "tsvlib/deep/near.py": "y = 1\n",
    "tsvlib/deep/beside.py": "x = 1\n",
    "tsvlib/deep/down.py": "from .beside import x as far\n",
    "tsvlib/other.py": "x = 1\n",
}


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A small checkout, and the digest of its notebook after a text in one of its files has been replaced."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def changed(name=None, old="", new=""):
        for each, text in FILES.items():
            (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / each).write_text(text, encoding="utf-8")
        if name:
            assert old in FILES[name]
            (tmp_path / name).write_text(FILES[name].replace(old, new), encoding="utf-8")
        return sourcecode.digest(tmp_path / "notebooks" / "13_merge.py")

    return changed


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("notebooks/13_merge.py", "study.run(profile, steps)", "study.run(profile, 2)"),
        ("notebooks/13_merge.py", "import step, study", "import study"),
        ("tsvlib/study.py", '"a", "b"', '"b", "a"'),
        ("tsvlib/study.py", "*TASKS)", "TASKS)"),
        ("tsvlib/study.py", ":>3", ":>4"),
        ("tsvlib/study.py", "!r", "!s"),
        ("tsvlib/study.py", "return far", "far"),
        ("tsvlib/step.py", "place", "spot"),
        ("tsvlib/__init__.py", "", "x = None"),
        ("tsvlib/deep/__init__.py", "import near", "import near as b"),
        ("tsvlib/deep/near.py", "1", "2"),
        ("tsvlib/deep/beside.py", "1", "1.0"),
        ("tsvlib/deep/beside.py", "1", "None"),
        ("tsvlib/deep/beside.py", "1", "[]"),
        ("tsvlib/deep/down.py", "far", "further"),
    ],
)
def test_a_change_of_what_is_executed_changes_the_digest(checkout, name, old, new):
    assert checkout(name, old, new) != checkout()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("notebooks/13_merge.py", "# # A title", "# # Another\n#\n# with more prose"),
        ("notebooks/13_merge.py", "# %%\nstudy", "# %% [markdown]\n# More.\n\n# %%\nstudy"),
        ("notebooks/13_merge.py", "steps = 3  # how many", "steps = 4  # of them"),
        ("tsvlib/study.py", '"""A study."""', ""),
        ("tsvlib/study.py", "Their order counts.", "In this order."),
        ("tsvlib/study.py", "Take steps.", "Go.\n\n    Slowly."),
        ("tsvlib/study.py", "  # all of them", ""),
        ("tsvlib/study.py", '("a", "b")', "(\n    'a',\n    'b',\n)"),
        ("tsvlib/deep/beside.py", "x = 1", "# one\nx = 0x1"),
        ("tsvlib/other.py", "1", "2"),
    ],
)
def test_prose_layout_parameters_and_what_is_not_imported_leave_it(checkout, name, old, new):
    assert checkout(name, old, new) == checkout()


def test_parameters_are_the_defaults_of_the_tagged_cell(tmp_path: Path):
    notebook = tmp_path / "13_merge.py"
    notebook.write_text(NOTEBOOK, encoding="utf-8")
    assert sourcecode.parameters(notebook) == {"profile": "mini", "steps": 3}
    notebook.write_text("# %%\nx = 1\n", encoding="utf-8")
    assert sourcecode.parameters(notebook) == {}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((paths.ROOT / "notebooks").glob("1*.py")), ids=lambda file: file.stem)
def test_what_computes_a_table_is_neither_the_page_nor_the_command_line(notebook, monkeypatch):
    parsed, parse = [], ast.parse
    monkeypatch.setattr(ast, "parse", lambda source, *rest: parsed.append(source) or parse(source, *rest))
    sourcecode.digest(notebook, ["compendium.worlds.mini.world"])
    folders = (paths.ROOT / "tsvlib", paths.ROOT / "notebooks" / "compendium")
    files = {file.stem for folder in folders for file in folder.rglob("*.py") if file.read_bytes() in parsed}
    assert {"runs", "merging", "linalg", "training"} <= files
    assert not files & {"page", "contents", "sheets", "commands", "frontdoor", "runner"}
