# SPDX-License-Identifier: MIT
"""Recipes say how and from what, never where; inputs are found again by what they hold."""

import json
import os
import shutil
from pathlib import Path

import pytest
import small_models
from safetensors.torch import save_file

from tsvlib import checkpoints, files
from tsvlib.cli import commands

NAMES = ("base", "expert1", "expert2")
WORDS = [word for name in NAMES for word in (f"--{name.rstrip('12')}", f"{name}.safetensors")]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a base, two experts and a merged model, which is the working folder."""
    folder = tmp_path / "work"
    small_models.write(folder, 2)
    monkeypatch.chdir(folder)
    assert commands.main(["merge", *WORDS, "--out", "merged.safetensors"]) == 0
    return folder


def follow(*words: object, recipe: object = "merged.safetensors") -> int:
    return commands.main(["merge", "--recipe", str(recipe), *map(str, words), "--out", "again.safetensors"])


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def test_the_same_merge_elsewhere_has_the_same_bytes_and_tells_no_folder(work: Path, tmp_path: Path) -> None:
    other = tmp_path / "private name" / "deep"
    shutil.copytree(work, other)
    far = [word if word.startswith("--") else str(other / word) for word in WORDS]
    assert commands.main(["merge", *far, "--out", "far.safetensors"]) == 0
    assert same(work / "far.safetensors", work / "merged.safetensors")
    recipe = checkpoints.recipe(work / "far.safetensors")
    entry = {"name": "base.safetensors", "sha256": files.sha256(work / "base.safetensors")}
    assert recipe["inputs"]["base"] == [entry | {"bytes": (work / "base.safetensors").stat().st_size}]
    content = (work / "far.safetensors").read_bytes()
    for word in (str(tmp_path), "private name", "deep"):
        assert word.encode() not in content


def test_factors_tell_no_folder_either(work: Path) -> None:
    one = [word if word.startswith("--") else str(work / word) for word in WORDS[:4]]
    assert commands.main(["compress", *one, "--out", "f.safetensors"]) == 0
    expand = ["expand", *one[:2], "--factors", str(work / "f.safetensors"), "--out", "e.safetensors"]
    assert commands.main(expand) == 0
    for name in ("f.safetensors", "e.safetensors"):
        assert str(work).encode() not in (work / name).read_bytes()
    (work / "sub").mkdir()
    (work / "f.safetensors").rename(work / "sub" / "renamed.safetensors")
    assert commands.main(["expand", "--recipe", "e.safetensors", "--out", "again.safetensors"]) == 0
    assert same(work / "again.safetensors", work / "e.safetensors")


def test_inputs_are_found_by_what_they_hold_in_the_folders_given(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(NAMES):
        place = tmp_path / f"store{number % 2}" / f"deep{number}"
        place.mkdir(parents=True)
        # Another name, beside files of the right names and sizes that hold something else.
        (work / f"{name}.safetensors").rename(place / f"{number}.safetensors")
        save_file({"w": small_models.state(7)["visual.proj"]}, place / f"{name}.safetensors")
        os.truncate(place / f"{name}.safetensors", (place / f"{number}.safetensors").stat().st_size)
    assert follow() == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("merged.safetensors: no checkpoint in . has the SHA-256 of 'base.safetensors' (")
    assert said.endswith("; name its folder with --look-in, or the file itself with --base.")
    assert follow("--look-in", tmp_path / "store0") == 1
    assert "'expert1.safetensors'" in capsys.readouterr().err
    assert follow("--look-in", tmp_path / "store0", "--look-in", tmp_path / "store1") == 0
    assert capsys.readouterr().out.endswith(" These are the bytes of merged.safetensors.\n")
    assert same(work / "again.safetensors", work / "merged.safetensors")


def test_the_folder_of_the_recipe_is_looked_in(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert follow(recipe=work / "merged.safetensors") == 0
    assert same(tmp_path / "elsewhere" / "again.safetensors", work / "merged.safetensors")


def test_inputs_of_one_content_keep_their_names(work: Path) -> None:
    shutil.copy("expert1.safetensors", "copy.safetensors")
    twice = [*WORDS[:4], "--expert", "copy.safetensors"]
    assert commands.main(["merge", *twice, "--out", "twice.safetensors"]) == 0
    assert follow(recipe="twice.safetensors") == 0
    assert same(work / "again.safetensors", work / "twice.safetensors")


def test_shards_and_folders_are_found(work: Path, tmp_path: Path) -> None:
    state = small_models.state(0)
    homes = {key: f"part-{number % 2}.safetensors" for number, key in enumerate(state)}
    hub = work / "hub"
    hub.mkdir()
    for name in set(homes.values()):
        save_file({key: state[key] for key in state if homes[key] == name}, hub / name)
    (hub / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    merge = ["merge", "--base", "hub", *WORDS[2:], "--out", "merged.safetensors"]
    assert commands.main(merge) == 0
    assert checkpoints.recipe(work / "merged.safetensors")["inputs"]["base"][0]["name"] == "hub"
    hub.rename(work / "moved")
    assert follow() == 0
    assert same(work / "again.safetensors", work / "merged.safetensors")


def test_a_base_in_the_working_folder_has_the_name_of_that(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "base.safetensors").rename(work / "model.safetensors")
    assert commands.main(["merge", "--base", ".", *WORDS[2:], "--out", "../m.safetensors"]) == 0
    assert checkpoints.recipe(work.parent / "m.safetensors")["inputs"]["base"][0]["name"] == "work"


def test_links_that_lead_back_and_folders_that_are_closed_end_no_search(work: Path) -> None:
    (work / "loop").symlink_to(".")
    (work / "one.safetensors").symlink_to("one.safetensors")
    (work / "gone.safetensors").symlink_to("nowhere")
    os.mkfifo(work / "pipe.safetensors")
    (work / "broken.index.json").write_text("{")
    assert follow() == 0
    assert same(work / "again.safetensors", work / "merged.safetensors")


def test_a_changed_input_is_told(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(small_models.state(9), "expert2.safetensors")
    assert follow() == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "expert2.safetensors: the file is not the one that the recipe names; restore it, or name its"
    )
    assert follow("--look-in", "nowhere") == 1
    assert "nowhere: the file is missing; " in capsys.readouterr().err


def test_a_foreign_recipe_decides_nothing_about_places(work: Path, tmp_path: Path) -> None:
    recipe = checkpoints.recipe(work / "merged.safetensors")
    places = {"out": str(tmp_path / "x.safetensors"), "store": str(tmp_path / "store"), "base": "/x", "recipe": "/y"}
    foreign = recipe | {"arguments": recipe["arguments"] | places | {"look_in": [str(tmp_path)]}}
    checkpoints.save(work / "foreign.safetensors", checkpoints.load(work / "merged.safetensors"), foreign)
    assert commands.main(["merge", "--recipe", "foreign.safetensors"]) == 2
    assert follow(recipe="foreign.safetensors") == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"work", "output"}


ENTRY = {"name": "base.safetensors", "sha256": "0" * 64, "bytes": 1}


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"command": "merge"},
        {"command": "merge", "arguments": {}, "sha256": {"base.safetensors": "0"}},
        {"command": "merge", "arguments": {}, "inputs": []},
        {"command": "merge", "arguments": {}, "inputs": {"base": ENTRY}},
        {"command": "merge", "arguments": {}, "inputs": {"base": [ENTRY | {"bytes": "1"}]}},
        {"command": "merge", "arguments": {}, "inputs": {"base": [ENTRY], "store": [ENTRY]}},
        {"command": ["merge"], "arguments": {}, "inputs": {"base": [ENTRY]}},
        {"command": "merge", "arguments": {}, "inputs": {"base": [ENTRY, ENTRY]}},
    ],
    ids=json.dumps,
)
def test_what_is_no_recipe_of_ours_is_told(
    work: Path, recipe: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.save(work / "odd.safetensors", {}, recipe)
    assert follow(recipe="odd.safetensors") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    reason = "does not say which inputs it takes"
    assert said == f"odd.safetensors: its recipe {reason}; name a file that this command wrote."


@pytest.mark.parametrize("role", ["base", "expert"])
@pytest.mark.parametrize("left", [[], None])
def test_a_recipe_without_an_input_asks_for_it(
    work: Path, role: str, left: list[object] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = checkpoints.recipe(work / "merged.safetensors")
    others = {name: each for name, each in recipe["inputs"].items() if name != role}
    named = others if left is None else others | {role: left}
    checkpoints.save(work / "odd.safetensors", {}, recipe | {"inputs": named})
    assert follow(recipe="odd.safetensors") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"odd.safetensors: its recipe names no {role}; name it with --{role}."


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": "much"}, {"alpha": [1]}, {"alpha": False}, {"method": {"a": 1}}, {"dtype": None}, {"workers": -1},
        {"split_qkv": 7}, {"weights": [True, 1.0]}, {"leave_out": [True]},
    ],
)  # fmt: skip
def test_odd_settings_are_told(work: Path, settings: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    recipe = checkpoints.recipe(work / "merged.safetensors")
    checkpoints.save(work / "odd.safetensors", {}, recipe | {"arguments": recipe["arguments"] | settings})
    assert follow(recipe="odd.safetensors") in (1, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not (work / "again.safetensors").exists()
