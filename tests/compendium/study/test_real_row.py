# SPDX-License-Identifier: MIT
"""One row from published checkpoints: what is missing is named, and what is measured stands beside what was printed."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from compendium import profiles
from compendium.paper import comparison, tables
from compendium.profiles import Backbone, Profile, Samples
from compendium.study import real_row
from compendium.worlds.clip import registry, settings
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.settings import Checkpoints, Images, Settings
from compendium.worlds.findings import Finding
from compendium.worlds.protocol import Need, world_of
from tsvlib.errors import InputError

from ..worlds.clip import real_checkpoints, real_layouts, real_paper

ROW = profiles.load("clip", "ViT-B-32", "8")
FEW = ("Cars", "DTD", "EuroSAT")
SOURCES = ("tall-masks", "fusion-bench")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Profile]:
    """Three tasks of one tiny backbone, beside their data sets and the folders of two sources of experts."""
    with real_layouts.some_alike(real_paper.TEST):
        tasks = {name: real_layouts.small(registry.tasks()[name]) for name in FEW}
        tasks = {name: real_layouts.write(task, tmp_path / "images", 20, 6) for name, task in tasks.items()}
    monkeypatch.setattr(registry, "tasks", lambda: tasks)
    monkeypatch.setattr(registry, "with_options", lambda task, options: task)
    whole = dataclasses.replace(profiles.load("clip"), device="cpu", tasks=len(FEW), suites=(len(FEW),))
    with real_checkpoints.tiny_backbones(tmp_path / "described", real_paper.SMALL):
        for source in SOURCES:
            real_paper.write_checkpoints(tmp_path / source, source, ("ViT-B-32",), FEW)
        yield dataclasses.replace(
            whole,
            samples=Samples(100, 100, 100, 300),
            backbones=(Backbone("ViT-B-32", "ViT-B/32", "ViT-B-32", (0,)),),
        )


def read_from(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Checkpoints(source, str(folder / source), "old")  # type: ignore[arg-type]
    chosen = Settings(theirs, Images("local", str(folder / "images")), Options())
    monkeypatch.setattr(settings, "load", lambda name: chosen)
    world_of.cache_clear()


def test_what_was_printed_stands_beside_what_was_not_run() -> None:
    table = comparison.beside_published(pd.DataFrame(), ROW)
    assert set(table.here) == {"not run"}
    assert table.paper["TSV-M"] == "85.86 (92.31)"
    assert table["FusionBench, other experts"]["TSV-M, alpha = 1"] == "83.06 (91.54)"
    assert table["FusionBench, other experts"]["TSV-M"] == "not published"


@pytest.mark.parametrize("source", SOURCES)
def test_the_row_is_measured_from_files_and_normalised_by_the_experts_in_them(
    small: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    read_from(source, tmp_path, monkeypatch)
    assert real_row.lacking(small) == []
    rows, ahead = real_row.measured(small)
    frame = pd.DataFrame(rows)
    cells = frame[frame.metric == "accuracy"].pivot_table(index="task", columns="method", values="value")
    assert set(cells.index) == set(FEW)
    here = comparison.beside_published(frame, small).here
    for method in comparison.ROW:
        accuracy, normalised = (100 * numbers.mean() for numbers in (cells[method], cells[method] / cells.individual))
        assert here[tables.TITLES[method]] == tables.pair(accuracy, normalised)
    assert here["Individual"].endswith(" (100.00)")
    assert "points better on test than on validation inputs" in ahead


def test_every_column_says_whose_experts_and_which_images_it_rests_on(
    small: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_from("tall-masks", tmp_path, monkeypatch)
    told = comparison.versions(world_of(small).stated).splitlines()
    assert told[0].startswith("here: Experts: of tall-masks, the one of DTD of the old generation")
    assert "EuroSAT on 2,700 test images" in told[0]
    columns = comparison.beside_published(pd.DataFrame(), small).columns
    assert [line.partition(": Experts: ")[0] for line in told] == list(columns)


def test_whatever_is_missing_of_a_row_is_named(small: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_from("tall-masks", tmp_path, monkeypatch)
    (tmp_path / "images" / "dtd").rename(tmp_path / "away")
    (tmp_path / "tall-masks" / "ViT-B-32" / "CarsVal" / "nonlinear_finetuned.pt").unlink()
    assert real_row.told(real_row.lacking(small)).splitlines() == [
        "not run: checkpoint Cars of ViT-B-32 is missing",
        "not run: data set DTD is missing",
    ]


def test_what_was_measured_is_a_mean_over_tasks() -> None:
    rows = [
        {"backbone": "ViT-B-32", "n_tasks": 8, "method": "tsv_m", "seed": 0, "task": t, "metric": m, "value": value}
        for t, m, value in (("a", "accuracy", 0.8), ("b", "accuracy", 0.9), ("all", "normalised_accuracy", 0.9))
    ]
    here = comparison.beside_published(pd.DataFrame(rows), ROW).here
    assert here["TSV-M"] == "85.00 (90.00)"
    assert here["Individual"] == "not run"


def test_every_missing_thing_is_a_line_without_folders_of_this_machine() -> None:
    lacks = [
        Need("checkpoint", "DTD", Finding("missing", "folder/dtd.pt: missing."), "ViT-B-32"),
        Need("data set", "Cars", Finding("wrong", "folder/cars: empty.")),
    ]
    assert real_row.told(lacks).splitlines() == [
        "not run: checkpoint DTD of ViT-B-32 is missing",
        "not run: data set Cars is not as it should be",
    ]


def test_another_source_and_folder_than_in_the_file_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in settings.INSTEAD.values():
        monkeypatch.setenv(name, "")
    stated = settings.load("clip")
    settings.read_instead("", "")
    assert settings.load("clip") == stated
    settings.read_instead("fusion-bench", str(tmp_path))
    found = settings.load("clip")
    assert (found.checkpoints.source, found.checkpoints_folder) == ("fusion-bench", tmp_path)
    assert found.checkpoints.generation == stated.checkpoints.generation
    assert found.images == stated.images
    settings.read_instead("", "", "clean")
    assert settings.load("clip").checkpoints == Checkpoints("fusion-bench", str(tmp_path), "clean")
    settings.read_instead("somebody", "")
    with pytest.raises(InputError, match=r"'checkpoints.source' must be one of"):
        settings.load("clip")
    assert os.environ["TSV_CLIP_CHECKPOINTS"] == str(tmp_path)
