# SPDX-License-Identifier: MIT
"""Fine-tuning of one expert: AdamW, linear warm-up, cosine to zero, a frozen zero-shot head."""

import contextlib
import copy
import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from compendium.profiles import Finetuning
from compendium.worlds.mini import models
from tsvlib.errors import InputError

LARGEST_SHIFT = 1


def finetune(
    base: models.CLIP,
    head: Float[Tensor, "classes embed"],
    images: UInt8[Tensor, "n 3 rows cols"],
    labels: Int64[Tensor, " n"],
    settings: Finetuning,
    seed: int,
) -> dict[str, Tensor]:
    """Return the image encoder's parameters (``visual.*``, float32) after training on one task.

    The base and the head stay as they are. The seed drives the order of the images and their random shifts, and
    nothing else is random: same arguments on the same machine, same bytes. Runs on one thread, because the sums
    of several depend on their number. Training that diverges is an InputError.
    """
    with _one_thread():
        visual = copy.deepcopy(base.visual).train().requires_grad_(True)
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.AdamW(visual.parameters(), weight_decay=settings.weight_decay, fused=True)
        steps = settings.epochs * math.ceil(len(images) / settings.batch_size)
        batches = _batches(len(images), settings, generator)
        for step, chosen in enumerate(batches):
            rate = settings.learning_rate * schedule(step, steps, settings.warmup_steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            shifted = shift(images[chosen], generator)
            features = visual(models.preprocess(shifted, models.image_size(base.visual)))
            logits = torch.nn.functional.normalize(features, dim=-1) @ head.T
            loss = torch.nn.functional.cross_entropy(logits, labels[chosen])
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(visual.parameters(), settings.clip_norm)
            optimiser.step()
            optimiser.zero_grad()
    if not all(parameter.isfinite().all() for parameter in visual.parameters()):
        raise InputError("fine-tuning diverged: weights are infinite or not numbers; lower 'learning_rate'.")
    return {f"visual.{key}": tensor.detach() for key, tensor in visual.state_dict().items()}


def schedule(step: int, steps: int, warmup: int) -> float:
    """Return the share of the full learning rate in one step: a linear rise, then a cosine fall towards 0.

    >>> [round(schedule(step, 6, 2), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def shift(images: UInt8[Tensor, "n 3 rows cols"], generator: torch.Generator) -> UInt8[Tensor, "n 3 rows cols"]:
    """Return the images, each moved by up to one pixel in each direction with its border repeated."""
    n, _, rows, cols = images.shape
    moves = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (2, n, 1), generator=generator)
    down = (torch.arange(rows) + moves[0]).clamp(0, rows - 1)
    right = (torch.arange(cols) + moves[1]).clamp(0, cols - 1)
    moved = images[torch.arange(n)[:, None, None], :, down[:, :, None], right[:, None, :]]
    return moved.permute(0, 3, 1, 2)


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
