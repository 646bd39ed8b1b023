# SPDX-License-Identifier: MIT
"""Where everything lies: one name per folder, no ``..`` anywhere else.

Three environment variables redirect output: ``TSV_OUTPUT`` (another output root, as ``make smoke`` and
``make verify`` use it), ``TSV_STAGE`` (a running notebook writes there first, see :func:`staged`) and
``TSV_PROGRESS`` (see :mod:`tsvlib.progress`).
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""


def output_root() -> Path:
    """Return the folder below which results, figures, caches and executed notebooks are written."""
    return Path(os.environ.get("TSV_OUTPUT") or ROOT).resolve()


def published() -> Path:
    """Return the folder of the numbers that the paper printed, which belong to the checkout."""
    return ROOT / "data" / "published"


def results(profile: str) -> Path:
    """Return the folder of a profile's result tables (CSV with sidecar)."""
    return output_root() / "data" / "results" / profile


def figures(profile: str) -> Path:
    """Return the folder of a profile's figures and printed tables."""
    return output_root() / "figures" / profile


def cache(profile: str) -> Path:
    """Return the folder of everything that can be computed again: experts, evaluations, data sets."""
    return output_root() / "data" / "cache" / profile


def notebooks() -> Path:
    """Return the folder of the executed notebooks; their sources lie in ``ROOT / "notebooks"``."""
    return output_root() / "notebooks"


def build() -> Path:
    """Return the folder of drafts, logs and tool caches, which may be deleted at any time."""
    return ROOT / "build"


def staged(path: Path) -> Path:
    """Return where to write ``path`` now, and make that folder.

    While the runner executes a notebook, this is a place in its stage folder, from which everything moves into
    place together when the notebook has succeeded. Without a runner it is ``path`` itself.

    Raises:
        ValueError: a stage is set and ``path`` lies outside the output root.
    """
    stage = os.environ.get("TSV_STAGE")
    target = Path(stage) / path.resolve().relative_to(output_root()) if stage else path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
