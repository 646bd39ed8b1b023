# SPDX-License-Identifier: MIT
"""The doctor looks at published models and data sets without reading them, and fetches what can be had."""

import dataclasses
import json
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from compendium import commands, doctor, engine, paths, profiles
from compendium.doctor import Report
from compendium.profiles import Profile
from compendium.worlds import experts, fetching, inventory, offline
from compendium.worlds.clip import needs, places, registry, settings, sizes
from compendium.worlds.clip.needs import Needs
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.registry import Task
from compendium.worlds.clip.settings import Checkpoints, Images, Settings
from compendium.worlds.clip.sources import backbones, openclip
from compendium.worlds.clip.sources.registered import SOURCES
from compendium.worlds.protocol import Need, SplitName, world_of
from tsvlib.errors import InputError

from . import hub_stand_in, real_checkpoints, real_layouts, real_snapshots
from .hub_stand_in import Hub

B32, L14 = "ViT-B-32", "ViT-L-14"
NAMES = ("DTD", "MNIST", "CIFAR10")
CLIP = profiles.load("clip")
SIZE = 32


@pytest.fixture
def small(tmp_path: Path) -> Iterator[None]:
    with real_checkpoints.tiny_backbones(tmp_path / "configs"):
        yield


def profile(*names: str, tasks: int = len(NAMES)) -> Profile:
    """Return the profile with only these backbones and a few tasks."""
    chosen = tuple(backbone for backbone in CLIP.backbones if backbone.name in names)
    return dataclasses.replace(CLIP, backbones=chosen, tasks=tasks, suites=(2, tasks))


def settings_of(tmp_path: Path, source: str = "tall-masks", reader: str = "local") -> Settings:
    theirs = Checkpoints(source, str(tmp_path / "models"), "unknown")  # type: ignore[arg-type]
    return Settings(theirs, Images(reader, str(tmp_path / "images")), Options())  # type: ignore[arg-type]


def needs_of(about: Settings, tasks: Sequence[Task], *names: str) -> Needs:
    """Return the needs of a profile with these backbones and tasks."""
    by_name = {task.name: task for task in tasks}

    def count(task: str, split: SplitName) -> int:
        return by_name[task].test if split == "test" else by_name[task].validation

    own = about.checkpoints.source == settings.OWN
    source = openclip.BASE if own else SOURCES[about.checkpoints.source]
    return Needs(profile(*names), about, tasks, source, own, count, SIZE)


@pytest.fixture
def whole(small: None, tmp_path: Path) -> Needs:
    """Two backbones and three data sets, all of which is there."""
    for backbone in (B32, L14):
        real_checkpoints.write_tall_masks(tmp_path / "models", backbone, NAMES)
        real_checkpoints.write_openai(tmp_path / "models", backbone)
    tasks = [real_layouts.small(registry.tasks()[name]) for name in NAMES]
    tasks = [real_layouts.write(task, tmp_path / "images", pool=20) for task in tasks]
    return needs_of(settings_of(tmp_path), tasks, B32, L14)


def found(needs: Needs) -> list[Need]:
    return [*needs.packages(), *(wanted.need for wanted in (*needs.checkpoints(), *needs.data_sets()))]


def in_the_way(needs: Needs) -> dict[str, str]:
    """Return what a run would fail over, with what is told of it."""
    return {need.name: need.finding.told for need in found(needs) if need.finding.is_in_the_way}


def test_what_is_there_is_counted(whole: Needs, tmp_path: Path) -> None:
    assert not in_the_way(whole)
    rows = Report("clip", found(whole)).table(400).splitlines()[2:]
    assert [re.sub(r" \(\S+ MB\)$", "", row) for row in rows] == [
        f"2 text towers              present  in {tmp_path}/models",
        f"4 checkpoints of ViT-B-32  present  in {tmp_path}/models",
        f"4 checkpoints of ViT-L-14  present  in {tmp_path}/models",
        f"3 data sets                present  below {tmp_path}/images",
    ]


