# SPDX-License-Identifier: MIT
"""The number of passes through encoders that the doctor tells is that of the notebooks, but for what they save."""

import dataclasses
import json
import tomllib
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from worlds import tables

from compendium import paths, profiles
from compendium.profiles import Profile
from compendium.study import adaptation, alpha, forwards, lowrank, runs, studies
from compendium.worlds import experts
from compendium.worlds.protocol import SplitName, world_of
from tsvlib.methods import UPDATES

PLACE = Path(str(tables.__file__))


class Sized(tables.World):
    def count(self, task: str, name: SplitName) -> int:
        return len(self.split(task, name).labels)

    def operations(self, backbone: str) -> int:
        return tables.WIDTHS[backbone] ** 2


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setattr(tables, "World", Sized)
    content = tomllib.loads(PLACE.with_suffix(".toml").read_text())
    named = {"name": "tables", "world": "worlds.tables", "part": ""}
    found: Profile = profiles.built(Profile, content | named, PLACE)
    return dataclasses.replace(found, suites=(2, 3), tasks=3).first_seeds()


def kept(folder: Path) -> int:
    """Return how many predictions are kept below a folder."""
    longest: dict[tuple[str, str], int] = {}
    for file in folder.rglob("*.json"):
        for key, text in json.loads(file.read_text()).items():
            place = file.parent.name, key
            longest[place] = max(longest.get(place, 0), len(b64decode(text)) // 2)
    return sum(longest.values())


def chapters(profile: Profile) -> Iterator[None]:
    """Do what the notebooks do, as far as it encodes anything and is kept."""
    merged = [UPDATES[name] for name in ("weight_averaging", "task_arithmetic")]
    first = [UPDATES[name] for name in ("ties", "iso_c", "low_rank", "interference_reduction")]
    for run in runs.of(profile):
        is_first = run.seed == run.evaluator.backbone.seeds[0]
        studies.references(run, profile.tasks)
        run.individual("validation", run.tasks(profile.tasks))
        yield from (lowrank.curve(run, task, profile.fractions) for task in run.tasks(profile.tasks))
        for n_tasks in profile.suites:
            yield studies.consensus(run, n_tasks), studies.tsv_merge(run, n_tasks), studies.compressed(run, n_tasks)
            yield (
                studies.masked(run, n_tasks),
                [studies.merge(run, n_tasks, method) for method in merged + first * is_first],
            )
        if is_first:
            yield from (alpha.over_subset(run, number) for number in alpha.subsets(profile, run.backbone))
        if is_first and run.backbone == profile.backbones[0].name:
            yield from (alpha.over_grid(run, profile.suites[0], UPDATES[name]) for name in ("task_arithmetic", "tsv_m"))
            yield list(studies.adapted(run, profile.suites[0]))


@pytest.mark.slow
def test_the_count_is_an_upper_bound_and_not_far_off(profile: Profile) -> None:
    world = world_of(profile)
    assert isinstance(world, forwards.SizedWorld)
    for expert in experts.all_of(profile):
        experts.train(profile, expert, {})
    for _ in chapters(profile):
        pass
    told = forwards.forwards(profile, world)
    tasks, settings = profile.suites[0], adaptation.PROTOCOL
    forms = len(studies.STARTS)
    unkept = forms * forwards.BACKWARD * settings.steps * settings.batch * tasks
    unkept += (2 * forms + forwards.TOUR) * sum(world.count(task.name, "validation") for task in world.tasks[:tasks])
    told[profile.backbones[0].name] -= unkept
    for backbone, most in told.items():
        found = kept(paths.cache("tables") / "evaluations" / backbone)
        assert 0.7 * most <= found <= most, backbone


def test_more_seeds_take_more_of_what_every_seed_takes(profile: Profile) -> None:
    world = world_of(profile)
    assert isinstance(world, forwards.SizedWorld)
    once, twice, thrice = (
        forwards.forwards(each, world)["wide"]
        for each in (profile, profile.with_further_seeds(1), profile.with_further_seeds(2))
    )
    assert once < twice < 2 * once
    assert thrice - twice == twice - once
