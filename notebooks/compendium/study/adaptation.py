# SPDX-License-Identifier: MIT
"""Test-time adaptation: how much of each task goes into each tensor, learnt from images without labels (App. D.2.7).

The objective is AdaMerging's (Yang et al.): a merged model that predicts with little entropy tends to predict well.
Labels have no place in the interface. Nothing here knows of models or files.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict, check_alike

Encoder = Callable[[StateDict, Tensor], Tensor]
"""From weights and images to one row of features per image, differentiable with respect to the weights."""


class Unlabelled(NamedTuple):
    """Images of one task, and the zero-shot head whose products with features are their logits."""

    images: Shaped[Tensor, "n ..."]
    head: Float[Tensor, "classes embed"]


@dataclass(frozen=True)
class Settings:
    """How coefficients are learnt: steps of Adam, its learning rate, images of every task in each step."""

    steps: int = 50
    learning_rate: float = 0.005
    batch: int = 16


PROTOCOL = Settings()
"""As fixed in ``data/mini/README.md`` before anything was adapted."""


class Adapted(NamedTuple):
    """What adaptation found, with entropies in nats, as means over tasks."""

    coefficients: Float[Tensor, "tasks tensors"]
    """One for each task and tensor, tensors in the order of the base."""
    initial: dict[str, Tensor]
    """Weights with the coefficients at the start."""
    state: dict[str, Tensor]
    """Weights with the coefficients found."""
    before: float
    """Entropy on all images with the coefficients at the start."""
    after: float
    """Entropy on all images with the coefficients found."""
    curve: list[float]
    """Entropy on the images of each step, before it."""


def adapt(
    base: StateDict,
    parts: Sequence[StateDict],
    tasks: Sequence[Unlabelled],
    encoder: Encoder,
    *,
    start: float,
    seed: int,
    settings: Settings = PROTOCOL,
) -> Adapted:
    """Return the coefficients of ``parts``, all ``start`` at first, that lower the mean entropy of predictions.

    Coefficients are free, neither clamped nor shared. The seed drives the draws of images and nothing else is random.
    With the parts of all tasks as one stack per tensor, memory holds them once more.

    Raises:
        InputError: base and parts have different keys or shapes, or coefficients diverged.
    """
    for number, part in enumerate(parts, start=1):
        check_alike(base, part, "the base", f"the part of task {number}")
    stacks = {key: torch.stack([part[key] for part in parts]) for key in base}
    coefficients = next(iter(base.values())).new_full((len(parts), len(base)), start)
    initial = weighted(base, stacks, coefficients)
    generator = torch.Generator().manual_seed(seed)
    chosen = [draws(len(task.images), settings.batch, settings.steps, generator) for task in tasks]

    def objective(coefficients: Tensor, step: int) -> Tensor:
        batches = [task._replace(images=task.images[rows[step]]) for task, rows in zip(tasks, chosen, strict=True)]
        return entropy(weighted(base, stacks, coefficients), batches, encoder)

    curve = _descend(objective, coefficients.requires_grad_(), settings)
    found = coefficients.detach()
    if not found.isfinite().all():
        raise InputError("test-time adaptation diverged: coefficients are infinite or not numbers; lower its rate.")
    state = weighted(base, stacks, found)
    before, after = (_mean_entropy(each, tasks, encoder) for each in (initial, state))
    return Adapted(found, initial, state, before, after, curve)


def weighted(
    base: StateDict, stacks: Mapping[str, Tensor], coefficients: Float[Tensor, "tasks tensors"]
) -> dict[str, Tensor]:
    """Return base + the sum over tasks of coefficient * part, tensor by tensor; a stack has one row per task."""
    columns = coefficients.unbind(1)
    return {
        key: start + torch.tensordot(column, stacks[key], 1)
        for (key, start), column in zip(base.items(), columns, strict=True)
    }


def entropy(state: StateDict, tasks: Sequence[Unlabelled], encoder: Encoder) -> Float[Tensor, ""]:
    """Return the entropy of predictions in nats: the mean over the images of a task, then over tasks."""
    features = encoder(state, torch.cat([task.images for task in tasks]))
    of_tasks = torch.split(features, [len(task.images) for task in tasks])
    logs = [(mine @ task.head.T).log_softmax(1) for mine, task in zip(of_tasks, tasks, strict=True)]
    return torch.stack([-(log.exp() * log).sum(1).mean() for log in logs]).mean()


def draws(n: int, batch: int, steps: int, generator: torch.Generator) -> Int64[Tensor, "steps batch"]:
    """Return the numbers of the images of each step: shuffled rounds, each of which takes all n of them once.

    >>> draws(3, 2, 3, torch.Generator().manual_seed(0)).flatten().bincount().tolist()
    [2, 2, 2]
    """
    rounds = [torch.randperm(n, generator=generator) for _ in range(math.ceil(steps * batch / n))]
    return torch.cat(rounds)[: steps * batch].reshape(steps, batch)


def _descend(objective: Callable[[Tensor, int], Tensor], coefficients: Tensor, settings: Settings) -> list[float]:
    """Change the coefficients by Adam, and return the value of the objective before each step."""
    optimiser = torch.optim.Adam([coefficients], lr=settings.learning_rate)
    curve = []
    for step in range(settings.steps):
        value = objective(coefficients, step)
        (coefficients.grad,) = torch.autograd.grad(value, coefficients)
        optimiser.step()
        curve.append(float(value.detach()))
    return curve


@torch.no_grad()
def _mean_entropy(state: StateDict, tasks: Sequence[Unlabelled], encoder: Encoder) -> float:
    """Return the entropy on all images, one task at a time to bound memory."""
    return sum(float(entropy(state, [task], encoder)) for task in tasks) / len(tasks)
