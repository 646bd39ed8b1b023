# SPDX-License-Identifier: MIT
"""Fine-tuning of the image encoder of a mini CLIP against a frozen zero-shot head."""

import copy

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from compendium.profiles import Finetuning
from compendium.worlds import finetuning
from compendium.worlds.mini import models

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

    The base and the head stay as they are; every image is moved a little each time, as the seed has it. Training that
    diverges is an InputError.
    """
    visual = copy.deepcopy(base.visual).train().requires_grad_(True)

    def loss(chosen: Int64[Tensor, " batch"], generator: torch.Generator) -> Float[Tensor, ""]:
        shifted = shift(images[chosen], generator)
        features = visual(models.preprocess(shifted, models.image_size(base.visual)))
        logits = torch.nn.functional.normalize(features, dim=-1) @ head.T
        return torch.nn.functional.cross_entropy(logits, labels[chosen])

    finetuning.finetune(visual, loss, len(images), settings, seed)
    return {f"visual.{key}": tensor.detach() for key, tensor in visual.state_dict().items()}


def shift(images: UInt8[Tensor, "n 3 rows cols"], generator: torch.Generator) -> UInt8[Tensor, "n 3 rows cols"]:
    """Return the images, each moved by up to one pixel in each direction with its border repeated."""
    n, _, rows, cols = images.shape
    moves = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (2, n, 1), generator=generator)
    down = (torch.arange(rows) + moves[0]).clamp(0, rows - 1)
    right = (torch.arange(cols) + moves[1]).clamp(0, cols - 1)
    moved = images[torch.arange(n)[:, None, None], :, down[:, :, None], right[:, None, :]]
    return moved.permute(0, 3, 1, 2)
