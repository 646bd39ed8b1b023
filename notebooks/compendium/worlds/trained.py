# SPDX-License-Identifier: MIT
"""What worlds share whose experts are made here: bases and experts lie in the cache of their profile."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from torch import Tensor

from compendium import costs, machine, paths
from compendium.profiles import Profile
from compendium.worlds import inventory
from compendium.worlds.findings import Finding, size
from compendium.worlds.inventory import Expert
from compendium.worlds.protocol import Need, suite
from tsvlib import checkpoints


class TrainedHere(ABC):
    """Base and experts of every backbone as files of the cache."""

    stated = ""
    published = False

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
        """Return the checkpoint of an expert, which was made here; InputError where it is missing or damaged."""
        file = inventory.path(self.profile, Expert(backbone, task, seed))
        checkpoints.verify(file, f"{self.remedy()} again" if file.exists() else self.remedy())
        return file

    def remedy(self) -> str:
        """Return what to type about a missing or broken expert."""
        return inventory.remedy(self.profile, "read it" if self.published else "train it")

    def kept_experts(self) -> Iterator[Need]:
        """Yield which experts are there, whatever their content, and which are still to be made."""
        for backbone in self.profile.backbones:
            for seed in backbone.seeds:
                for task in suite(self.profile, self.profile.tasks):
                    file = inventory.path(self.profile, Expert(backbone.name, task, seed))
                    yield Need("expert", f"{task}, seed {seed}", self._look(file, backbone.name), backbone.name)

    def kept_rest(self) -> Iterator[Need]:
        """Yield how much of what a whole run keeps in the cache is not there yet, where a whole run was measured."""
        whole, folder = costs.of(self.profile.name).cache, paths.cache(self.profile.name)
        # A first suite alone takes little, and what another part takes was not measured.
        if whole is not None and not self.profile.part and self.profile != self.profile.first_suite():
            there = machine.held(folder)
            told, left = f"{size(there)} of about {size(whole)} in {folder}", max(0, whole - there)
            yield Need("cache", "", Finding("made later" if left else "present", told, left))

    def expert_size(self, backbone: str) -> int | None:  # noqa: ARG002
        """Return how many bytes an expert takes, where that is known before there is one and not part of the rest."""
        return None

    def _look(self, file: Path, backbone: str) -> Finding:
        if file.is_file():
            return Finding("present", f"in {file.parent}", file.stat().st_size)
        return Finding("made later", f"in {file.parent}", self.expert_size(backbone))

    def _written_base(self, backbone: str) -> Path:
        file = paths.cache(self.profile.name) / "bases" / f"{backbone}.safetensors"
        state = self.start(backbone)
        recipe = {"backbone": backbone, "state": checkpoints.state_digest(state)}
        if not inventory.is_current(file, recipe):
            checkpoints.save(file, state, recipe)
        return file
