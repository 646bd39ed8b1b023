# SPDX-License-Identifier: MIT
"""A copy of the checkout with a history of its own, in which anything may be changed and everything runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from compendium import paths

KINDS = {
    "tour": "00_tour",
    "compute": "18_similarity",
    "figure": "26_fig_similarity",
    "table": "30_tab_merge",
    "audit": "40_audit",
    "claims": "41_claims",
    "theory": "42_theory",
}
"""A notebook of every kind that has an executed copy."""


def copied(folder: Path) -> Path:
    """Copy to ``folder`` what git would commit now, commit it there, and return the folder."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=paths.ROOT, text=True).split("\0"):
        if (paths.ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(paths.ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    """Commit all that there is in the copy."""
    git(folder, "add", "--all")
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    git(folder, *author, "commit", "--quiet", "--message", "A copy")


def git(folder: Path, *words: str) -> str:
    """Return what a git command says about the copy."""
    return subprocess.check_output(["git", *words], cwd=folder, text=True)


def changes(folder: Path) -> list[str]:
    """Return what git sees as changed or new, one file a line."""
    return git(folder, "status", "--porcelain", "--untracked-files=all").splitlines()


def roots(folder: Path = paths.ROOT) -> str:
    """Return where Python finds both packages of a checkout, as it wants to be told."""
    return os.pathsep.join([str(folder), str(folder / "notebooks")])


def surroundings(folder: Path, **more: str) -> Mapping[str, str]:
    """Return the environment for a process that shall use the copy and nothing that a test or make has set."""
    ours = ("MAKE", "MFLAGS", "TSV_", "COV_", "PYTEST_", "JUPYTER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": roots(folder), **more}


def run(folder: Path, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with these arguments in the copy, or make where the first one is ``make``."""
    words = ["make", f"VENV={sys.prefix}", *command[1:]] if command[0] == "make" else [sys.executable, *command]
    environment = surroundings(folder, **more)
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
