# SPDX-License-Identifier: MIT
"""Profiles are read strictly: whatever is unknown, missing or mistyped is told in one sentence."""

import dataclasses
from pathlib import Path

import pytest

from compendium import paths, profiles
from tsvlib.errors import InputError

SMOKE = (paths.ROOT / "data" / "smoke" / "profile.toml").read_text(encoding="utf-8")


@pytest.fixture
def draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one profile, ``draft``, whose file a test may change."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    file = tmp_path / "data" / "draft" / "profile.toml"
    file.parent.mkdir(parents=True)
    file.write_text(SMOKE, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", profiles.available())
def test_committed_profiles_load(name: str) -> None:
    profile = profiles.load(name)
    assert profile.name == name
    models = profiles.folder(name) / "models"
    assert not models.exists() or all((models / f"{b.name}.json").is_file() for b in profile.backbones)


def test_mini_has_the_papers_suites_and_three_seeds_for_its_smallest_backbone() -> None:
    profile = profiles.load("mini")
    assert profile.suites == (8, 14, 20)
    assert [len(backbone.seeds) for backbone in profile.backbones] == [3, 1, 1]


def test_a_profile_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.load("smoke").tasks = 4  # type: ignore[misc]


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no profile 'huge'; choose one of .*mini.*smoke"):
        profiles.load("huge")


def test_unknown_backbone_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="no backbone 'ViT'; choose one of smoke-b32, smoke-l14"):
        profiles.load("smoke").backbone("ViT")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tasks = 3", "tasks = 3\ncolour = 1", "unknown key 'colour'"),
        ("tasks = 3", 'tasks = 3\nname = "x"', "unknown key 'name'"),
        ("tasks = 3", 'tasks = 3\npart = ""', "unknown key 'part'"),
        ("tasks = 3", "", "missing key 'tasks'"),
        ("tasks = 3", "tasks = true", "'tasks' must be of type int"),
        ("tasks = 3", "tasks = 3.5", "'tasks' must be of type int"),
        ('device = "cpu"', 'device = "gpu"', "'device' must be one of 'cpu', 'auto', not 'gpu'"),
        ("suites = [2, 3]", "suites = []", "'suites' must be a list with at least one entry"),
        ("suites = [2, 3]", 'suites = [2, "3"]', r"'suites\[1\]' must be of type int"),
        ("suites = [2, 3]", "suites = [1, 3]", "every suite needs 2 or more tasks"),
        ("suites = [2, 3]", "suites = [2, 4]", "at most 'tasks' of them"),
        ("suites = [2, 3]", "suites = [3, 2]", "rising order"),
        ("train = 64", "train = 64\ntrian = 64", r"unknown key 'samples.trian'"),
        ("train = 64", "train = 0", "at least 1"),
        ("seeds = [0, 1]", "seeds = 0", r"'backbones\[0\].seeds' must be a list"),
        ("fractions = [0.1, 0.5]", "fractions = [0.0]", "fractions must lie above 0"),
        ('name = "smoke-l14"', 'name = "smoke-b32"', "two backbones share a name"),
        ('name = "smoke-l14"', 'name = "smoke,l14"', "a name has letters, digits, '.', '-' and '_' alone"),
        ("tasks = 3", "tasks = ", "not valid TOML"),
    ],
)
def test_a_mistake_is_named(draft: Path, old: str, new: str, message: str) -> None:
    draft.write_text(SMOKE.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        profiles.load("draft")
    assert str(caught.value).startswith(str(draft))


def test_a_value_in_place_of_a_table_is_named(draft: Path) -> None:
    head, tail = SMOKE.split("[samples]")
    draft.write_text("samples = 3\n" + head + tail[tail.index("[finetuning]") :], encoding="utf-8")
    with pytest.raises(InputError, match="'samples' must be a table"):
        profiles.load("draft")


def test_whole_numbers_pass_as_floats(draft: Path) -> None:
    draft.write_text(SMOKE.replace("clip_norm = 1.0", "clip_norm = 1"), encoding="utf-8")
    clip_norm = profiles.load("draft").finetuning.clip_norm
    assert clip_norm == 1.0
    assert type(clip_norm) is float


def test_further_seeds_follow_the_largest_of_every_backbone() -> None:
    mini = profiles.load("mini")
    assert [b.seeds for b in mini.with_further_seeds(2).backbones] == [(0, 1, 2, 3, 4), (0, 1, 2), (0, 1, 2)]
    assert mini.with_further_seeds(0) == mini
    with pytest.raises(InputError, match="cannot be -1"):
        mini.with_further_seeds(-1)


def test_first_seeds_leave_one_for_every_backbone_and_nothing_else_changed() -> None:
    mini = profiles.load("mini")
    first = mini.first_seeds()
    assert [b.seeds for b in first.backbones] == [(0,), (0,), (0,)]
    assert [b.label for b in first.backbones] == [b.label for b in mini.backbones]
    assert dataclasses.replace(first, backbones=mini.backbones) == mini
    assert mini.with_further_seeds(2).first_seeds() == first


@pytest.mark.parametrize("backbones", ["mini-l14 mini-b32", "mini-l14,mini-b32", " mini-l14 ,  mini-b32,mini-l14 "])
def test_a_part_has_what_was_chosen_in_the_order_of_the_whole_and_the_tasks_of_its_largest_suite(
    backbones: str,
) -> None:
    mini, part = profiles.load("mini"), profiles.load("mini", backbones, "14, 8")
    assert [backbone.name for backbone in part.backbones] == ["mini-b32", "mini-l14"]
    assert (part.suites, part.tasks, part.part) == ((8, 14), 14, "+backbones-mini-l14,mini-b32+suites-14,8")
    rest = {"backbones": mini.backbones, "suites": mini.suites, "tasks": mini.tasks, "part": ""}
    assert dataclasses.replace(part, **rest) == mini  # type: ignore[arg-type]
    assert profiles.whole(part.first_seeds()) == mini
    assert part.first_suite().part == part.part


def test_an_empty_choice_is_the_whole() -> None:
    assert profiles.load("mini", "", " , ") == profiles.load("mini")
    assert profiles.load("mini", suites="8").backbones == profiles.load("mini").backbones
    assert profiles.load("mini", "mini-l14").tasks == 20


@pytest.mark.parametrize(
    ("backbones", "suites", "message"),
    [
        ("mini-b32 mini-x", "", "no backbone 'mini-x'; choose one of mini-b32, mini-b16, mini-l14"),
        ("", "8 9", "no suite of 9 tasks; choose of 8, 14, 20"),
        ("", "eight", "no suite of eight tasks"),
    ],
)
def test_what_a_profile_does_not_have_cannot_be_chosen_of_it(backbones: str, suites: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        profiles.load("mini", backbones, suites)


def test_what_a_part_leaves_out_ends_a_caption() -> None:
    assert profiles.left_out(profiles.load("mini").first_seeds()) == ""
    assert profiles.left_out(profiles.load("mini", suites="20")) == " Not run: 8 and 14 tasks."
    labels = [backbone.label for backbone in profiles.load("mini").backbones]
    part = profiles.load("mini", "mini-b16", "8 14")
    assert profiles.left_out(part) == f" Not run: {labels[0]}, {labels[2]}, 20 tasks."
