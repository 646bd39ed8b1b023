# SPDX-License-Identifier: MIT
"""Test-time adaptation: how much of each task goes into each tensor, learnt from inputs without labels (App. D.2.7).

The objective is AdaMerging's (Yang et al.): a merged model that predicts with little entropy tends to predict well.
Its layer-wise form has a coefficient for each task and tensor, its task-wise form one for each task. Labels have no
place in the interface. Nothing here knows of models or files. What tasks add to a tensor is asked for whenever it is
needed, also on the way back to the coefficients, so that memory holds that of one tensor at a time.
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
    """How coefficients are learnt: steps of Adam, its learning rate, inputs of every task in each step.

    InputError for no step, no input, or a rate below zero.
    """

    steps: int = 50
    learning_rate: float = 0.005
    batch: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if min(self.steps, self.batch) < 1 or not self.learning_rate >= 0:
            raise InputError(f"test-time adaptation cannot take {self}; give one step or more and a rate of 0 or more.")


PROTOCOL = Settings()
"""As fixed in ``data/mini/README.md`` before anything was adapted."""


class Adapted(NamedTuple):
    """What adaptation found, with entropies in nats, as means over tasks."""

    coefficients: Float[Tensor, "tasks tensors"]
    """One for each task and tensor, tensors in the order of the base; or one for each task, in a single column."""
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
    together: int | None = None,
    taskwise: bool = False,
) -> Adapted:
    """Return the coefficients of ``parts``, all ``start`` at first, that lower the mean entropy of predictions.

    Coefficients are free, not clamped; if ``taskwise``, all tensors of a task share one. The seed drives the draws of
    inputs and nothing else is random. All inputs are encoded ``together`` at a time, or those of a task at once.

    Raises:
        InputError: coefficients diverged.
    """
    first = next(iter(base))
    coefficients = base[first].new_full((len(parts(first)), 1 if taskwise else len(base)), start)
    initial = weighted(base, parts, coefficients)
    generator = torch.Generator().manual_seed(seed)
    chosen = [draws(len(task.inputs), settings.batch, settings.steps, generator) for task in tasks]

    def slope(coefficients: Tensor, step: int) -> tuple[float, Tensor]:
        batches = [task._replace(inputs=task.inputs[rows[step]]) for task, rows in zip(tasks, chosen, strict=True)]
        return descent(weighted(base, parts, coefficients), coefficients, batches, encoder)

    curve = _descend(slope, coefficients.requires_grad_(), settings)
    found = coefficients.detach()
    if not found.isfinite().all():
        raise InputError("test-time adaptation diverged: coefficients are infinite or not numbers; lower its rate.")
    state = weighted(base, parts, found)
    with torch.no_grad():
        before, after = (float(entropy(each, tasks, encoder, together)) for each in (initial, state))
    return Adapted(found, initial, state, before, after, curve)


def weighted(base: StateDict, parts: Parts, coefficients: Float[Tensor, "tasks tensors"]) -> dict[str, Tensor]:
    """Return base + the sum over tasks of coefficient * part, tensor by tensor; a single column is that of all."""

    def added(key: str, column: Float[Tensor, " tasks"]) -> Tensor:
        sum_of_parts: Tensor = torch.tensordot(column, parts(key), 1)
        return sum_of_parts

    columns = coefficients.expand(-1, len(base)).unbind(1)
    # Parts are asked for again on the way back instead of being kept.
    return {
        key: start + checkpoint(added, key, column, use_reentrant=False, preserve_rng_state=False)
        for (key, start), column in zip(base.items(), columns, strict=True)
    }


def descent(
    state: StateDict, coefficients: Tensor, tasks: Sequence[Unlabelled], encoder: Encoder
) -> tuple[float, Tensor]:
    """Return the entropy of predictions by weights that depend on coefficients, and its gradient for these.

    One task after the other goes forward and back, so that memory holds what one of them leaves for the way back.
    """
    leaves = {key: tensor.detach().requires_grad_() for key, tensor in state.items()}
    value = 0.0
    for task in tasks:
        share = entropy(leaves, [task], encoder) / len(tasks)
        torch.autograd.backward(share)
        value += float(share.detach())
    used = [key for key, leaf in leaves.items() if leaf.grad is not None]
    gradients = [leaves[key].grad for key in used]
    (found,) = torch.autograd.grad([state[key] for key in used], coefficients, gradients)
    return value, found


def entropy(
    state: StateDict, tasks: Sequence[Unlabelled], encoder: Encoder, together: int | None = None
) -> Float[Tensor, ""]:
    """Return the entropy of predictions in nats: the mean over the inputs of a task, then over tasks.

    Inputs are encoded ``together`` at a time, which bounds memory where no graph is kept, or those of a task at once.
    """

    def features(inputs: Inputs) -> Float[Tensor, "n embed"]:
        step = together or len(inputs)
        return torch.cat([encoder(state, inputs[start : start + step]) for start in range(0, len(inputs), step)])

    # Task by task, since inputs of different tasks need not be of one shape, as texts of different lengths are not.
    logs = ((features(task.inputs) @ task.head.T).log_softmax(1) for task in tasks)
    return torch.stack([-(log.exp() * log).sum(1).mean() for log in logs]).mean()


def draws(n: int, batch: int, steps: int, generator: torch.Generator) -> Int64[Tensor, "steps batch"]:
    """Return the numbers of the inputs of each step: shuffled rounds, each of which takes all n of them once.

    >>> draws(3, 2, 3, torch.Generator().manual_seed(0)).flatten().bincount().tolist()
    [2, 2, 2]
    """
    rounds = [torch.randperm(n, generator=generator) for _ in range(math.ceil(steps * batch / n))]
    return torch.cat(rounds)[: steps * batch].reshape(steps, batch)


def _descend(
    slope: Callable[[Tensor, int], tuple[float, Tensor]], coefficients: Tensor, settings: Settings
) -> list[float]:
    """Change the coefficients by Adam, and return the value of the objective before each step."""
    optimiser = torch.optim.Adam([coefficients], lr=settings.learning_rate)
    curve = []
    for step in range(settings.steps):
        value, coefficients.grad = slope(coefficients, step)
        optimiser.step()
        curve.append(value)
    return curve
