# SPDX-License-Identifier: MIT
"""The twenty tasks in their fixed order, and their texts, which lie in ``data/minilm``."""

import hashlib
import io
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pandas as pd

from compendium import profiles, provenance
from compendium.worlds.findings import Finding
from compendium.worlds.protocol import SPLITS, SplitName
from tsvlib.errors import InputError

FOLDER = profiles.folder("minilm") / "texts"


@dataclass(frozen=True)
class Task:
    """One classification task of texts; ``descriptions`` says in plain words what each class is."""

    name: str
    title: str
    source: str
    licence: str
    real: bool
    descriptions: Mapping[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in label order."""
        return tuple(self.descriptions)


def _tasks() -> dict[str, Task]:
    content = tomllib.loads((FOLDER.parent / "tasks.toml").read_text(encoding="utf-8"))
    rows = ((row.pop("classes"), row) for row in content["task"])
    return {row["name"]: Task(**row, descriptions=classes) for classes, row in rows}


TASKS: dict[str, Task] = _tasks()
"""All tasks by name; the suites are the first ones."""


@dataclass(frozen=True)
class Texts:
    """Texts of one split, their labels, the SHA-256 of both, and the group of related texts that each is from."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    digest: str
    sources: tuple[str, ...]


def load(name: str, split: SplitName, count: int | None = None) -> Texts:
    """Return one split of a task, at most its first ``count`` texts; classes take turns, so these are balanced, too.

    Args:
        name: a task of ``TASKS``; an unknown one raises ``InputError``.
        split: ``train``, ``validation`` or ``test``; their groups are disjoint.
        count: the most texts that are wanted; some splits have fewer.
    """
    if name not in TASKS:
        raise InputError(f"unknown task {name}: choose one of {', '.join(TASKS)}")
    rows = _shipped(name)[split][:count]
    provenance.note(FOLDER / f"{name}.csv")
    texts, labels = tuple(rows["text"]), tuple(TASKS[name].classes.index(label) for label in rows["label"])
    content = hashlib.sha256("".join(f"{label}\t{text}\n" for text, label in zip(texts, labels, strict=True)).encode())
    return Texts(texts, labels, content.hexdigest(), tuple(rows["group"]))


def look(name: str) -> Finding:
    """Return whether the texts of a task are those whose digests were committed with them."""
    file, digests = FOLDER / f"{name}.csv", tomllib.loads((FOLDER.parent / "digests.toml").read_text(encoding="utf-8"))
    if not file.is_file():
        return Finding("missing", f"{file}: the texts are missing; restore them from git.")
    try:
        are_same = all(load(name, split).digest == digests[name][split] for split in SPLITS)
    except (ValueError, KeyError):
        are_same = False
    if not are_same:
        return Finding("wrong", f"{file}: these are not the texts of this checkout; restore them from git.")
    return Finding("present", f"in {FOLDER}", file.stat().st_size)


@cache
def _shipped(name: str) -> dict[SplitName, pd.DataFrame]:
    """Return the rows of a task by split; what looks like a missing value or a number is text."""
    content = (FOLDER / f"{name}.csv").read_text(encoding="utf-8")
    frame = pd.read_csv(io.StringIO(content), dtype=str, keep_default_na=False)
    return {split: frame[frame["split"] == split].reset_index(drop=True) for split in SPLITS}
