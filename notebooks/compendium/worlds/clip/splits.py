# SPDX-License-Identifier: MIT
"""Which images of a data set train, validate and test, by the rule of the paper's code; lists that let others check it."""

import hashlib

import torch
from jaxtyping import Int64
from torch import Tensor

from compendium.worlds.clip.registry import Task

SEED = 0


def shared_out(task: Task) -> tuple[Int64[Tensor, " train"], Int64[Tensor, " validation"]]:
    """Return which images of the pool train, and which validate: the last ones of a random order of all.

    >>> from compendium.worlds.clip.registry import tasks
    >>> int(shared_out(tasks()["MNIST"])[0][0])
    36044
    """
    order = torch.randperm(task.pool, generator=torch.Generator().manual_seed(SEED))
    return order[: task.pool - task.validation], order[task.pool - task.validation :]


def digest(indices: Int64[Tensor, " n"]) -> str:
    """Return the SHA-256 of a list of images, as decimal numbers with a line for each."""
    return hashlib.sha256("".join(f"{index}\n" for index in indices.tolist()).encode()).hexdigest()
