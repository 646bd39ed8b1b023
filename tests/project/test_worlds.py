# SPDX-License-Identifier: MIT
"""The paper on a world that has nothing in common with mini: small MLPs on tables."""

import shutil
from pathlib import Path

import checkout
import pytest

from compendium import paths

WORLDS = paths.ROOT / "tests" / "worlds"
OF_IMAGES = {"01_tasks"}
"""What shows the inputs, and so must know what they look like."""


@pytest.mark.slow
def test_every_notebook_that_asks_nothing_of_images_runs_on_tables(tmp_path: Path) -> None:
    copy = checkout.copied(tmp_path)
    shutil.copy(WORLDS / "tables.py", copy / "tables.py")
    (copy / "data" / "tables").mkdir()
    shutil.copy(WORLDS / "tables.toml", copy / "data" / "tables" / "profile.toml")
    names = [file.stem for file in sorted((copy / "notebooks").glob("[0-9]*.py")) if file.stem not in OF_IMAGES]
    made = [copy / "notebooks" / "tables" / f"{name}.ipynb" for name in names]
    done = checkout.run(copy, "make", "PROFILE=tables", *(str(file.relative_to(copy)) for file in made))
    assert done.returncode == 0, done.stderr
    assert all(file.is_file() for file in made)
    assert [change for change in checkout.changes(copy) if "tables" not in change] == []
