# SPDX-License-Identifier: MIT
"""The paper's twenty tasks in its order, which ``data/clip/tasks.toml`` lists with all that decides their heads."""

import dataclasses
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from compendium import profiles, provenance
from compendium.worlds.clip.options import Options

REGISTRY = profiles.folder("clip") / "tasks.toml"

MOST_VALIDATION = 5000
SHARE = 0.1
"""Of the images that training and validation share, validation has this part, but no more than the number above."""

OPTIONS = "options"
"""The key below which the registry says what a value of an option changes."""


@dataclass(frozen=True)
class Task:
    """One data set as the paper has it; ``pool`` and ``test`` are numbers of images, ``epochs`` those of its experts.

    The last ``own_validation`` images of the pool validate where the data set has a validation part of its own, as
    EuroSAT in the paper. ``also`` are other names of classes, each with the one in ``classes``, ``hub`` is a copy.
    """

    name: str
    title: str
    epochs: int
    pool: int
    test: int
    licence: str
    templates: tuple[str, ...]
    classes: tuple[str, ...]
    also: tuple[tuple[str, str], ...] = ()
    hub: str | None = None
    own_validation: int = 0
    real: bool = True

    @property
    def source(self) -> str:
        """Return where its images come from."""
        return f"the data set {self.title}"

    @property
    def validation(self) -> int:
        """Return how many images of the pool are kept for validation."""
        return self.own_validation or min(int(SHARE * self.pool), MOST_VALIDATION)


@cache
def tasks() -> dict[str, Task]:
    """Return all tasks by name, as the first value of each option has them; the suites are the first ones."""
    return {
        name: Task(name, **_frozen({key: value for key, value in row.items() if key != OPTIONS}))
        for name, row in _content().items()
    }


def with_options(task: Task, options: Options) -> Task:
    """Return a task as options have it: other classes, prompts, title, copy or numbers of images.

    ``emnist`` changes all of these, ``fer2013_names`` the classes, ``stl10_templates`` the prompts. The others decide
    which images there are or how they lie, which is up to :mod:`splits` and the readers.
    """
    changes = _content().get(task.name, {}).get(OPTIONS, {})
    for option, chosen in dataclasses.asdict(options).items():
        task = dataclasses.replace(task, **_frozen(changes.get(option, {}).get(chosen, {})))
    return task


@cache
def _content() -> dict[str, dict[str, Any]]:
    return tomllib.loads(provenance.read(REGISTRY).decode())


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a table holds with tuples in the place of lists."""
    return {key: _tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def _tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple(_tuple(value) if isinstance(value, list) else value for value in values)
