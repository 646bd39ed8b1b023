# SPDX-License-Identifier: MIT
"""Statistics of experts, each made once by a unit of work that ends in a file, and read tensor by tensor from there."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from compendium import engine, gpus, paths
from compendium.engine import Unit
from compendium.profiles import Profile
from compendium.study import statistics
from compendium.study.evaluation import CPU, evaluator_alike
from compendium.study.runs import Run
from compendium.study.statistics import COUNTS, WAY
from tsvlib import checkpoints, devices
from tsvlib.methods.base import Quantity
from tsvlib.methods.statistics import Statistics

WORTH_A_POOL = 2000
"""Inputs below which starting worker processes takes longer than they save."""


class Kept(Mapping[str, Tensor]):
    """The tensors of a file, of which each is read when it is asked for."""

    def __init__(self, file: Path) -> None:
        self.checkpoint = checkpoints.open_checkpoint(file)

    def __getitem__(self, key: str) -> Tensor:
        """Return a tensor; KeyError where there is none of that name."""
        return self.checkpoint.read(key)

    def __iter__(self) -> Iterator[str]:
        """Return all names, sorted."""
        return iter(self.checkpoint.layout)

    def __len__(self) -> int:
        """Return how many tensors there are."""
        return len(self.checkpoint.layout)


def collected(run: Run, quantity: Quantity, tasks: Sequence[str]) -> list[Statistics]:
    """Return what was measured on the expert of each task; what the cache lacks is measured first."""
    kept = {task: _file(run, quantity, task) for task in tasks}
    place = (run.profile, run.backbone, run.evaluator.encoder.digest, run.seed, quantity)
    units = [Unit(collect, (*place, task, file)) for task, file in kept.items() if not file.exists()]
    processes = run.evaluator.device == CPU and len(units) * COUNTS[quantity] > WORTH_A_POOL
    for _ in engine.complete(units, processes=processes):
        pass
    return [Kept(file) for file in kept.values()]


def collect(profile: Profile, backbone: str, digest: str, seed: int, quantity: Quantity, task: str, file: Path) -> None:
    """Measure one expert and keep what is found in a file: a unit of work.

    InputError where the encoder here is not the one with this digest.
    """
    run = Run(profile, evaluator_alike(profile, backbone, digest), seed)
    checkpoints.save(file, measured(run, quantity, task), {"statistics": file.stem}, durable=False)


def measured(run: Run, quantity: Quantity, task: str) -> dict[str, Tensor]:
    """Return what is measured on the expert of a task, whatever the cache has."""
    encoder = run.evaluator.encoder.differentiable()
    with gpus.memory(), devices.exact():
        return statistics.measure(quantity, encoder, run.expert(task), run.unlabelled(task, COUNTS[quantity]), run.seed)


def _file(run: Run, quantity: Quantity, task: str) -> Path:
    """Return the file that is named by all that a measurement depends on."""
    evaluator = run.evaluator
    head = checkpoints.state_digest({"head": evaluator.head(task)})
    inputs = evaluator.world.split(task, "validation").digest
    parts = (WAY, quantity, COUNTS[quantity], run.seed, run.digest(task), evaluator.encoder.digest, head, inputs)
    name = hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()
    return paths.cache(run.profile.name) / "statistics" / run.backbone / f"{name}.safetensors"
