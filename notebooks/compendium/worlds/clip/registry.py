# SPDX-License-Identifier: MIT
"""The paper's twenty tasks in its order, which ``data/clip/tasks.toml`` lists with all that decides their heads."""

import tomllib
from dataclasses import dataclass
from functools import cache

from compendium import profiles, provenance

REGISTRY = profiles.folder("clip") / "tasks.toml"

MOST_VALIDATION = 5000
SHARE = 0.1
"""Of the images that training and validation share, validation has this part, but no more than the number above."""


@dataclass(frozen=True)
class Task:
    """One data set as the paper has it; ``pool`` and ``test`` are numbers of images, ``epochs`` those of its experts."""

    name: str
    title: str
    epochs: int
    pool: int
    test: int
    licence: str
    templates: tuple[str, ...]
    classes: tuple[str, ...]
    hub: str | None = None
    real: bool = True

    @property
    def source(self) -> str:
        """Return where its images come from."""
        return f"the data set {self.title}"

    @property
    def validation(self) -> int:
        """Return how many images of the pool are kept for validation."""
        return min(int(SHARE * self.pool), MOST_VALIDATION)


@cache
def tasks() -> dict[str, Task]:
    """Return all tasks by name; the suites are the first ones."""
    content = tomllib.loads(provenance.read(REGISTRY).decode())
    return {
        name: Task(name, **row | {"templates": tuple(row["templates"]), "classes": tuple(row["classes"])})
        for name, row in content.items()
    }
