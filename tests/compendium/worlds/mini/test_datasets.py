# SPDX-License-Identifier: MIT
"""The mini world: fixed registry, balanced and reproducible splits, disjoint sources."""

import dataclasses
import itertools
import math
import unicodedata
from functools import partial

import numpy as np
import pytest
import torch
from fontTools import agl
from fontTools.ttLib import TTFont
from PIL import Image

from compendium import profiles
from compendium.worlds.mini import datasets, models
from compendium.worlds.mini.datasets import (
    canvas,
    families,
    glyphs,
    likeness,
    photographic,
    photographs,
    sources,
    store,
    world,
)
from compendium.worlds.mini.datasets.shifts import shift_of
from compendium.worlds.mini.world import build
from compendium.worlds.protocol import SPLITS, suite
from tsvlib.errors import InputError

SMALL = 60
FONTS = [name for name, task in datasets.TASKS.items() if task.source.startswith("Matplotlib")]


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


REGIONS = [*photographic.SCENES.values(), *photographic.MATERIALS.values(), *photographic.SPECIMENS.values()]
PHOTOGRAPHS = sorted({name for name, _ in REGIONS} | {*photographic.DETAILED, *canvas.GROUNDS})


def shown_by(name: str, pool: sources.Pool) -> np.ndarray:
    """Return which pixels of a photograph lie in a tile that some task or ground takes for a pool."""
    width, height = photographs.photograph(name).size
    seen = np.zeros((height, width), dtype=bool)
    for box in {None, *(box for other, box in REGIONS if other == name)}:
        for left, top, right, bottom in photographs.tiles(name, box, pool):
            seen[top:bottom, left:right] = True
    return seen


@pytest.mark.parametrize("photo", PHOTOGRAPHS)
def test_no_pixel_of_a_photograph_is_shown_by_two_pools(photo: str) -> None:
    seen = np.stack([shown_by(photo, pool) for pool in sources.POOLS])
    assert seen.sum(axis=0).max() == 1
    assert seen.any(axis=(1, 2)).all()


@pytest.mark.parametrize("photo", PHOTOGRAPHS)
def test_crops_show_pixels_of_their_own_pool_alone(photo: str, monkeypatch) -> None:
    def crops(pool: sources.Pool) -> list[bytes]:
        rng = np.random.default_rng(5)
        return [photographs.crop(photo, None, rng, pool)[0].tobytes() for _ in range(20)]

    whole = photographs.photograph(photo)
    for pool in sources.POOLS:
        before = crops(pool)
        strange = np.array(whole)
        strange[~shown_by(photo, pool)] = 255 - strange[~shown_by(photo, pool)]
        with monkeypatch.context() as patch:
            patch.setattr(photographs, "photograph", partial(lambda image, _: image, Image.fromarray(strange)))
            assert crops(pool) == before


@pytest.mark.parametrize("name", FONTS)
def test_every_face_draws_what_the_class_is_called(name: str) -> None:
    family = families.FAMILIES[datasets.TASKS[name].family]
    characters = glyphs.ALPHABETS[family.name]
    for pool in sources.POOLS:
        for character in characters.values():
            assert sources.faces(character, pool), (character, pool)
            for face in sources.faces(character, pool):
                tables = TTFont(sources.font(face, 10).path)
                assert any(table.isUnicode() for table in tables["cmap"].tables)
                drawn = agl.toUnicode(tables.getBestCmap()[ord(character)])
                assert unicodedata.normalize("NFKC", drawn) == unicodedata.normalize("NFKC", character), face


@pytest.mark.parametrize("name", FONTS)
def test_drawings_of_a_character_resemble_each_other_most(name: str) -> None:
    characters = glyphs.ALPHABETS[datasets.TASKS[name].family]
    faces = [face for pool in sources.POOLS for face in sources.FACES[pool]]
    inks = {
        character: np.stack([np.asarray(glyphs._ink(face, character), dtype=np.float32).ravel() for face in faces])
        for character in characters.values()
    }
    middles = {character: np.median(ink, axis=0) for character, ink in inks.items()}
    right = [
        min(middles, key=lambda other: float(np.square(middles[other] - one).sum())) == character
        for character, ink in inks.items()
        for one in ink
    ]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("name", list(datasets.TASKS))
def test_twenty_independent_sources_stand_behind_a_split_but_where_it_is_set_in_fonts(name: str) -> None:
    for split, count in (("validation", 200), ("test", 400)):
        few = len(set(datasets.load(name, split, count).sources)) < 20
        assert few == (name in FONTS)


@pytest.mark.parametrize("pair", list(itertools.combinations(sources.POOLS, 2)), ids=str)
def test_font_faces_and_parameter_cells_have_one_owner(pair: tuple[sources.Pool, sources.Pool]) -> None:
    assert not set(sources.FACES[pair[0]]) & set(sources.FACES[pair[1]])
    rng = np.random.default_rng(0)
    drawn = [{sources.parameter(rng, pool, 0.0, 1.0)[1] for _ in range(500)} for pool in pair]
    assert not drawn[0] & drawn[1]


def test_of_windows_that_look_alike_one_is_left() -> None:
    kept, _ = sources._lfw()
    assert len(np.unique(kept.reshape(len(kept), -1), axis=0)) == len(kept)
    looks = [likeness.looks([one[1:-1, 1:-1, None]]) for one in kept]
    assert likeness.near(looks).sum() == len(kept)


@pytest.mark.parametrize("name", list(datasets.TASKS))
def test_splits_are_balanced_and_well_formed(name: str) -> None:
    split = datasets.load(name, "test", SMALL)
    counts = torch.bincount(split.labels, minlength=datasets.TASKS[name].n_classes)
    assert counts.min() == counts.max() == math.ceil(SMALL / datasets.TASKS[name].n_classes)
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
