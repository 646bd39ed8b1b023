# SPDX-License-Identifier: MIT
"""Training of a tiny CLIP on few images, here or in a process that kills itself at a stated image."""

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compendium.profiles import Finetuning
from compendium.worlds.clip import training
from compendium.worlds.clip.pictures import Pictures
from compendium.worlds.clip.training import Data, Plan, Unfinished
from tsvlib import checkpoints

try:
    from . import real_checkpoints
except ImportError:  # in a process of its own, which finds both in one folder
    import real_checkpoints

BACKBONE, EPOCHS, COUNT = "ViT-B-32", 3, 10
SETTINGS = Finetuning(epochs=1, batch_size=4, learning_rate=3e-3, weight_decay=0.1, warmup_steps=2, clip_norm=1.0)
CHOSEN = torch.tensor([11, 0, 3, 2, 8, 5, 7, 9, 1, 4])
CPU = torch.device("cpu")
PLAN = Plan(BACKBONE, EPOCHS, SETTINGS, 0)


def picture(number: int) -> Image.Image:
    """Return a dark image for an even number and a bright one for an odd one, in an odd size."""
    noise = np.random.default_rng(number).integers(0, 60, (33 + number % 4, 40 + number % 3, 3))
    return Image.fromarray(np.asarray(noise + 150 * (number % 2), np.uint8))


def pictures(killed_at: int = -1, error: BaseException | None = None) -> Pictures:
    """Return twelve images of two classes; the one that is decoded as number ``killed_at`` ends the process.

    With ``error`` that is raised instead.
    """
    decoded: list[int] = []

    def image(number: int) -> Image.Image:
        decoded.append(number)
        if len(decoded) - 1 == killed_at:
            if error:
                raise error
            os.kill(os.getpid(), signal.SIGKILL)
        return picture(number)

    return Pictures(torch.arange(12) % 2, [f"{number}.png" for number in range(12)], image)


def data(shown: Pictures | None = None) -> Data:
    return Data(shown or pictures(), CHOSEN, 10 * real_checkpoints.head(BACKBONE, "Cars", 2))


def train(folder: Path, shown: Pictures | None = None, workers: int = 1, **changes: Any) -> dict[str, Tensor]:
    """Return the encoder after training, in the midst of which ``folder/expert.unfinished`` keeps how far it is."""
    recipe = changes.pop("recipe", {"of": "this test"})
    plan = dataclasses.replace(PLAN, **changes)
    unfinished = Unfinished(folder / "expert.unfinished", recipe)
    start = real_checkpoints.encoder(BACKBONE, None)
    return training.finetune(start, data(shown), plan, unfinished, CPU, workers=workers)


def main(folder: str, killed_at: str) -> None:
    """Train and write the digest of what comes out, or be killed."""
    with real_checkpoints.tiny_backbones(Path(folder) / "described"):
        sys.stdout.write(checkpoints.state_digest(train(Path(folder), pictures(int(killed_at)))))