def test_truncated_and_foreign_models_are_told_by_name(whole: Needs, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    files = {task: whole.source.files(folder, B32, task) for task in NAMES}
    files["MNIST"].write_bytes(files["MNIST"].read_bytes()[:-500])
    files["DTD"].unlink()
    whole.source.files(folder, L14, "CIFAR10").write_bytes(files["CIFAR10"].read_bytes())
    openclip.openai_file(folder, L14).write_bytes(openclip.openai_file(folder, B32).read_bytes())
    told = in_the_way(whole)
    assert told.keys() == {"MNIST", "DTD", "CIFAR10", L14}
    assert told["MNIST"].startswith(f"{files['MNIST']}: ")
    assert told["DTD"].startswith(f"{folder}: missing, but on the hub (")
    assert "choose another one" in told["CIFAR10"]
    assert str(openclip.openai_file(folder, L14)) in told[L14]


def test_missing_and_incomplete_data_sets_are_told(whole: Needs, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "cifar-10-batches-py").rename(images / "elsewhere")
    (images / "dtd/train/banded/banded_0003.jpg").unlink()
    told = in_the_way(whole)
    assert told.keys() == {"CIFAR10", "DTD"}
    assert "fetch it, or put it there (about 170 MB to download, licence: not stated)" in told["CIFAR10"]
    assert "59 images in the pool instead of 60" in told["DTD"]
    can_fetch = {wanted.need.name: wanted.fetch is not None for wanted in whole.data_sets()}
    assert can_fetch == {"DTD": True, "MNIST": True, "CIFAR10": True}
    by_hand = needs_of(whole.settings, [registry.tasks()["Cars"]], B32)
    (cars,) = by_hand.data_sets()
    assert cars.fetch is None
    assert "licence: research only, non-commercial" in cars.need.finding.told


def test_a_base_of_its_own_is_told_apart_from_that_of_openai(whole: Needs, tmp_path: Path) -> None:
    named = [(each.need.kind, each.need.name) for each in whole.checkpoints()]
    assert named[:2] == [("text tower", B32), ("checkpoint", "base")]
    for file in (tmp_path / "models").rglob("nonlinear_zeroshot.pt"):
        file.unlink()
    assert ("checkpoint", "base") not in [(each.need.kind, each.need.name) for each in whole.checkpoints()]
    own = dataclasses.replace(whole, own=True, source=openclip.BASE)
    assert [each.need.kind for each in own.checkpoints()] == ["text tower", "text tower"]


def test_what_is_only_on_a_drive_is_told_with_its_address_and_not_fetched(small: None, tmp_path: Path) -> None:
    needs = needs_of(settings_of(tmp_path, "tsv"), [registry.tasks()["MNIST"]], B32)
    tower, expert = needs.checkpoints()
    assert "fetch it from timm/vit_base_patch32_clip_224.openai on the hub" in tower.need.finding.told
    assert tower.fetch is not None
    assert "copy ViT-B-32/MNISTVal/nonlinear_finetuned.pt from https://drive.google.com" in expert.need.finding.told
    assert expert.fetch is None


def test_experts_that_learnt_another_emnist_are_doubtful(small: None, tmp_path: Path) -> None:
    about = settings_of(tmp_path, "fusion-bench")
    (doubt,) = needs_of(about, [registry.tasks()["EMNIST"]], B32).options()
    assert doubt.finding.state == "doubtful"
    assert 'set emnist to "letters"' in doubt.finding.told
    letters = dataclasses.replace(about, options=Options(emnist="letters"))
    assert not list(needs_of(letters, [registry.tasks()["EMNIST"]], B32).options())


@pytest.mark.parametrize(("reader", "package", "left"), [("hub", "pyarrow", []), ("local", "h5py", ["MNIST"])])
def test_missing_packages_are_told_instead_of_data_sets_that_take_them(
    reader: str, package: str, left: list[str], small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "find_spec", lambda name: None if name == package else name)
    tasks = [registry.tasks()[name] for name in ("MNIST", "PCAM")]
    about = needs_of(settings_of(tmp_path, reader=reader), tasks, B32)
    (missing,) = about.packages()
    assert (missing.name, missing.finding.state) == (package, "missing")
    assert f"`pip install {package}`" in missing.finding.told
    assert [wanted.need.name for wanted in about.data_sets()] == left


def test_copies_of_the_hub_are_looked_at(small: None, tmp_path: Path) -> None:
    task = real_snapshots.small(registry.tasks()["STL10"], 6, 3)
    about = needs_of(settings_of(tmp_path, reader="hub"), [task, registry.tasks()["KMNIST"]], B32)
    real_snapshots.write_copy(task, tmp_path / "images")
    assert [wanted.need.finding.state for wanted in about.data_sets()] == ["present", "missing"]
    assert all(wanted.fetch for wanted in about.data_sets())


def test_what_is_made_is_told_with_the_room_that_it_takes(whole: Needs) -> None:
    def made(kind: str) -> list[tuple[str, int | None]]:
        return [(need.finding.state, need.finding.bytes) for need in whole.made() if need.kind == kind]

    splits = [(whole.tasks[0].name, "validation"), (whole.tasks[0].name, "test")]
    assert made("head") == [("made later", None)] * 6
    assert made("decoded split")[:2] == [("made later", 6 * 3 * SIZE**2), ("made later", 3 * 3 * SIZE**2)]
    for name, split in splits:
        folder = places.decoded("clip", name, split)  # type: ignore[arg-type]
        folder.mkdir(parents=True)
        (folder / "0000.images").write_bytes(bytes(3 * 3 * SIZE**2))
    head = places.head("clip", B32, "MNIST")
    head.parent.mkdir(parents=True)
    head.touch()
    assert made("decoded split")[:2] == [("made later", 3 * 3 * SIZE**2), ("present", None)]
    assert sorted(made("head")).count(("present", None)) == 1
    ((state, size),) = made("store of decompositions")
    assert (state, size) == ("made later", sizes.decompositions(whole.profile.backbones, "open_clip", 3))
    assert made("written base") == [
        ("made later", sizes.encoder(B32, "open_clip")),
        ("made later", sizes.encoder(L14, "open_clip")),
    ]


def test_decompositions_are_as_large_as_they_become(small: None) -> None:
    state = real_checkpoints.encoder(B32, None)
    backbone = profile(B32).backbones[0]
    factors = [torch.linalg.svd(tensor, full_matrices=False) for tensor in state.values() if tensor.ndim == 2]
    expected = sum(part.nbytes for parts in factors for part in parts)
    assert sizes.decompositions([backbone], "open_clip", 2) == 2 * expected


def read() -> int:
    """Return how many bytes this process has read so far."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not tell what was read")
def test_models_of_real_size_are_looked_at_without_reading_their_numbers(tmp_path: Path) -> None:
    file = openclip.openai_file(tmp_path / "models", L14)
    at, header = 0, {}
    for key, shape in backbones.whole(L14).items():
        size = 4 * torch.Size(shape).numel()
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    file.parent.mkdir(parents=True)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(stream.tell() + at)
    needs = needs_of(settings_of(tmp_path, "tsv"), [], L14)
    before = read()
    assert [(each.need.finding.state, each.need.finding.bytes) for each in needs.checkpoints()] == [
        ("present", file.stat().st_size)
    ]
    assert read() - before < 2**22 < file.stat().st_size // 100


def test_a_run_with_nothing_there_does_not_start_and_says_so_once(
    small: None, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert commands.main(["train", "--profile", "clip", "--first-suite"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("profile clip, text tower ViT-B-32: ")
    assert "`make doctor PROFILE=clip" in said
    assert said.count("\n") == 1
    assert not output.exists()
    assert commands.main(["doctor", "--profile", "clip"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert "things are in the way: run `make fetch PROFILE=clip" in lines[-1]
    assert any("estimated, not measured" in line for line in lines)


@pytest.fixture
def hub(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with OpenAI's weights and the experts of Cars and DTD."""
    served = tmp_path / "served"
    real_checkpoints.write_tall_masks(served / "nik-dim/tall_masks/single_task", B32, ["Cars", "DTD"], zero_shot=False)
    real_checkpoints.write_openai(tmp_path / "theirs", B32)
    (served / "timm").mkdir()
    (tmp_path / "theirs" / B32 / "openai").rename(served / "timm/vit_base_patch32_clip_224.openai")
    with hub_stand_in.hub(served, monkeypatch) as running:
        yield running


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The profile of two tasks, whose models and images lie in the test's folder."""
    monkeypatch.setattr(settings, "load", lambda _: settings_of(tmp_path))
    return profile(B32, tasks=2)


def test_missing_models_are_fetched_once(
    hub: Hub, wanted: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetching.fetch(wanted, "checkpoints")
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("clip: 3 downloads, about ")
    assert len([line for line in said if ": downloading " in line and str(tmp_path / "models") in line]) == 3
    assert said[-1] == "clip: all is there."
    asked = len(hub.asked)
    fetching.fetch(wanted, "checkpoints")
    assert len(hub.asked) == asked
    states = [need.finding.state for need in world_of(wanted).needs() if need.kind in ("checkpoint", "text tower")]
    assert states == ["present"] * 3


def test_one_that_cannot_be_fetched_does_not_keep_others_from_it(
    hub: Hub, wanted: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (hub.folder / "nik-dim/tall_masks/single_task" / B32 / "CarsVal/nonlinear_finetuned.pt").unlink()
    told = r"clip: not all is there yet \(1 of 3 left\); `make doctor PROFILE=clip"
    with pytest.raises(InputError, match=told):
        fetching.fetch(wanted, "checkpoints")
    assert "there is no single_task/ViT-B-32/CarsVal/nonlinear_finetuned.pt" in capsys.readouterr().err
    assert SOURCES["tall-masks"].look(tmp_path / "models", B32, "DTD").state == "present"


@pytest.mark.parametrize("switch", offline.SWITCHES)
def test_offline_nothing_is_asked_for(hub: Hub, wanted: Profile, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setenv(switch, "1")
    with pytest.raises(InputError, match=f"{switch} is set, so none of 3 things that are missing is fetched"):
        fetching.fetch(wanted, "checkpoints")
    assert not hub.asked


def test_published_experts_are_read_in_this_process_and_that_is_what_is_said(
    small: None,
    wanted: Profile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real_checkpoints.write_tall_masks(tmp_path / "models", B32, ["Cars", "DTD"], heads=False)
    monkeypatch.setattr(experts, "WORTH_A_POOL", 0)
    monkeypatch.setattr(engine, "_processes", None)
    assert [expert.task for expert in experts.train_all(wanted)] == ["Cars", "DTD"]
    said = capsys.readouterr().err
    assert "reading published clip experts: 2/2" in said
    assert "fine-tuning" not in said
    assert world_of(wanted).remedy().endswith(" to read it")


def test_experts_that_were_read_are_told_apart_from_those_to_come(small: None, wanted: Profile) -> None:
    file = inventory.path(wanted, inventory.Expert(B32, "Cars", 0))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"content")
    listed = {need.name: need.finding for need in world_of(wanted).needs() if need.kind == "expert"}
    assert listed["Cars, seed 0"].state == "present"
    assert (listed["DTD, seed 0"].state, listed["DTD, seed 0"].bytes) == (
        "made later",
        sizes.encoder(B32, "open_clip"),
    )


def test_the_time_goes_by_the_images_of_the_profile(small: None, wanted: Profile) -> None:
    report = doctor.examine(wanted)
    (time,) = [need for need in report.needs if need.kind == "time"]
    assert "estimated, not measured: " in time.finding.told
    assert "images pass through encoders" in time.finding.told
    assert paths.cache("clip").exists() is False
