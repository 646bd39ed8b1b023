# SPDX-License-Identifier: MIT
"""The paper on worlds that have little in common with mini: small MLPs on tables, sentence encoders on texts."""

import shutil
from pathlib import Path

import checkout
import pytest
from worlds import tiny

from compendium import paths

WORLDS = paths.ROOT / "tests" / "worlds"


def run_everything(copy: Path, profile: str) -> None:
    """Run all notebooks of a profile in a copy of the checkout."""
    names = [file.stem for file in sorted((copy / "notebooks").glob("[0-9]*.py"))]
    made = [copy / "notebooks" / profile / f"{name}.ipynb" for name in names]
    done = checkout.run(copy, "make", f"PROFILE={profile}", *(str(file.relative_to(copy)) for file in made))
    assert done.returncode == 0, done.stderr
    assert all(file.is_file() for file in made)
    assert [change for change in checkout.changes(copy) if profile not in change] == []


@pytest.mark.slow
def test_every_notebook_runs_on_tables(tmp_path: Path) -> None:
    copy = checkout.copied(tmp_path)
    shutil.copy(WORLDS / "tables.py", copy / "tables.py")
    (copy / "data" / "tables").mkdir()
    shutil.copy(WORLDS / "tables.toml", copy / "data" / "tables" / "profile.toml")
    run_everything(copy, "tables")


@pytest.mark.slow
def test_every_notebook_runs_on_texts(tmp_path: Path) -> None:
    copy = checkout.copied(tmp_path)
    tiny.write(copy / "data")
    run_everything(copy, "tiny")
