# SPDX-License-Identifier: MIT
"""Labels of copies in the order of our classes, which are found by their names and never guessed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from compendium.worlds.clip.registry import Task
from tsvlib.errors import InputError


def in_order(
    task: Task, numbers: "np.ndarray[Any, np.dtype[Any]]", names: Sequence[str] | None, place: Path
) -> Int64[Tensor, " n"]:
    """Return labels in the order of a task's classes, from those in the order of ``names``.

    Without names, or where these only repeat the numbers, labels are taken as they are. ``place`` is what to name when
    something is wrong.

    Raises:
        InputError: labels are no whole numbers or out of range, or names are not those of the classes, each once.
    """
    if numbers.dtype.kind not in "biu":
        raise InputError(f"{place}: its labels are no whole numbers; check that this is {task.title}.")
    labels = torch.from_numpy(numbers.astype(np.int64))
    order = torch.tensor(_order(task, names, place))
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(order):
        raise InputError(f"{place}: a label is not in 0 to {len(order) - 1}; check that this is {task.title}.")
    return order[labels]


def _order(task: Task, names: Sequence[str] | None, place: Path) -> list[int]:
    """Return the number of the task's class for each class of a copy."""
    count = len(task.classes)
    if names is None or list(names) == [str(number) for number in range(count)]:
        return list(range(count))
    known = {_plain(name): index for index, name in enumerate(task.classes)}
    known |= {_plain(theirs): known[_plain(ours)] for theirs, ours in task.also}
    for name in names:
        if _plain(name) not in known:
            raise InputError(
                f"{place}: its class {name!r} is none of {task.title}; if it is one, say so by 'also' in tasks.toml."
            )
    order = [known[_plain(name)] for name in names]
    if sorted(order) != list(range(count)):
        raise InputError(f"{place}: its {len(names)} classes are not the {count} of {task.title}, each once.")
    return order


def _plain(name: str) -> str:
    """Return a name without what copies write differently.

    >>> _plain("T-shirt/top") == _plain("t_shirt - Top")
    True
    """
    return re.sub(r"[\W_]+", "", name.casefold())
