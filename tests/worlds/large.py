# SPDX-License-Identifier: MIT
"""A world of tall matrices, changed in a few directions, whose experts would not fit into memory together."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compendium import paths
from compendium.profiles import Backbone, Finetuning, Profile, Samples
from compendium.worlds.protocol import Features, Need, Split, SplitName
from tsvlib import checkpoints
from tsvlib.taskvectors import StateDict

ROWS, COLUMNS, LAYERS, CLASSES, SAMPLES = 16384, 128, 6, 4, 200
MEGABYTES = ROWS * COLUMNS * LAYERS * 4 / 2**20
"""Of one model."""


def profile(tasks: int) -> Profile:
    samples, backbone = Samples(SAMPLES, SAMPLES, SAMPLES, SAMPLES * tasks), Backbone("tall", "tall", "ViT-B-32", (0,))
    how = Finetuning(1, 1, 0.1, 0.0, 1, 1.0)
    return Profile(
        "large",
        "tall matrices",
        "large",
        "cpu",
        tasks,
        (tasks,),
        samples,
        (backbone,),
        how,
        (0.1, 0.5),
        (0.2,),
        False,
        False,
    )


@dataclass(frozen=True)
class Task:
    name: str
    title: str = "a task"
    classes: tuple[str, ...] = tuple("abcd")
    source: str = "drawn"
    licence: str = "MIT"
    real: bool = False


def build(profile: Profile) -> "World":
    return World(profile)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Encoder:
    """The sum of what all layers make of the inputs."""

    batch, digest = 50, "large"

    def features(self, state: StateDict) -> Features:
        return lambda inputs: torch.nn.functional.normalize(
            sum(inputs @ each[:64].T for each in state.values()), dim=-1
        )

    def differentiable(self) -> Callable[[StateDict, Tensor], Tensor]:
        raise NotImplementedError


class World:
    inputs = "rows"
    stated = ""
    about = "Numbers."

    def __init__(self, profile: Profile) -> None:
        self.tasks = [Task(f"task{number:02}") for number in range(profile.tasks)]
        self.folder = paths.cache(profile.name) / "files"

    def write(self) -> None:
        """Write the base and all experts."""
        base = {f"layer{number}": drawn(number, ROWS, COLUMNS) for number in range(LAYERS)}
        checkpoints.save(self.folder / "base.safetensors", base, {})
        for task in self.tasks:
            seed = 100 * int(task.name[4:])
            changed = {
                key: start + 0.01 * drawn(seed + n, ROWS, 8) @ drawn(seed + n + 50, 8, COLUMNS)
                for n, (key, start) in enumerate(base.items(), start=1)
            }
            checkpoints.save(self.folder / f"{task.name}.safetensors", changed, {})

    def split(self, task: str, name: SplitName) -> Split:
        seed = int(hashlib.sha256(f"{task} {name}".encode()).hexdigest()[:8], 16)
        return Split(drawn(seed, SAMPLES, COLUMNS), torch.arange(SAMPLES) % CLASSES, f"{task} {name}", [task])

    def examples(self, task: str) -> list[str]:
        raise NotImplementedError

    def base(self, backbone: str) -> Path:  # noqa: ARG002
        return self.folder / "base.safetensors"

    def expert(self, backbone: str, task: str, seed: int) -> Path:  # noqa: ARG002
        return self.folder / f"{task}.safetensors"

    def head(self, backbone: str, task: str) -> Tensor:  # noqa: ARG002
        return drawn(int(task[4:]), CLASSES, 64)

    def encoder(self, backbone: str) -> Encoder:  # noqa: ARG002
        return Encoder()

    def place(self, key: str) -> tuple[int, str]:
        return int(key[5:]), "weight"

    def remedy(self) -> str:
        return "write it"

    def needs(self) -> Iterator[Need]:
        yield from ()
