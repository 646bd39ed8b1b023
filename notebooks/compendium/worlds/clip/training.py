# SPDX-License-Identifier: MIT
"""Fine-tuning of a CLIP's image encoder against a frozen zero-shot head, by the protocol of the published experts.

The steps are those of :mod:`compendium.worlds.finetuning`, which has all inputs in memory, one device and no need to
stop. Here images are decoded anew in every epoch, a batch may be too large for a device, and hours of work are kept:
after each epoch in a file, from which a run that was killed continues to what it would have come to anyway.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from open_clip.transformer import VisionTransformer
from torch import Tensor

from compendium.profiles import Finetuning
from compendium.worlds import finetuning
from compendium.worlds.clip import crops, models, precision
from compendium.worlds.clip.pictures import Pictures
from tsvlib import checkpoints, devices, progress
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

TOGETHER: Mapping[str, int] = {"ViT-B-16": 32, "ViT-L-14": 16}
"""Images that one pass takes of a batch, by backbone, so that a GPU with 16 GB holds them; others take all."""

MODEL, OPTIMISER, EPOCH = "visual.", "optimiser.", "epoch"
"""How names begin of what is kept, and under which key of the recipe stands how many epochs are done."""


@dataclass(frozen=True)
class Data:
    """Original images, which of them train, in order, and the frozen head of their task."""

    pictures: Pictures
    chosen: Int64[Tensor, " n"]
    head: Float[Tensor, "classes embed"]


@dataclass(frozen=True)
class Plan:
    """How to train one expert; ``epochs`` are those of its task, in the place of what ``settings`` say."""

    backbone: str
    epochs: int
    settings: Finetuning
    seed: int


@dataclass(frozen=True)
class Unfinished:
    """The file that keeps a training which is not at its end, and all that decides the bytes of its outcome."""

    file: Path
    recipe: Mapping[str, object]


def finetune(
    start: StateDict, data: Data, plan: Plan, unfinished: Unfinished, device: torch.device, workers: int = 1
) -> dict[str, Tensor]:
    """Return the image encoder's parameters (``visual.*``, float32) after training on one task.

    The same arguments give the same bytes on the same CPU, however often training was interrupted and whatever number
    of ``workers`` decode images. On a GPU the last bits may differ, as sums there have no fixed order.

    Raises:
        InputError: training diverged, or an image is damaged.
    """
    own = {key: tensor.clone() for key, tensor in start.items()}
    visual = models.image_encoder(plan.backbone, own).to(device).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(visual.parameters(), weight_decay=plan.settings.weight_decay, fused=True)
    with devices.exact(), precision.computing(device, torch.float32):
        for epoch in range(_restored(visual, optimiser, unfinished), plan.epochs):
            _train_once(visual, optimiser, data, plan, epoch, workers)
            _check(visual)
            if epoch + 1 < plan.epochs:
                _keep(visual, optimiser, unfinished, epoch + 1)
            progress.say(f"{unfinished.file.stem}: epoch {epoch + 1} of {plan.epochs} is done")
    return _parameters(visual)


def _train_once(
    visual: VisionTransformer, optimiser: torch.optim.Optimizer, data: Data, plan: Plan, epoch: int, workers: int
) -> None:
    """Show all images once."""
    settings, size = plan.settings, models.image_size(plan.backbone)
    head = data.head.to(visual.proj.device)
    per_epoch = math.ceil(len(data.chosen) / settings.batch_size)
    with closing(crops.epoch(data.pictures, data.chosen, size, plan.seed, epoch, workers)) as seen:
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            rate = finetuning.schedule(step, plan.epochs * per_epoch, settings.warmup_steps)
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * rate
            _add_gradients(visual, head, data, islice(seen, settings.batch_size), TOGETHER.get(plan.backbone))
            torch.nn.utils.clip_grad_norm_(visual.parameters(), settings.clip_norm)
            optimiser.step()
            optimiser.zero_grad()


def _add_gradients(
    visual: VisionTransformer,
    head: Float[Tensor, "classes embed"],
    data: Data,
    batch: Iterable[tuple[int, Tensor]],
    together: int | None,
) -> None:
    """Add up the gradients of the mean loss of a batch, so many images at a time."""
    places, images = zip(*batch, strict=True)
    labels, pixels = data.pictures.labels[data.chosen[list(places)]], torch.stack(images)
    parts = (torch.split(each, together or len(pixels)) for each in (pixels, labels))
    for some, wanted in zip(*parts, strict=True):
        logits = models.encode(visual, some) @ head.T
        loss = torch.nn.functional.cross_entropy(logits, wanted.to(head.device), reduction="sum") / len(pixels)
        torch.autograd.backward(loss)


def _check(visual: VisionTransformer) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in visual.parameters()):
        raise InputError("fine-tuning diverged: weights are infinite or not numbers; lower 'learning_rate'.")


def _parameters(visual: VisionTransformer) -> dict[str, Tensor]:
    return {f"{MODEL}{key}": tensor.detach().cpu() for key, tensor in visual.state_dict().items()}


def _keep(visual: VisionTransformer, optimiser: torch.optim.Optimizer, unfinished: Unfinished, epochs: int) -> None:
    """Write all that the epochs to come need: weights and the optimiser's state. What is random needs no state."""
    moments = {
        f"{OPTIMISER}{number}.{name}": tensor.cpu()
        for number, state in optimiser.state_dict()["state"].items()
        for name, tensor in state.items()
    }
    checkpoints.save(unfinished.file, _parameters(visual) | moments, {**unfinished.recipe, EPOCH: epochs})


def _restored(visual: VisionTransformer, optimiser: torch.optim.Optimizer, unfinished: Unfinished) -> int:
    """Take up what is kept of the same training, and return how many epochs are done."""
    if not unfinished.file.exists():
        return 0
    try:
        recipe = checkpoints.recipe(unfinished.file)
        epochs = int(recipe.pop(EPOCH, 0))
        kept = checkpoints.load(unfinished.file) if recipe == unfinished.recipe else {}
    except InputError:
        kept = {}
    if not kept:
        return 0
    visual.load_state_dict({key.removeprefix(MODEL): kept[key] for key in kept if key.startswith(MODEL)})
    states: dict[int, dict[str, Tensor]] = {}
    for key in kept:
        if key.startswith(OPTIMISER):
            number, name = key.removeprefix(OPTIMISER).split(".")
            states.setdefault(int(number), {})[name] = kept[key]
    optimiser.load_state_dict(optimiser.state_dict() | {"state": states})
    return epochs
