# SPDX-License-Identifier: MIT
"""Experts that are trained here: recipes without a decoded image, and files like those of any other expert."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from compendium import profiles
from compendium.profiles import Backbone, Finetuning, Profile, Samples
from compendium.worlds import experts, inventory
from compendium.worlds.clip import crops, registry, settings, training
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.settings import Checkpoints, Images, Settings
from compendium.worlds.clip.sources.protocol import Source
from compendium.worlds.clip.world import Clip
from compendium.worlds.inventory import Expert
from compendium.worlds.protocol import world_of
from tsvlib import checkpoints
from tsvlib.errors import InputError

from . import real_checkpoints, real_layouts

BACKBONE = "ViT-B-32"
NAMES = ("STL10", "DTD")
FIRST = Expert(BACKBONE, "STL10", 0)
WORDS = {"text_cfg": real_checkpoints.TEXT | {"vocab_size": 49408, "context_length": 16}}
DESCRIBED = {name: config | WORDS for name, config in real_checkpoints.TINY.items()}


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Profile]:
    """The clip profile with a tiny backbone and two small data sets, of which experts are to be trained here."""
    tasks = {name: real_layouts.small(registry.tasks()[name]) for name in NAMES}
    tasks = {name: dataclasses.replace(task, epochs=2) for name, task in tasks.items()}
    tasks = {name: real_layouts.write(task, tmp_path / "images", pool=5) for name, task in tasks.items()}
    chosen = Settings(
        Checkpoints("own", str(tmp_path / "weights"), "unknown"), Images("local", str(tmp_path / "images")), Options()
    )
    monkeypatch.setattr(registry, "tasks", lambda: tasks)
    monkeypatch.setattr(registry, "with_options", lambda task, options: task)
    monkeypatch.setattr(settings, "load", lambda name: chosen)
    with real_checkpoints.tiny_backbones(tmp_path / "described", DESCRIBED):
        real_checkpoints.write_openai(tmp_path / "weights", BACKBONE)
        yield dataclasses.replace(
            profiles.load("clip"),
            device="cpu",
            tasks=2,
            suites=(2,),
            samples=Samples(1000, 100, 100, 100),
            backbones=(Backbone(BACKBONE, "tiny", BACKBONE, (0,)),),
            finetuning=Finetuning(1, 4, 1e-3, 0.1, 2, 1.0),
        )


@pytest.fixture
def world(profile: Profile) -> Clip:
    found = world_of(profile)
    assert isinstance(found, Clip)
    return found


def unreadable(*_: object) -> Image.Image:
    raise AssertionError("no image is to be decoded")


def test_the_base_is_that_of_openai_in_the_layout_of_open_clip(world: Clip) -> None:
    assert isinstance(world.source, Source)
    assert (world.source.name, world.source.layout) == ("own", "open_clip")
    assert checkpoints.state_digest(world.start(BACKBONE)) == checkpoints.state_digest(
        real_checkpoints.encoder(BACKBONE, None)
    )
    assert world.source.files(world.settings.checkpoints_folder, BACKBONE, None) == world.text_weights(BACKBONE)


def test_a_recipe_names_data_and_base_and_takes_no_decoded_image(
    world: Clip, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", unreadable)
    monkeypatch.setattr(Image, "fromarray", unreadable)
    recipe = world.recipe(FIRST)
    assert recipe.keys() >= {"base", "data", "epochs", "training.py", "finetuning.py", "crops.py", "models.py"}
    assert recipe["epochs"] == 2
    assert recipe["data"]["images"] == 14
    assert world.recipe(FIRST) == recipe
    other = world.recipe(dataclasses.replace(FIRST, task="DTD"))
    assert other["data"] != recipe["data"]
    assert other["base"] == recipe["base"]


def test_other_images_epochs_and_prompts_are_other_recipes(
    world: Clip, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, known = world.recipe(FIRST), registry.tasks()
    for changes in ({"epochs": 3}, {"templates": ("{}",)}):
        tasks = known | {"STL10": dataclasses.replace(known["STL10"], **changes)}
        monkeypatch.setattr(registry, "tasks", lambda tasks=tasks: tasks)
        assert Clip(profile).recipe(FIRST) != before
    monkeypatch.setattr(registry, "tasks", lambda: known)
    assert Clip(profile).recipe(FIRST) == before
    fewer = dataclasses.replace(profile, samples=dataclasses.replace(profile.samples, train=9))
    assert Clip(fewer).recipe(FIRST)["data"]["images"] == 9


def test_experts_are_trained_once_and_measured_like_others(
    world: Clip, profile: Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = experts.train_all(profile)
    assert "fine-tuning clip experts: 2/2" in capsys.readouterr().err
    assert [expert.task for expert in wanted] == list(NAMES)
    base = checkpoints.load(world.base(BACKBONE))
    for expert in wanted:
        state = checkpoints.load(world.expert(BACKBONE, expert.task, 0))
        assert state.keys() == base.keys()
        assert not state["visual.proj"].equal(base["visual.proj"])
        assert checkpoints.recipe(inventory.path(profile, expert))["finetuning"]["learning_rate"] == 1e-3
    assert {file.suffix for file in inventory.folder(profile).iterdir()} == {".safetensors"}
    monkeypatch.setattr(training, "finetune", None)
    assert experts.train_all(profile) == wanted


def test_an_interrupted_expert_is_continued_and_nothing_is_left_behind(
    world: Clip, profile: Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experts.train_all(profile)
    before = {file.name: file.read_bytes() for file in inventory.folder(profile).iterdir()}
    file, kept = inventory.path(profile, FIRST), inventory.unfinished(profile, FIRST)
    file.unlink()
    cut, shown = crops.cut, []

    def interrupted(*arguments):
        shown.append(arguments)
        if len(shown) == 17:  # in the second epoch of 14 images
            raise KeyboardInterrupt
        return cut(*arguments)

    monkeypatch.setattr(crops, "cut", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experts.train_all(profile)
    assert kept.exists()
    assert not file.exists()
    capsys.readouterr()
    experts.train_all(profile)
    said = capsys.readouterr().err
    assert f"{FIRST.name}: epoch 2 of 2 is done" in said
    assert "epoch 1" not in said
    assert {each.name: each.read_bytes() for each in inventory.folder(profile).iterdir()} == before
    kept.write_bytes(b"left by a run that was killed when all was done")
    experts.train_all(profile)
    assert not kept.exists()


def test_missing_images_are_told_before_anything_is_trained(
    world: Clip, profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "finetune", None)
    (tmp_path / "images" / "stl10_binary").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"no STL-?10 is here"):
        experts.train_all(profile)
