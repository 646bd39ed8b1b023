# SPDX-License-Identifier: MIT
"""Whatever a process is started with: no or full streams, readers that go, letters that lack, little memory."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import small_models
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from compendium import paths
from tsvlib import checkpoints
from tsvlib.cli import commands

WORDS = ["--base", "base.safetensors", "--expert", "expert1.safetensors", "--expert", "expert2.safetensors"]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_models.write(tmp_path, 2)
    return tmp_path


def tsvlib(folder: Path, *words: str, **settings: object) -> "subprocess.CompletedProcess[bytes]":
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)} | settings.pop("env", {})  # type: ignore[operator]
    streams: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    command = [sys.executable, "-m", "tsvlib", *words]
    return subprocess.run(command, cwd=folder, env=environment, check=False, **streams)  # type: ignore[call-overload,no-any-return]


def closing(*descriptors: int) -> Callable[[], None]:
    """Return what closes standard streams before a process begins."""
    return lambda: [os.close(each) for each in descriptors] and None


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(2,), (1,), (1, 2), (0, 1, 2)])
def test_the_work_is_done_without_standard_streams(folder: Path, closed: tuple[int, ...]) -> None:
    done = tsvlib(folder, "merge", *WORDS, "--out", "m.safetensors", preexec_fn=closing(*closed))
    assert done.returncode == 0
    # No file took the number of a stream, to which libraries write.
    checkpoints.verify(folder / "m.safetensors")
    assert (1 in closed) == (not done.stdout)
    mistake = tsvlib(folder, "merge", *WORDS, "--out", "m.pt", preexec_fn=closing(*closed))
    assert mistake.returncode == 1


@needs_full
def test_a_full_error_stream_loses_words_and_no_work(folder: Path) -> None:
    with FULL.open("wb") as full:
        done = tsvlib(folder, "merge", *WORDS, "--out", "m.safetensors", stderr=full)
        assert done.returncode == 0
        assert done.stdout.startswith(b"m.safetensors: ")
        checkpoints.verify(folder / "m.safetensors")
        assert tsvlib(folder, "merge", *WORDS, "--out", "m.pt", stderr=full).returncode == 1
        assert tsvlib(folder, "merge", "--alfa", stderr=full).returncode == 2


@needs_full
@pytest.mark.parametrize("words", [["plan", *WORDS], ["merge", *WORDS, "--out", "m.safetensors"], ["merge", "--help"]])
def test_a_full_output_is_told_and_files_are_there(folder: Path, words: list[str]) -> None:
    with FULL.open("wb") as full:
        done = tsvlib(folder, *words, stdout=full)
    assert done.returncode == 1
    said = done.stderr.decode().splitlines()[-1]
    assert said.startswith("the standard output takes no more (no space left on device); files that were asked for are")
    if "--out" in words:
        checkpoints.verify(folder / "m.safetensors")


def test_a_reader_of_the_error_stream_that_goes_stops_nothing(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = tsvlib(folder, "merge", *WORDS, "--out", "m.safetensors", stderr=writer)
    os.close(writer)
    assert done.returncode == 0
    checkpoints.verify(folder / "m.safetensors")


def test_a_reader_of_the_output_that_goes_ends_a_command_with_its_file(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = tsvlib(folder, "merge", *WORDS, "--out", "m.safetensors", stdout=writer)
    os.close(writer)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    checkpoints.verify(folder / "m.safetensors")


LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "utf-8": {"PYTHONUTF8": "1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", ["größe-重み".encode(), b"no utf-8 \xff"])
def test_names_of_all_letters_in_every_locale(folder: Path, locale: str, name: bytes) -> None:
    base, pickled = name + b".safetensors", name + b".pt"
    os.rename(os.fsencode(folder) + b"/base.safetensors", os.fsencode(folder) + b"/" + base)  # noqa: PTH104
    torch.save(small_models.state(1), folder / "expert1.pt")
    os.rename(os.fsencode(folder) + b"/expert1.pt", os.fsencode(folder) + b"/" + pickled)  # noqa: PTH104
    words = ["merge", "--base", base, "--expert", pickled, "--expert", "expert2.safetensors", "--out", b"m" + base]
    done = tsvlib(folder, *words, env=LOCALES[locale])  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert b" bytes, digest " in done.stdout
    (merged,) = (path for path in folder.iterdir() if path.name.startswith("m"))
    assert os.fsencode(merged.name) == b"m" + base
    checkpoints.verify(merged)
    # Readers that take JSON at its word read the recipe too.
    with safe_open(merged, "np") as file:
        recipe = json.loads(file.metadata()["recipe"])
    assert recipe["inputs"]["base"][0]["name"].encode() == base.decode("utf-8", "replace").encode()


def test_letters_that_no_encoding_has_are_escapes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    Path("base.safetensors.index.json").write_text(json.dumps({"weight_map": {"\ud800": "base.safetensors"}}))
    words = ["plan", "--base", "base.safetensors.index.json", *WORDS[2:]]
    assert sys.stderr.errors == "strict"
    assert commands.main(words) == 1
    assert capsys.readouterr().err.startswith("base.safetensors: the file lacks `\\ud800`, which base.")
    assert sys.stderr.errors == "strict"


def test_a_command_runs_in_any_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    statuses: list[int] = []
    thread = threading.Thread(
        target=lambda: statuses.append(commands.main(["merge", *WORDS, "--out", "m.safetensors"]))
    )
    thread.start()
    thread.join()
    assert statuses == [0]
    checkpoints.verify(folder / "m.safetensors")


LITTLE = """
import resource, sys
import scipy.linalg
from tsvlib.cli import commands, measurements, workflows
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[1]) * 2**20,) * 2)
raise SystemExit(commands.main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="how much memory is taken is not told here")
@pytest.mark.parametrize("command", ["merge", "compress", "expand", "spectra"])
def test_memory_that_runs_out_is_told_beside_the_plan(tmp_path: Path, command: str) -> None:
    for number, name in enumerate(("base", "expert1", "expert2")):
        save_file({"w": torch.full((2048, 4096), float(number))}, tmp_path / f"{name}.safetensors")
    one = WORDS[:4]
    if command == "expand":
        assert tsvlib(tmp_path, "compress", *one, "--rank", "1/2", "--out", "f.safetensors").returncode == 0
    out = ["--out", f"out{'.csv' if command == 'spectra' else '.safetensors'}", "--workers", "1"]
    words = {"compress": one, "expand": [*WORDS[:2], "--factors", "f.safetensors"]}.get(command, WORDS)
    before = small_models.contents(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    limited = [sys.executable, "-c", LITTLE, "60", command, *words, *out]
    done = subprocess.run(limited, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert small_models.contents(tmp_path) == before
    planned = tsvlib(tmp_path, "plan", *WORDS, "--workers", "1").stdout.decode()
    said = done.stderr.splitlines()[-1]
    assert said.startswith("the memory has run out, where about ")
    assert said.endswith("; use fewer workers, end other programs or take a machine with more.")
    if command == "merge":
        (figure,) = (
            line.partition("about ")[2].partition(",")[0] for line in planned.splitlines() if line.startswith("memory")
        )
        assert f"where about {figure} for 1 worker were planned" in said
