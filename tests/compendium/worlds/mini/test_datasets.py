# SPDX-License-Identifier: MIT
"""The mini world: fixed registry, balanced and reproducible splits, disjoint sources."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from compendium import profiles
from compendium.worlds.mini import datasets, models
from compendium.worlds.mini.datasets import families, sources, store, world
from compendium.worlds.mini.datasets.shifts import shift_of
from compendium.worlds.mini.world import build
from compendium.worlds.protocol import SPLITS, suite
from tsvlib.errors import InputError

SMALL = 60


def pretraining_sources(name: str) -> set[str]:
    """Return the sources that the captioned world shows of a task's family."""
    family = families.FAMILIES[datasets.TASKS[name].family]
    rng = np.random.default_rng(3)
    return {family.draw(c, rng, "pretrain", turn).source for turn in range(60) for c in family.classes}


@pytest.mark.parametrize("name", list(datasets.TASKS))
def test_sources_of_all_pools_are_disjoint(name: str) -> None:
    pools = [set(datasets.load(name, split, 400).sources) for split in SPLITS]
    if datasets.TASKS[name].family in (f.name for f in world.world_families()):
        pools.append(pretraining_sources(name))
    assert all(pools)
    for left, right in itertools.combinations(pools, 2):
        assert not left & right


@pytest.mark.parametrize("photo", ["brick.png", "china.jpg", "retina.jpg"])
def test_tiles_of_a_photograph_do_not_overlap_and_cover_all_pools(photo: str) -> None:
    tiles = [tile for pool in sources.POOLS for tile in sources.tiles(photo, None, pool)]
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in itertools.combinations(tiles, 2):
        assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1
    assert all(sources.tiles(photo, None, pool) for pool in sources.POOLS)


@pytest.mark.parametrize("pair", list(itertools.combinations(sources.POOLS, 2)), ids=str)
def test_font_faces_and_parameter_cells_have_one_owner(pair: tuple[sources.Pool, sources.Pool]) -> None:
    assert not set(sources.FACES[pair[0]]) & set(sources.FACES[pair[1]])
    rng = np.random.default_rng(0)
    drawn = [{sources.parameter(rng, pool, 0.0, 1.0)[1] for _ in range(500)} for pool in pair]
    assert not drawn[0] & drawn[1]


@pytest.mark.parametrize("name", list(datasets.TASKS))
def test_splits_are_balanced_and_well_formed(name: str) -> None:
    split = datasets.load(name, "test", SMALL)
    counts = torch.bincount(split.labels, minlength=datasets.TASKS[name].n_classes)
    assert counts.min() == counts.max() == SMALL // datasets.TASKS[name].n_classes
    assert split.inputs.dtype == torch.uint8
    assert split.inputs.shape[1:] == (3, 32, 32)
    assert split.inputs.float().std() > 5


@pytest.mark.parametrize("name", ["mnist", "scenes", "latin", "degradations"])
def test_a_split_is_the_same_every_time_and_differs_from_the_others(name: str) -> None:
    first, second = (datasets.load(name, "train", SMALL).digest for _ in range(2))
    assert first == second != datasets.load(name, "validation", SMALL).digest


def test_registry_has_the_promised_shape() -> None:
    tasks = datasets.TASKS.values()
    assert len(tasks) == 20
    assert sum(task.real for task in tasks) >= 7
    assert all(2 <= task.n_classes <= 26 and len(set(task.classes)) == task.n_classes for task in tasks)
    assert all(task.source and task.licence and task.title for task in tasks)
    assert [suite(profiles.load("mini"), n) for n in (8, 14, 20)] == [tuple(datasets.TASKS)[:n] for n in (8, 14, 20)]


def test_every_prompt_and_caption_is_in_the_vocabulary() -> None:
    prompts = [t.format(c) for task in datasets.TASKS.values() for t in task.templates for c in task.classes]
    captions = [caption for _, caption, _ in world.captioned(5, 200)]
    assert models.tokenize([*prompts, *captions]).shape[1] == models.CONTEXT_LENGTH


def test_the_world_shows_no_handwriting_and_more_classes_than_the_tasks() -> None:
    shown = {family.name for family in world.world_families()}
    assert not shown & {"mnist", "digit-scan", "mnist-photo"}
    assert all(len(families.FAMILIES[task.family].classes) >= task.n_classes for task in datasets.TASKS.values())
    assert len(world.concepts()) > 200


def test_shift_of_strength_zero_leaves_images_alone_or_inverted() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for seed in range(4):
        shifted = shift_of(seed, strength=0.0)(images)
        assert (shifted == images).all() or (shifted == 255 - images).all()


def test_unknown_tasks_and_suites_are_refused() -> None:
    with pytest.raises(InputError, match="unknown task cars"):
        datasets.load("cars", "test", 10)
    with pytest.raises(InputError, match="there are 20 tasks; lower"):
        build(dataclasses.replace(profiles.load("smoke"), tasks=21))


def test_a_cached_split_is_drawn_once_and_again_when_broken_or_outdated(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(tmp_path))
    smoke = profiles.load("smoke")
    first = datasets.cached(smoke, "mnist", "validation")
    file = tmp_path / "data/cache/smoke/datasets/mnist__validation.safetensors"
    content = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(store, "load", lambda *_: pytest.fail("drawn again"))
        assert torch.equal(datasets.cached(smoke, "mnist", "validation").inputs, first.inputs)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert torch.equal(datasets.cached(smoke, "mnist", "validation").labels, first.labels)
    assert file.read_bytes() == content
    monkeypatch.setattr(store, "_code_digest", lambda: "other code")
    datasets.cached(smoke, "mnist", "validation")
    assert file.read_bytes() != content


def test_the_digest_of_a_task_follows_from_all_its_splits(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(tmp_path))
    smoke = profiles.load("smoke")
    fewer = dataclasses.replace(smoke, samples=dataclasses.replace(smoke.samples, test=20))
    found = [datasets.cached(profile, "scenes", "test").digest for profile in (smoke, smoke, fewer)]
    assert found[0] == found[1] != found[2]
