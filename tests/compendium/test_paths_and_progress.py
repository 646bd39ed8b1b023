# SPDX-License-Identifier: MIT
import dataclasses
import io
import os
import socket
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compendium import paths, profiles, terminal
from tsvlib import progress


def test_folders_follow_the_output_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("TSV_OUTPUT", str(tmp_path))
    assert paths.results("smoke") == tmp_path / "data" / "results" / "smoke"
    assert paths.figures("smoke") == tmp_path / "figures" / "smoke"
    assert paths.cache("smoke") == tmp_path / "data" / "cache" / "smoke"
    monkeypatch.setenv("TSV_CACHE", str(tmp_path / "kept"))
    assert paths.cache("smoke") == tmp_path / "kept" / "smoke"
    assert paths.results("smoke") == tmp_path / "data" / "results" / "smoke"


@pytest.mark.parametrize(
    ("profile", "root", "copies"),
    [("mini", ".", "notebooks"), ("another", ".", "notebooks/another"), ("smoke", "build/smoke", "notebooks/smoke")],
)
def test_without_it_a_profile_owns_its_folders_and_the_test_profile_lies_in_build(monkeypatch, profile, root, copies):
    monkeypatch.delenv("TSV_OUTPUT")
    place = paths.ROOT / root
    assert paths.results(profile) == place / "data" / "results" / profile
    assert paths.figures(profile) == place / "figures" / profile
    assert paths.cache(profile) == place / "data" / "cache" / profile
    assert paths.notebooks(profile) == place / copies


def test_a_run_with_other_parameters_has_a_root_of_its_own_in_build(monkeypatch, tmp_path):
    assert paths.destination("mini", {"layer": "visual.proj"}) == paths.output_root("mini")
    monkeypatch.delenv("TSV_OUTPUT")
    assert paths.destination("mini", {}) == paths.ROOT
    assert paths.destination("smoke", {}) == paths.ROOT / "build" / "smoke"
    assert paths.destination("mini", {"layer": "visual.proj"}) == paths.ROOT / "build" / "mini-layer-visual.proj"
    assert paths.destination("mini", {"b": 1, "a": "../../x"}).name == "mini-a-.._.._x-b-1"
    assert len(paths.destination("mini", {"a": "x" * 1000}).name) < 255


def test_a_part_has_a_root_of_its_own_and_the_cache_of_the_whole(monkeypatch, tmp_path):
    part = profiles.load("smoke", "smoke-l14, smoke-b32", "2").part
    assert paths.surroundings("smoke", part) == {}
    monkeypatch.delenv("TSV_OUTPUT")
    root, cache = paths.build() / "smoke+backbones-smoke-l14,smoke-b32+suites-2", paths.cache("smoke")
    assert paths.destination("smoke", {}, part) == root
    assert paths.destination("smoke", {"layer": "x"}, part) == root.with_name(root.name.replace("+", "-layer-x+", 1))
    assert paths.surroundings("smoke", "") == {}
    for name, value in paths.surroundings("smoke", part).items():
        monkeypatch.setenv(name, value)
    assert paths.results("smoke") == root / "data" / "results" / "smoke"
    assert paths.cache("smoke") == cache
    chosen = "make paper PROFILE=smoke BACKBONES=smoke-l14,smoke-b32 SUITES=2"
    assert paths.command("paper", "smoke") == chosen
    monkeypatch.setenv("TSV_OUTPUT", str(root).replace("+", "-further_seeds-3+", 1))
    assert paths.command("paper", "smoke") == f"{chosen} FURTHER_SEEDS=3"
    monkeypatch.delenv("TSV_OUTPUT")
    assert paths.command("paper", "smoke", 2, part) == f"{chosen} FURTHER_SEEDS=2"
    assert paths.command("paper", "mini", part=profiles.load("mini", suites="8").part) == "make paper SUITES=8"


LETTERS = f"{string.ascii_letters}{string.digits}-_."
NAMES = st.lists(st.text(LETTERS, min_size=1), max_size=3, unique=True) | st.lists(
    st.sampled_from(["a_b", "a", "b", "-suites-8", "a-further_seeds-3", "backbones-a", "suites"]),
    max_size=3,
    unique=True,
)


@given(NAMES, st.lists(st.integers(2, 20).map(str), max_size=3, unique=True), st.integers(0, 11))
def test_whatever_backbones_are_called_a_folder_tells_what_to_type(names, suites, seeds):
    profile = profiles.load("mini")
    known = tuple(dataclasses.replace(profile.backbones[0], name=name) for name in {*names, "other"})
    profile = dataclasses.replace(profile, backbones=known, suites=tuple(range(2, 21)))
    part = profile.narrowed(" ".join(names), ",".join(suites)).part
    expected = ["make", "paper"]
    expected += [f"BACKBONES={','.join(names)}"] if names else []
    expected += [f"SUITES={','.join(suites)}"] if suites else []
    expected += [f"FURTHER_SEEDS={seeds}"] if seeds else []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TSV_OUTPUT")
        assert paths.command("paper", "mini", seeds, part) == " ".join(expected)
        root = paths.destination("mini", {"further_seeds": seeds} if seeds else {}, part)
        assert (root.parent == paths.build()) == (len(expected) > 2)
        patch.setenv("TSV_OUTPUT", str(root))
        if len(expected) > 2:
            assert paths.command("paper", "mini") == " ".join(expected)


