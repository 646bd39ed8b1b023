# SPDX-License-Identifier: MIT
"""The tasks of the mini world: twenty kinds of pictures, and the captioned world of the base models.

``sources`` divides what packages ship into disjoint pools, ``canvas``, ``glyphs``, ``drawings``, ``patterns`` and
``photographic`` draw single images, ``families`` names them, ``shifts`` gives each task its look, ``tasks`` is the
registry, ``store`` keeps drawn splits on disk, and ``world`` captions images for pretraining.
"""

from compendium.worlds.mini.datasets.store import cached
from compendium.worlds.mini.datasets.tasks import TASKS, Task, load

__all__ = ["TASKS", "Task", "cached", "load"]
