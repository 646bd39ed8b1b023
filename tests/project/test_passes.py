# SPDX-License-Identifier: MIT
"""Images, hours and gigabytes that the page of the clip world tells are those that the code counts."""

import re
from pathlib import Path

import pytest

from bench import passes, table
from compendium import paths, profiles
from compendium.study import alpha, forwards
from compendium.worlds.clip import settings
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.settings import Checkpoints, Images, Settings
from compendium.worlds.clip.world import Clip
from compendium.worlds.protocol import world_of
from tsvlib.errors import InputError

PAGE = (paths.ROOT / "data" / "clip" / "README.md").read_text(encoding="utf-8")
README = " ".join((paths.ROOT / "README.md").read_text(encoding="utf-8").split())
EIGHT = profiles.load("clip", suites="8")
AS_COMMITTED = Settings(Checkpoints("tall-masks", "", "unknown"), Images("local", ""), Options())


@pytest.fixture(autouse=True)
def _as_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no change of a user's to the settings decide."""
    monkeypatch.setattr(settings, "load", lambda name: AS_COMMITTED)


@pytest.fixture
def world() -> Clip:
    found = world_of(EIGHT)
    assert isinstance(found, Clip)
    return found


def test_the_page_prints_images_hours_and_room() -> None:
    hours, room = passes.hours(), passes.room()
    assert hours in PAGE
    assert room in PAGE
    first = [float(cell) for cell in hours.splitlines()[2].strip("| ").split(" | ")[1:]]
    assert f"in about {first[1]:.0f} hours on an H100, and in about {first[3]:.0f}, estimated" in README
    columns = [line.strip("| ").split(" | ")[:2] for line in room.splitlines()[2:]]
    for kind, words in {"download": "GB to download", "cache": "GB of cache"}.items():
        total = sum(float(size) for title, size in columns if title.startswith(kind))
        assert re.search(rf"\b{total:.0f} {words}", README)


def test_the_page_tells_how_many_images_are_decoded_and_how_long_that_takes() -> None:
    whole = profiles.load("clip")
    world = world_of(whole)
    assert isinstance(world, Clip)
    images = sum(world.count(task.name, name) for task in world.tasks for name in ("validation", "test"))
    rows = table.read(passes.RESULTS / "bench.csv")
    rate = next(row.value for row in rows if row.quantity == "ViT-B-32, fine-tuning, 16 decoding")
    told = f"decoding {images:,} images once, {images / rate / 60:.0f} minutes at the {rate:.0f} a second that 16"
    assert told in " ".join(PAGE.split())


def test_the_official_protocol_by_hand(world: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpha, "subsets", lambda profile, backbone: {0: ("Cars", "DTD")})
    validation, test = 20_429, 87_433
    figure_7 = 10 * (814 + 376)
    found = passes.official(EIGHT, world)
    assert found["ViT-B-16"] == validation + 13 * test + 5 * 30 * validation + 8 * test + figure_7
    assert found["ViT-L-14"] - found["ViT-B-16"] == 4 * test
    ours = passes.same(EIGHT, world)
    assert ours["ViT-B-16"] == validation + 10 * test + 5 * 10 * validation + 8 * test + figure_7


def test_what_both_have_is_part_of_the_whole(world: Clip) -> None:
    shared, whole = passes.same(EIGHT, world), forwards.forwards(EIGHT, world)
    for backbone, count in shared.items():
        assert passes.official(EIGHT, world)[backbone] > count
        assert whole[backbone] > count
    assert passes.real_row(EIGHT, world)["ViT-B-32"] < shared["ViT-B-32"]


def test_without_a_measured_rate_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(passes, "RESULTS", tmp_path)
    table.replace(tmp_path / "bench.csv", "encoding", [])
    with pytest.raises(InputError, match="no row 'ViT-B-32 in float16, 1 in one pass' of an H100"):
        passes.hours()
