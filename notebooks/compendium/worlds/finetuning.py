# SPDX-License-Identifier: MIT
"""Fine-tuning of one expert by the protocol of all worlds: AdamW, linear warm-up, cosine to zero, one thread."""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from compendium.profiles import Finetuning
from tsvlib.errors import InputError

Loss = Callable[[Int64[Tensor, " batch"], torch.Generator], Float[Tensor, ""]]
"""From the numbers of the inputs of one step, and what drives all that is random about them, to their mean loss."""


def finetune(module: torch.nn.Module, loss: Loss, n: int, settings: Finetuning, seed: int) -> None:
    """Train all parameters of a module that ask for gradients, on ``n`` inputs.

    The seed drives the order of the inputs and what the loss makes random, and nothing else is random: same arguments
    on the same machine, same bytes. Runs on one thread, because the sums of several depend on their number.

    Raises:
        InputError: training diverged.
    """
    with _one_thread():
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.AdamW(trained, weight_decay=settings.weight_decay, fused=True)
        steps = settings.epochs * math.ceil(n / settings.batch_size)
        for step, chosen in enumerate(_batches(n, settings, generator)):
            rate = settings.learning_rate * schedule(step, steps, settings.warmup_steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            torch.autograd.backward(loss(chosen, generator))
            torch.nn.utils.clip_grad_norm_(trained, settings.clip_norm)
            optimiser.step()
            optimiser.zero_grad()
    if not all(parameter.isfinite().all() for parameter in trained):
        raise InputError("fine-tuning diverged: weights are infinite or not numbers; lower 'learning_rate'.")


def schedule(step: int, steps: int, warmup: int) -> float:
    """Return the share of the full learning rate in one step: a linear rise, then a cosine fall towards 0.

    >>> [round(schedule(step, 6, 2), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def _batches(n: int, settings: Finetuning, generator: torch.Generator) -> Iterator[Int64[Tensor, " batch"]]:
    for _ in range(settings.epochs):
        yield from torch.split(torch.randperm(n, generator=generator), settings.batch_size)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
