# SPDX-License-Identifier: MIT
"""The paper on published CLIPs from files to tables: real layouts, small models, few images, and no network."""

import csv
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkout
import pytest

from compendium.worlds.clip import registry

from ..compendium.worlds.clip import real_paper

TASKS = tuple(registry.tasks())
FEW = TASKS[:3]
B32, ALL = "ViT-B-32", ("ViT-B-32", "ViT-B-16", "ViT-L-14")
MERGE, PRINTED = ("13_merge", "10_checkpoints"), "30_tab_merge"

THREADS = "THREADS=1"
"""With one thread the same sums are rounded in the same order, whatever else the machine does."""

KILLS = 4
PATIENCE = 900
"""Seconds in which any step must be reached."""


def offline(copy: Path) -> dict[str, str]:
    """Return variables by which libraries ask no hub, and kernels are those of this Python."""
    return {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "JUPYTER_PATH": str(copy / "kernels")}


def make(copy: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return checkout.run(copy, "make", "PROFILE=clip", THREADS, *words, **offline(copy))


def made(copy: Path, *words: str) -> str:
    """Run make, which must succeed, and return what it says to the end."""
    done = make(copy, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def whole_copy(folder: Path) -> Path:
    """Return a copy of the checkout beside which all twenty data sets and all experts lie."""
    copy = checkout.copied(folder / "copy")
    real_paper.prepare(copy)
    real_paper.write_images(copy, folder / "images")
    real_paper.write_checkpoints(folder / "checkpoints", "tall-masks", ALL, TASKS)
    real_paper.shrink(copy, len(TASKS), (8, 14, 20), ALL)
    real_paper.point(copy, checkpoints=folder / "checkpoints", images=folder / "images", generation="old")
    checkout.commit(copy)
    return copy


def small_copy(folder: Path) -> Path:
    """Return a copy with three tasks and one backbone, beside checkpoints of all sources."""
    copy = checkout.copied(folder / "copy")
    real_paper.prepare(copy)
    real_paper.write_images(copy, folder / "images", FEW)
    for source in real_paper.SOURCES:
        real_paper.write_checkpoints(folder / source, source, (B32,), FEW)
    real_paper.shrink(copy, len(FEW), (2, 3), (B32,))
    real_paper.point(copy, images=folder / "images")
    checkout.commit(copy)
    return copy


def tables(folder: Path) -> dict[str, bytes]:
    """Return the result tables and the printed ones below an output folder, without their sidecars."""
    found = [*folder.glob("data/results/clip/*.csv"), *folder.glob("figures/clip/*.md")]
    return {file.name: file.read_bytes() for file in found}


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "data" / "results" / "clip" / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def progress(copy: Path) -> int:
    """Return how many experts and notebooks there are."""
    experts = copy / "data" / "cache" / "clip" / "experts"
    return len([*experts.glob("*.safetensors"), *(copy / "notebooks" / "clip").glob("*.ipynb")])


def kill_make(copy: Path, reached: int, later: float) -> None:
    """Start the whole paper and kill it, and all that it has started, some seconds after so much is there."""
    words = ["make", f"VENV={sys.prefix}", "PROFILE=clip", THREADS, "paper"]
    environment = checkout.surroundings(copy, **offline(copy))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=copy, env=environment, start_new_session=True, **quiet)
    end = time.monotonic() + PATIENCE
    while progress(copy) < reached and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(later)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def refused_without_an_expert(copy: Path, checkpoints: Path) -> None:
    """Take an expert away: the doctor and the paper say so in a sentence, and nothing is computed."""
    expert = checkpoints / "ViT-B-16" / "SUN397Val" / "nonlinear_finetuned.pt"
    away = expert.rename(expert.with_suffix(".away"))
    told, refused = make(copy, "doctor"), make(copy, "paper")
    assert told.returncode != 0
    assert "One thing is in the way: run `make fetch PROFILE=clip`" in told.stdout
    assert refused.returncode != 0
    assert "checkpoint SUN397 of ViT-B-16" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert progress(copy) == 0
    away.rename(expert)


@pytest.mark.slow
def test_the_whole_paper_comes_from_files_however_often_it_is_killed(tmp_path: Path) -> None:
    copy, rng = whole_copy(tmp_path), random.Random(0)
    assert "Nothing is in the way" in made(copy, "doctor")
    refused_without_an_expert(copy, tmp_path / "checkpoints")
    for reached in sorted(rng.sample(range(1, 60 + 30), KILLS)):
        kill_make(copy, reached, rng.uniform(0, 4))
    assert "Built" in made(copy, "paper")
    assert "Nothing to do" in made(copy, "paper")
    assert [line for line in checkout.changes(copy) if "clip" not in line] == []
    made(copy, "OUT=build/again", "tables")
    again = tables(copy / "build" / "again")
    assert again
    assert {name: content for name, content in tables(copy).items() if name in again} == again


@pytest.mark.slow
def test_the_real_row_is_printed_from_folders_that_are_named(tmp_path: Path) -> None:
    copy, eight = checkout.copied(tmp_path / "copy"), TASKS[:8]
    real_paper.prepare(copy)
    real_paper.write_images(copy, tmp_path / "images", eight)
    real_paper.write_checkpoints(tmp_path / "tsv", "tsv", (B32,), eight)
    real_paper.shrink(copy, len(eight), (2, len(eight)), (B32,))
    real_paper.point(copy, images=tmp_path / "images")
    checkout.commit(copy)
    before = made(copy, "real-row")
    assert f"not run: checkpoint DTD of {B32} is missing" in before
    after = made(copy, "real-row", f"CHECKPOINTS={tmp_path / 'tsv'}", "SOURCE=tsv", "GENERATION=old")
    for title, printed in {"TSV-M": "85.86 (92.31)", "TSV-M, alpha = 1": "83.06 (91.54)"}.items():
        assert re.search(rf"^{title} +not run .*{re.escape(printed)}", before, re.MULTILINE)
        assert re.search(rf"^{title} +\d+\.\d\d \(\d+\.\d\d\) .*{re.escape(printed)}", after, re.MULTILINE)
    assert "here: Experts: of tsv, the one of DTD of the old generation" in after
    assert "points better on test than on validation inputs" in after
    assert [line for line in checkout.changes(copy) if "51_real_row.ipynb" not in line] == []


@pytest.mark.slow
def test_all_sources_give_tables_and_the_same_weights_the_same_ones(tmp_path: Path) -> None:
    copy = small_copy(tmp_path)
    for source in real_paper.SOURCES:
        real_paper.point(copy, source=source, checkpoints=tmp_path / source)
        made(copy, f"OUT=build/{source}", *(f"build/{source}/notebooks/clip/{name}.ipynb" for name in MERGE))
    found = {source: tables(copy / "build" / source) for source in real_paper.SOURCES}
    assert found["tsv"] == found["task-arithmetic"] == found["tall-masks"]
    # Merged models of another layout are others, experts are not.
    assert found["fusion-bench"].keys() == found["tsv"].keys()
    assert found["fusion-bench"]["merge.csv"] != found["tsv"]["merge.csv"]


@pytest.mark.slow
def test_copies_of_the_hub_and_a_part_of_the_profile_give_tables(tmp_path: Path) -> None:
    copy = small_copy(tmp_path)
    real_paper.point(copy, checkpoints=tmp_path / "tall-masks")
    real_paper.write_copies(copy, tmp_path / "copies", FEW)
    real_paper.point(copy, images=tmp_path / "copies", reader="hub")
    part = copy / "build" / f"clip+backbones-{B32}+suites-2"
    targets = [str((part / "notebooks" / "clip" / f"{name}.ipynb").relative_to(copy)) for name in (*MERGE, PRINTED)]
    made(copy, f"BACKBONES={B32}", "SUITES=2", *targets)
    found = rows(part, "merge")
    assert {row["n_tasks"] for row in found} == {"2"}
    assert {row["task"] for row in found} >= set(FEW[:2])
    assert FEW[2] not in {row["task"] for row in found}
    assert "not run" in (part / "figures" / "clip" / "merge.md").read_text()
