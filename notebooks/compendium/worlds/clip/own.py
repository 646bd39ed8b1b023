# SPDX-License-Identifier: MIT
"""Experts that are trained here, from OpenAI's weights, instead of being read from what others published."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from compendium import gpus
from compendium.profiles import Profile
from compendium.worlds import finetuning, inventory
from compendium.worlds.clip import crops, images, models, precision, splits, training
from compendium.worlds.clip.images import Request
from compendium.worlds.clip.sources import digests
from compendium.worlds.clip.training import Data, Plan, Unfinished
from compendium.worlds.inventory import Expert
from tsvlib import devices, files
from tsvlib.taskvectors import StateDict

CODE = (crops, finetuning, images, models, precision, training)
"""What can change the bytes of an expert."""


class Own:
    """Recipes and training of one's own experts; ``training_images`` of a task come with the request that opens them.

    ``weights`` is the file of OpenAI's whole CLIP, by backbone, of which the base and all heads are made.
    """

    def __init__(
        self,
        profile: Profile,
        training_images: Callable[[str], tuple[Request, Tensor]],
        weights: Callable[[str], Path],
    ) -> None:
        self.profile, self._training_images = profile, training_images
        self._weights = cache(lambda backbone: digests.sha256(weights(backbone)))
        self._data = cache(self._manifest)

    def recipe(self, expert: Expert) -> dict[str, object]:
        """Return what decides an expert's bytes beside the profile; images are counted and named, and not decoded."""
        return {
            "base": self._weights(expert.backbone),
            "data": self._data(expert.task),
            "epochs": self._epochs(expert.task),
            **self._code,
        }

    def train(self, expert: Expert, start: StateDict, head: Float[Tensor, "classes embed"]) -> dict[str, Tensor]:
        """Return the image encoder of an expert after training on a device that is free, or on this CPU.

        Raises:
            InputError: images are missing or damaged, or training diverged.
        """
        request, chosen = self._training_images(expert.task)
        about = dataclasses.asdict(expert) | {"finetuning": dataclasses.asdict(self.profile.finetuning)}
        unfinished = Unfinished(inventory.unfinished(self.profile, expert), about | self.recipe(expert))
        plan = Plan(expert.backbone, self._epochs(expert.task), self.profile.finetuning, expert.seed)
        with gpus.one(self.profile.device) as device, gpus.memory():
            # On a CPU the threads that decode would take time from the one that trains.
            workers = 1 if device.type == "cpu" else devices.default_workers(devices.choose("cpu"))
            return training.finetune(
                start, Data(request.open(), chosen, head), plan, unfinished, device, workers=workers
            )

    def _epochs(self, task: str) -> int:
        return self._training_images(task)[0].task.epochs * self.profile.finetuning.epochs

    def _manifest(self, task: str) -> dict[str, object]:
        request, chosen = self._training_images(task)
        words = json.dumps([request.task.classes, request.task.templates])
        read = {"reader": request.reader, "head": hashlib.sha256(words.encode()).hexdigest()}
        return {**splits.manifest(request.open(), chosen), **read}

    @cached_property
    def _code(self) -> dict[str, str]:
        return {Path(str(module.__file__)).name: files.sha256(Path(str(module.__file__))) for module in CODE}
