# SPDX-License-Identifier: MIT
"""The doctor tells what is there, what is not and what to do; a run does not start over what the doctor knows."""

import shutil
from pathlib import Path

import pytest

from compendium import commands, costs, doctor, machine, paths, profiles
from compendium.doctor import Report
from compendium.machine import Machine
from compendium.worlds.findings import Finding
from compendium.worlds.mini import models
from compendium.worlds.minilm import texts
from compendium.worlds.protocol import Need, world_of
from tsvlib.errors import InputError

SMOKE, MINI = profiles.load("smoke"), profiles.load("mini")


def found(report: Report, kind: str) -> list[Need]:
    return [need for need in report.needs if need.kind == kind]


def test_the_tiny_profile_has_all_that_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert commands.main(["doctor", "--profile", "smoke"]) == 0
    said = capsys.readouterr().out.splitlines()
    # The last line is to be copied, so it is not wrapped.
    assert all(len(line) <= 80 for line in said[:-1])
    assert said[0].split() == ["What", "State", "Told"]
    assert said[-1].startswith("Nothing is in the way: run `make paper PROFILE=smoke")
    assert any(line.startswith("6 experts of smoke-b32  made later  in ") for line in said)
    assert [line for line in said if line.startswith(("disk ", "memory ", "device ", "time "))]


def test_finished_experts_are_counted(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    needs = list(world_of(SMOKE).needs())
    experts = [need for need in needs if need.kind == "expert"]
    assert len(experts) == 9
    assert {need.finding.state for need in experts} == {"present"}
    table = Report("smoke", needs).table(100)
    assert "6 experts of smoke-b32  present" in table


def need(state: str, told: str, name: str, kind: str = "checkpoint", size: int | None = None, **more: bool) -> Need:
    return Need(kind, name, Finding(state, told, size), "big", **more)  # type: ignore[arg-type]


def test_what_is_alike_shares_a_row_and_problems_are_named() -> None:
    report = Report(
        "mini",
        [
            need("present", "in a folder", "one", size=10**9),
            need("missing", "not in a folder; get it.", "two"),
            need("present", "in a folder", "three", size=2 * 10**9),
            need("wrong", "a/three: it is short; get it again.", "four"),
            need("missing", "not in a folder; get it.", "five"),
        ],
    )
    assert report.table(100).splitlines()[2:] == [
        "2 checkpoints of big    present  in a folder (3.0 GB)",
        "2 checkpoints of big    missing  two, five: not in a folder; get it.",
        "checkpoint four of big  wrong    a/three: it is short; get it again.",
    ]
    assert [each.name for each in report.in_the_way] == ["two", "four", "five"]
    assert report.advice() == "3 things are in the way; first, checkpoint two of big: not in a folder; get it."


def test_what_can_be_fetched_is_fetched_first() -> None:
    many = [need("missing", "far away; fetch it.", name, can_fetch=True) for name in "ab"]
    report = Report("smoke", [*many, need("missing", "lost; look for it.", "c")])
    assert report.advice().startswith("3 things are in the way: run `make fetch PROFILE=smoke")
    assert report.advice().endswith("`, which gets 2 of them.")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_tables_fit_their_width(width: int) -> None:
    long = Report("mini", [need("wrong", f"{'folder/' * 20}file: it is short; {'get it again ' * 9}.", "n" * 50)])
    assert max(map(len, long.table(width).splitlines())) <= width


def test_too_small_a_disk_is_in_the_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    monkeypatch.setattr(machine, "room", lambda _: 10**7)
    told = r"profile smoke, disk: .*: 10 MB are free, and 100 MB are to be written; free some space, .*; `make doctor"
    with pytest.raises(InputError, match=told):
        doctor.check(SMOKE)
    assert commands.main(["doctor", "--profile", "smoke"]) == 1
    assert "One thing is in the way; first, disk: " in capsys.readouterr().out
    assert commands.main(["train", "--profile", "smoke", "--first-suite", "--then-all"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("profile smoke, disk: ")
    assert not output.exists()


def test_the_tour_takes_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "room", lambda _: 10**7)
    doctor.check(SMOKE.first_suite())


def test_little_memory_is_told_and_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "found", lambda _: Machine("a CPU", 1, 2 * 10**9, 10**9))
    report = doctor.examine(SMOKE)
    (memory,), (device,) = found(report, "memory"), found(report, "device")
    assert memory.finding.state == "doubtful"
    assert memory.finding.told.startswith("1.0 GB of 2.0 GB are available, and about 2.0 GB are needed; ")
    assert device.finding.told == "a CPU, 1 core."
    assert not report.in_the_way


def test_this_machine_is_told() -> None:
    here = machine.found("cpu")
    assert here.processor
    assert here.cores >= 1
    assert 0 < here.available <= here.memory
    assert here.gpu is None
    assert machine.room(paths.ROOT / "no" / "such" / "folder") == shutil.disk_usage(paths.ROOT).free


def test_held_is_what_files_take(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"12345")
    (tmp_path / "c").write_bytes(b"123")
    assert machine.held(tmp_path) == 8
    assert machine.held(tmp_path / "none") == 0


@pytest.mark.parametrize(("profile", "span"), [("smoke", "about 3"), ("mini", "30 to 42"), ("minilm", "about 170")])
def test_measured_times_are_told(profile: str, span: str) -> None:
    known = costs.of(profile)
    assert known.minutes
    least, most = known.minutes
    assert span == (f"about {least}" if least == most else f"{least} to {most}")
    assert costs.of("a profile of somebody else's") == costs.Cost()


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the shipped weights, in their place."""
    for file in (paths.ROOT / "data" / "mini" / "weights").glob("*.safetensors"):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(models, "weights_file", lambda _, backbone: tmp_path / f"{backbone}.safetensors")
    return tmp_path


def test_missing_and_damaged_base_models_are_told(weights: Path) -> None:
    file = weights / "mini-b16.safetensors"
    content = bytearray(file.read_bytes())
    for state, told in (
        ("present", "in "),
        ("wrong", f"{file}: "),
        ("missing", f"{file}: the file is missing; restore"),
    ):
        bases = [need for need in world_of(MINI).needs() if need.kind == "base model"]
        assert [need.finding.state for need in bases] == ["present", state, "present"]
        assert bases[1].finding.told.startswith(told)
        content[-100] ^= 1
        file.write_bytes(content) if state == "present" else file.unlink(missing_ok=True)


def test_changed_texts_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("digests.toml", "texts/plays.csv", "texts/nouns.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(texts.FOLDER.parent / name, tmp_path / name)
    (tmp_path / "texts/nouns.csv").write_text((tmp_path / "texts/nouns.csv").read_text().replace("e", "a", 1000))
    monkeypatch.setattr(texts, "FOLDER", tmp_path / "texts")
    texts._shipped.cache_clear()
    states = {name: texts.look(name).state for name in ("plays", "nouns", "verbs")}
    texts._shipped.cache_clear()
    assert states == {"plays": "present", "nouns": "wrong", "verbs": "missing"}


def test_worlds_that_ship_everything_have_nothing_to_fetch(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["fetch", "--profile", "smoke"]) == 0
    assert capsys.readouterr().err == (
        "smoke: there is nothing to fetch; all that it needs comes with checkout and packages.\n"
    )
