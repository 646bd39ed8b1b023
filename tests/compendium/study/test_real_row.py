# SPDX-License-Identifier: MIT
"""One row from published checkpoints: what is missing is named, and what is measured stands beside what was printed."""

import os
from pathlib import Path

import pandas as pd
import pytest

from compendium import profiles
from compendium.paper import comparison
from compendium.study import real_row
from compendium.worlds.clip import settings
from compendium.worlds.findings import Finding
from compendium.worlds.protocol import Need
from tsvlib.errors import InputError

ROW = profiles.load("clip", "ViT-B-32", "8")


def test_what_was_printed_stands_beside_what_was_not_run() -> None:
    table = comparison.beside_published(pd.DataFrame(), ROW)
    assert set(table.here) == {"not run"}
    assert table.paper["TSV-M"] == "85.86 (92.31)"
    assert table["FusionBench, other experts"]["TSV-M, alpha = 1"] == "83.06 (91.54)"
    assert table["FusionBench, other experts"]["TSV-M"] == "not published"


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
    assert found.images == stated.images
    settings.read_instead("somebody", "")
    with pytest.raises(InputError, match=r"'checkpoints.source' must be one of"):
        settings.load("clip")
    assert os.environ["TSV_CLIP_CHECKPOINTS"] == str(tmp_path)
