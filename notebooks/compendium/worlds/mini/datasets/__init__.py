# SPDX-License-Identifier: MIT
"""The mini world: twenty image-classification tasks, and the captioned world of the base models.

``sources`` divides what packages ship into disjoint pools, ``canvas``, ``glyphs``, ``drawings``, ``patterns`` and
``photographic`` draw single images, ``families`` names them, ``shifts`` gives each task its look, ``tasks`` is the
registry, ``store`` keeps drawn splits on disk, and ``world`` captions images for pretraining.
"""

from compendium.worlds.mini.datasets.store import cached, digest
from compendium.worlds.mini.datasets.tasks import (
    SPLITS,
    SUITES,
    TASKS,
    Split,
    SplitName,
    Task,
    load,
    split_digest,
    suite,
)

__all__ = [
    "SPLITS",
    "SUITES",
    "TASKS",
    "Split",
    "SplitName",
    "Task",
    "cached",
    "digest",
    "load",
    "split_digest",
    "suite",
]
