# SPDX-License-Identifier: MIT
"""Making of experts, by training or from published ones: what is missing, broken or of another recipe, as units."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from compendium import engine, gpus, manifests
from compendium.engine import Unit
from compendium.profiles import Profile
from compendium.worlds import inventory
from compendium.worlds.inventory import Expert
from compendium.worlds.protocol import World, suite, world_of
from tsvlib import checkpoints, progress
from tsvlib.errors import InputError

WORTH_A_POOL = 20_000
"""Training inputs below which starting worker processes takes longer than they save."""

Recipe = dict[str, object]
"""All that decides the bytes of an expert."""


@runtime_checkable
class TrainingWorld(World, Protocol):
    """A world whose experts are made here."""

    published: bool
    """Whether that is to read and convert what others published, and not to train."""

    def recipe(self, expert: Expert) -> Recipe:
        """Return what decides an expert's bytes beside its name and the settings of the profile: base, data, code."""

    def train(self, expert: Expert) -> dict[str, Tensor]:
        """Return the weights of an expert, after training or as they were published."""


def all_of(profile: Profile) -> tuple[Expert, ...]:
    """Return every expert of the profile."""
    return tuple(
        Expert(backbone.name, task, seed)
        for backbone in profile.backbones
        for seed in backbone.seeds
        for task in suite(profile, profile.tasks)
    )


def train_all(profile: Profile) -> tuple[Expert, ...]:
    """Train every expert that is missing, broken or of another recipe, then list all; return them."""
    return _train_listed(profile, inventory.manifest_file(profile))


def train_first_suite(profile: Profile) -> tuple[Expert, ...]:
    """Do as :func:`train_all` for the experts of the first suite alone, a small part of all."""
    return _train_listed(profile.first_suite(), inventory.first_suite_file(profile))


def train(profile: Profile, expert: Expert, recipe: Recipe) -> None:
    """Train one expert and write its file: a unit of work."""
    checkpoints.save(inventory.path(profile, expert), _world(profile).train(expert), recipe)
    inventory.unfinished(profile, expert).unlink(missing_ok=True)


def _train_listed(profile: Profile, manifest: Path) -> tuple[Expert, ...]:
    """Train what is missing, then write the list ``manifest`` of all experts of the profile, and return them.

    Each finished expert is kept at once, so an interrupted call continues where it was. A list is removed while one of
    its experts is being replaced: its absence is what tells ``make`` that the work is not complete.
    """
    wanted = all_of(profile)
    recipes = _recipes(profile, wanted)
    pending = [each for each in wanted if not inventory.is_current(inventory.path(profile, each), recipes[each])]
    for expert in set(wanted) - set(pending):
        # Left behind by a run that was killed just after the expert's file was written.
        inventory.unfinished(profile, expert).unlink(missing_ok=True)
    if pending:
        manifest.unlink(missing_ok=True)
        manifests.withdraw(inventory.manifest_files(profile), {expert.name for expert in pending})
        units = [Unit(train, (profile, expert, recipes[expert])) for expert in pending]
        work = len(pending) * profile.samples.train * profile.finetuning.epochs
        published = _world(profile).published
        # One process for each GPU; where there is one, that is this process. What is published, however many experts
        # and bytes, takes the time of the disk, which processes share, and each would hold an expert in memory.
        accelerators = gpus.count(profile.device)
        processes = not published and work > WORTH_A_POOL and accelerators != 1
        label = f"reading published {profile.name} experts" if published else f"fine-tuning {profile.name} experts"
        with progress.track(len(units), label) as bar:
            for _ in engine.complete(units, processes=processes, most=accelerators or None):
                bar.update()
    manifests.write(manifest, [inventory.path(profile, expert) for expert in wanted])
    return wanted


def _recipes(profile: Profile, wanted: Sequence[Expert]) -> dict[Expert, Recipe]:
    """Return the whole recipe of each expert; a world may have to make the data of a task for that."""
    world, settings = _world(profile), dataclasses.asdict(profile.finetuning)
    found: dict[Expert, Recipe] = {}
    tasks = sorted({expert.task for expert in wanted})
    with progress.track(len(tasks), f"preparing {profile.name} tasks") as bar:
        for task in tasks:
            for expert in wanted:
                if expert.task == task:
                    found[expert] = dataclasses.asdict(expert) | {"finetuning": settings} | world.recipe(expert)
            bar.update()
    return found


def _world(profile: Profile) -> TrainingWorld:
    world = world_of(profile)
    if not isinstance(world, TrainingWorld):
        raise InputError(f"profile {profile.name}: the experts of its world are not trained here; {world.remedy()}.")
    return world