def test_without_a_runner_what_would_change_the_checkout_becomes_a_draft(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("TSV_OUTPUT")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    table = paths.results("mini") / "merge.csv"
    assert paths.staged(table, "mini") == tmp_path / "build" / "drafts" / "data" / "results" / "mini" / "merge.csv"
    paths.tell_draft(table, "mini")
    told = capsys.readouterr().err
    assert "build/drafts/data/results/mini/merge.csv" in told
    assert "`make data/results/mini/merge.csv`" in told
    for profile, root in (("smoke", None), ("mini", tmp_path / "elsewhere")):
        if root:
            monkeypatch.setenv("TSV_OUTPUT", str(root))
        table = paths.results(profile) / "merge.csv"
        assert paths.staged(table, profile) == table
        assert table.parent.is_dir()
        paths.tell_draft(table, profile)
    monkeypatch.setenv("TSV_OUTPUT", str(tmp_path))
    monkeypatch.setenv("TSV_STAGE", str(tmp_path / "stage"))
    paths.tell_draft(tmp_path / "data" / "results" / "mini" / "merge.csv", "mini")
    assert capsys.readouterr().err == ""


def test_a_remedy_names_profile_seeds_and_folder(monkeypatch, tmp_path):
    assert paths.command("paper", "mini") == f"make paper OUT={paths.output_root('mini')}"
    monkeypatch.delenv("TSV_OUTPUT")
    assert paths.command("experts", "mini") == "make experts"
    assert paths.command("experts", "smoke", 2) == "make experts PROFILE=smoke FURTHER_SEEDS=2"
    monkeypatch.setenv("TSV_OUTPUT", str(paths.build() / "mini-further_seeds-3"))
    assert paths.command("paper", "mini") == "make paper FURTHER_SEEDS=3"
    monkeypatch.setenv("TSV_OUTPUT", str(tmp_path / "my papers"))
    assert paths.command("paper", "smoke").startswith("make paper PROFILE=smoke 'OUT=/")


def test_a_stage_mirrors_the_output_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TSV_STAGE", str(tmp_path / "stage"))
    staged = paths.staged(paths.results("smoke") / "table.csv", "smoke")
    assert staged == tmp_path / "stage" / "data" / "results" / "smoke" / "table.csv"
    with pytest.raises(ValueError, match="subpath"):
        paths.staged(tmp_path / "elsewhere.csv", "smoke")


def test_bars_go_to_the_named_file(monkeypatch, tmp_path):
    monkeypatch.setenv("TSV_PROGRESS", str(tmp_path / "bar"))
    with progress.track(2, "training") as bar:
        bar.update()
        bar.update()
    shown = (tmp_path / "bar").read_text(encoding="utf-8")
    assert "training: 2/2" in shown
    assert "left" in shown


def test_bars_go_to_the_terminal_without_a_runner(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with progress.track(1, "training") as bar:
        bar.update()
    assert "training: 1/1" in stream.getvalue()


def test_the_network_is_blocked():
    with pytest.raises(RuntimeError, match="must not use the network"):
        socket.create_connection(("example.org", 80))
    with socket.socket() as plain, pytest.raises(RuntimeError, match="must not use the network"):
        plain.connect(("192.0.2.1", 80))


def test_running_bars_share_the_last_line_of_a_terminal(monkeypatch, tmp_path):
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(screen, "isatty", lambda: True)
    bar = "\r{}: {}/9 |###     | 00:10 elapsed, 00:{} left"
    for name, age, text in (("13_merge", 0, ""), ("11_spectra", 0, "b: 2"), ("killed", 60, "c: 1")):
        file = tmp_path / f"{name}.progress"
        file.write_text(bar.format("decomposing, " + text, 4, 20), encoding="utf-8")
        os.utime(file, (time.time() - age,) * 2)
    with terminal.shown_on_terminal(tmp_path / "13_merge.progress", "13_merge"):
        with (tmp_path / "13_merge.progress").open("a", encoding="utf-8") as file:
            file.write(bar.format("merging", 1, 50) + bar.format("merging", 2, 40))
        time.sleep(2 * terminal.PAUSE)
    last = screen.getvalue().split(terminal.CLEARED)[-1]
    assert last == "11_spectra decomposing, b: 2 4/9, 00:20 left · 13_merge merging 2/9, 00:40 left"[:79]


def test_logs_get_whole_lines_and_few_of_them(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    log = io.StringIO()
    show = terminal._every_half_minute("13_merge", log.write)
    for now, text in ((1, "\r1/9"), (31, "\r2/9\r3/9"), (32, "\r4/9"), (40, "\r9/9\n"), (80, "\r")):
        clock[0] = now
        show(text)
    assert log.getvalue() == "13_merge: 3/9\n13_merge: 9/9\n"
