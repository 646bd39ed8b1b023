# SPDX-License-Identifier: MIT
"""Test-time adaptation: how much of each task goes into each tensor, learnt from inputs without labels (App. D.2.7).

The objective is AdaMerging's (Yang et al.): a merged model that predicts with little entropy tends to predict well.
Labels have no place in the interface. Nothing here knows of models or files. What tasks add to a tensor is asked for
whenever it is needed, also on the way back to the coefficients, so that memory holds that of one tensor at a time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from compendium.worlds.protocol import Inputs
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

Encoder = Callable[[StateDict, Tensor], Tensor]
"""From weights and inputs to one row of features per input, differentiable with respect to the weights."""

Parts = Callable[[str], Shaped[Tensor, "tasks ..."]]
"""From the name of a tensor to what each task adds to it."""


class Unlabelled(NamedTuple):
    """Inputs of one task, and the zero-shot head whose products with features are their logits."""

    inputs: Inputs
    head: Float[Tensor, "classes embed"]


@dataclass(frozen=True)
class Settings:
    """How coefficients are learnt: steps of Adam, its learning rate, inputs of every task in each step."""

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
    """Entropy on all inputs with the coefficients at the start."""
    after: float
    """Entropy on all inputs with the coefficients found."""
    curve: list[float]
    """Entropy on the inputs of each step, before it."""


def adapt(
    base: StateDict,
    parts: Parts,
    tasks: Sequence[Unlabelled],
    encoder: Encoder,
    *,
    start: float,
    seed: int,
    settings: Settings = PROTOCOL,
) -> Adapted:
    """Return the coefficients of ``parts``, all ``start`` at first, that lower the mean entropy of predictions.

    Coefficients are free, neither clamped nor shared. The seed drives the draws of inputs and nothing else is random.

    Raises:
        InputError: coefficients diverged.
    """
    first = next(iter(base))
    coefficients = base[first].new_full((len(parts(first)), len(base)), start)
    initial = weighted(base, parts, coefficients)
    generator = torch.Generator().manual_seed(seed)
    chosen = [draws(len(task.inputs), settings.batch, settings.steps, generator) for task in tasks]

    def objective(coefficients: Tensor, step: int) -> Tensor:
        batches = [task._replace(inputs=task.inputs[rows[step]]) for task, rows in zip(tasks, chosen, strict=True)]
        return entropy(weighted(base, parts, coefficients), batches, encoder)

    curve = _descend(objective, coefficients.requires_grad_(), settings)
    found = coefficients.detach()
    if not found.isfinite().all():
        raise InputError("test-time adaptation diverged: coefficients are infinite or not numbers; lower its rate.")
    state = weighted(base, parts, found)
    before, after = (_mean_entropy(each, tasks, encoder) for each in (initial, state))
    return Adapted(found, initial, state, before, after, curve)


def weighted(base: StateDict, parts: Parts, coefficients: Float[Tensor, "tasks tensors"]) -> dict[str, Tensor]:
    """Return base + the sum over tasks of coefficient * part, tensor by tensor."""

    def added(key: str, column: Float[Tensor, " tasks"]) -> Tensor:
        sum_of_parts: Tensor = torch.tensordot(column, parts(key), 1)
        return sum_of_parts

    # Parts are asked for again on the way back instead of being kept.
    return {
        key: start + checkpoint(added, key, column, use_reentrant=False, preserve_rng_state=False)
        for (key, start), column in zip(base.items(), coefficients.unbind(1), strict=True)
    }


def entropy(state: StateDict, tasks: Sequence[Unlabelled], encoder: Encoder) -> Float[Tensor, ""]:
    """Return the entropy of predictions in nats: the mean over the inputs of a task, then over tasks."""
    # Task by task, since inputs of different tasks need not be of one shape, as texts of different lengths are not.
    logs = [(encoder(state, task.inputs[:]) @ task.head.T).log_softmax(1) for task in tasks]
    return torch.stack([-(log.exp() * log).sum(1).mean() for log in logs]).mean()


def draws(n: int, batch: int, steps: int, generator: torch.Generator) -> Int64[Tensor, "steps batch"]:
    """Return the numbers of the inputs of each step: shuffled rounds, each of which takes all n of them once.

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
    """Return the entropy on all inputs, one task at a time to bound memory."""
    return sum(float(entropy(state, [task], encoder)) for task in tasks) / len(tasks)
