# SPDX-License-Identifier: MIT
"""Killed, interrupted or out of space: no half-made file, and the next run makes the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_models

from compendium import paths
from tsvlib import checkpoints
from tsvlib.cli import commands

STOPPED = """
import os, signal, sys
from tsvlib import checkpoints, files, linalg
from tsvlib.cli import commands, workflows
# A process that a shell starts in the background ignores SIGINT and hands that down; a terminal's does not.
signal.signal(signal.SIGINT, signal.default_int_handler)
owner, name, count, number = eval(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
whole, calls = getattr(owner, name), []
def counted(*arguments, **named):
    calls.append(name)
    if len(calls) == count:
        os.kill(os.getpid(), number)
    return whole(*arguments, **named)
setattr(owner, name, counted)
raise SystemExit(commands.main(sys.argv[5:]))
"""
FULL = """
import resource, sys
from tsvlib.cli import commands
# What a file may grow to; beyond, writing fails as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
raise SystemExit(commands.main(sys.argv[2:]))
"""
# During reading, decomposing and writing.
MOMENTS = [
    ("checkpoints.Checkpoint", "inspect", 1),
    ("checkpoints.Checkpoint", "inspect", 4),
    ("checkpoints.Checkpoint", "read", 1),
    ("checkpoints.Checkpoint", "read", 9),
    ("checkpoints.Checkpoint", "read", 20),
    ("linalg", "leading", 1),
    ("linalg", "leading", 4),
    ("linalg", "orthogonalise", 2),
    ("checkpoints.writing", "_append", 5),
    ("files.os", "fsync", 1),
    ("files.os", "replace", 1),
]
EARLIER = b"what an earlier run wrote"


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """The options that name a base and three experts."""
    base, experts = small_models.write(tmp_path / "models")
    return ["--base", str(base), *(word for expert in experts for word in ("--expert", str(expert)))]


def named(moment: object) -> str | None:
    """Return the name of a moment in those of tests."""
    return "-".join(map(str, moment[1:])) if isinstance(moment, tuple) else None


def run(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "store"), [(each, False) for each in MOMENTS] + [(each, True) for each in MOMENTS[-4:]], ids=named
)
def test_killed_at_any_moment_leaves_no_half_made_file(
    inputs: list[str], tmp_path: Path, moment: tuple[str, str, int], store: bool
) -> None:
    out, kept = tmp_path / "merged.safetensors", tmp_path / "store"
    command = ["merge", *inputs, "--out", str(out), "--workers", "2"]
    assert commands.main(command) == 0
    whole = out.read_bytes()
    out.write_bytes(EARLIER)
    command += ["--store", str(kept)] * store
    done = run(STOPPED, *moment, int(signal.SIGKILL), *command)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert out.read_bytes() == EARLIER
    for entry in kept.glob("*.safetensors"):
        checkpoints.verify(entry)
    assert commands.main(command) == 0
    assert out.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} - {"store"} == {"models", "merged.safetensors"}


SIGNALS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "stopped by SIGTERM",
    signal.SIGHUP: "stopped by SIGHUP",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, each) for each in MOMENTS[1::2]]
    + [(signal.SIGTERM, each) for each in MOMENTS[::4]]
    + [(signal.SIGHUP, MOMENTS[8])],
    ids=lambda value: named(value) or value.name,
)
def test_a_signal_ends_with_a_sentence_and_leaves_nothing(
    inputs: list[str], tmp_path: Path, number: signal.Signals, moment: tuple[str, str, int]
) -> None:
    before = small_models.contents(tmp_path)
    done = run(STOPPED, *moment, int(number), "merge", *inputs, "--out", tmp_path / "new" / "m.safetensors")
    assert done.returncode == 128 + number, done.stderr
    said = f"{SIGNALS[number]}; nothing was written, and the same command starts again."
    assert done.stderr.splitlines()[-1] == said
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert small_models.contents(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_further_signals_do_not_disturb_the_clearing_up(inputs: list[str], tmp_path: Path) -> None:
    again = """
import os, pathlib, signal
remove = pathlib.Path.unlink
def unlink(path, **named):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
    remove(path, **named)
pathlib.Path.unlink = unlink
"""
    moment = ("checkpoints.writing", "_append", 5)
    done = run(again + STOPPED, *moment, int(signal.SIGTERM), "merge", *inputs, "--out", tmp_path / "m.safetensors")
    assert done.returncode == 143, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_hang_up_that_is_ignored_stops_nothing(inputs: list[str], tmp_path: Path) -> None:
    nohup = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    moment = ("checkpoints.writing", "_append", 5)
    done = run(nohup + STOPPED, *moment, int(signal.SIGHUP), "merge", *inputs, "--out", tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    checkpoints.verify(tmp_path / "m.safetensors")


def test_a_closed_terminal_leaves_nothing(inputs: list[str], tmp_path: Path) -> None:
    before = small_models.contents(tmp_path)
    # What the process says by then nobody can read.
    code = """
import os, pty, sys
reader, terminal = pty.openpty()
os.dup2(terminal, 2)
os.close(terminal)
def hang_up(*_):
    os.close(reader)
    os.kill(os.getpid(), 1)
""" + STOPPED.replace("os.kill(os.getpid(), number)", "hang_up()")
    moment = ("checkpoints.writing", "_append", 5)
    done = run(code, *moment, int(signal.SIGHUP), "merge", *inputs, "--out", tmp_path / "m.safetensors")
    assert done.returncode == 129
    assert small_models.contents(tmp_path) == before


def test_signals_mean_afterwards_what_they_meant_before(inputs: list[str], tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    assert commands.main(["merge", *inputs, "--out", str(tmp_path / "m.safetensors")]) == 0
    assert commands.main(["merge", *inputs, "--out", str(tmp_path)]) == 1
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("command", ["merge", "compress", "expand", "interference", "spectra"])
def test_running_out_of_space_while_writing(inputs: list[str], tmp_path: Path, command: str) -> None:
    one, factors = inputs[:4], tmp_path / "factors.safetensors"
    assert commands.main(["compress", *one, "--out", str(factors)]) == 0
    others = {"compress": one, "expand": [*one[:2], "--factors", str(factors)]}
    out = tmp_path / ("out.csv" if command in ("interference", "spectra") else "out.safetensors")
    out.write_bytes(EARLIER)
    before = small_models.contents(tmp_path)
    done = run(FULL, 100, command, *others.get(command, inputs), "--out", out)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"{out}: the file cannot be written: ")
    assert "Traceback" not in done.stderr
    assert small_models.contents(tmp_path) == before
    assert not list(tmp_path.glob(".*"))
