# SPDX-License-Identifier: MIT
"""What worlds share whose experts are trained here: bases and experts lie in the cache of their profile."""

from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path

from torch import Tensor

from compendium import paths
from compendium.profiles import Profile
from compendium.worlds import inventory
from compendium.worlds.inventory import Expert
from tsvlib import checkpoints


class TrainedHere(ABC):
    """Base and experts of every backbone as files of the cache."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._base = cache(self._written_base)

    @abstractmethod
    def start(self, backbone: str) -> dict[str, Tensor]:
        """Return the tensors that training changes, as they are before it."""

    def base(self, backbone: str) -> Path:
        """Return the checkpoint of what training starts from (float32), which is written if it is not there."""
        return self._base(backbone)

    def expert(self, backbone: str, task: str, seed: int) -> Path:
        """Return the checkpoint of an expert, which was trained here; InputError where it is missing or damaged."""
        file = inventory.path(self.profile, Expert(backbone, task, seed))
        checkpoints.verify(file, inventory.remedy(self.profile, "train it again" if file.exists() else "train it"))
        return file

    def remedy(self) -> str:
        """Return what to type about a missing or broken expert."""
        return inventory.remedy(self.profile)

    def _written_base(self, backbone: str) -> Path:
        file = paths.cache(self.profile.name) / "bases" / f"{backbone}.safetensors"
        state = self.start(backbone)
        recipe = {"backbone": backbone, "state": checkpoints.state_digest(state)}
        if not inventory.is_current(file, recipe):
            checkpoints.save(file, state, recipe)
        return file
