# SPDX-License-Identifier: MIT
"""What stops marking lets nbgrader finish its step, leaves nothing half made and nothing running, and is told."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from compendium import commands, paths
from compendium.course import assignments, stops, submissions
from compendium.course.classroom import Classroom

A0 = "a0_two_tasks"
PATIENCE = 120

# A process that a shell starts in the background ignores SIGINT and hands that down; a terminal's does not.
COMMAND = """
import signal, sys
from compendium import commands
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(commands.main(sys.argv[1:]))
"""

ENDLESS = """
import subprocess
def angle(a, b):
    subprocess.Popen(["sleep", "86396.5"], start_new_session=True)
    open({!r}, "w").close()
    while True:
        pass
"""


@pytest.fixture
def classroom(tmp_path: Path) -> Classroom:
    found = Classroom(tmp_path / "class")
    found.generate(A0, 7)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_submissions_run_leaves_nothing_half_made_and_nothing_running(
    classroom: Classroom, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, mark, scratch = classroom.release(A0), tmp_path / "mark", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    endless = assignments.answered(release, {"angle": ENDLESS.format(str(mark))})
    for student in ("ada", "bert", "cleo"):
        submissions.hand_in(classroom.folder, student, A0, endless)
    book = (classroom.folder / "gradebook.db").read_bytes()
    process = started("grade", A0, "--class", str(classroom.folder))
    try:
        wait_until(mark.exists)
        process.send_signal(number)
        # Whoever is impatient presses twice.
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
        process.communicate()
    how = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    assert said == f"{A0}: {how}; the same command finishes the work.\n"
    assert process.returncode == 128 + number
    wait_until(lambda: not running("86396.5", str(scratch)))
    assert list(scratch.iterdir()) == []
    assert not {"autograded", "feedback", "grades.csv"} & {each.name for each in classroom.folder.iterdir()}
    assert (classroom.folder / "gradebook.db").read_bytes() == book
    submissions.hand_in(classroom.folder, "ada", A0, release)
    assert commands.main(["grade", A0, "--class", str(classroom.folder), "--student", "ada"]) == 0
    assert set(classroom.marks(A0)["student"]) == {"ada"}


@pytest.mark.slow
def test_a_stop_while_solutions_run_ends_their_kernel(tmp_path: Path) -> None:
    process = started("course", "--class", str(tmp_path / "class"), "--profile", "smoke")
    try:
        wait_until(lambda: kernels_of(process.pid))
        kernels = kernels_of(process.pid)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted; the same command finishes the work."
    assert "Traceback" not in said
    wait_until(lambda: not any(each.is_running() for each in kernels))
    assert not (tmp_path / "class" / "solution").exists()


def kernels_of(parent: int) -> list[psutil.Process]:
    found = []
    for each in psutil.Process(parent).children():
        with suppress(psutil.NoSuchProcess):
            if "ipykernel_launcher" in each.cmdline():
                found.append(each)
    return found


def started(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.Popen(command, cwd=paths.ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def running(*words: str) -> list[str]:
    """Return the command lines with one of these words, such as those of kernels, whose connection files tell it."""
    lines = [" ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])]
    return [line for line in lines if any(word in line for word in words)]


def step(number: int, done: list[str], error: Exception | None = None) -> None:
    """Be told to stop, twice, in a step that goes on, or fails."""
    with stops.waiting():
        signal.raise_signal(number)
        signal.raise_signal(number)
        done.append("all of it")
        if error:
            raise error


@pytest.mark.parametrize("error", [None, ValueError("no")])
@pytest.mark.parametrize("number", stops.STOPS)
def test_a_stop_waits_for_the_end_of_a_step_and_is_told_then(number: signal.Signals, error: Exception | None) -> None:
    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number))

    before = signal.signal(number, stop)
    done: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            step(number, done, error)
        assert done == ["all of it"]
        assert caught.value.args == (number,)
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)


def test_what_is_ignored_stays_ignored_and_a_step_that_fails_says_why() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(ValueError, match="no"):
            step(signal.SIGHUP, [], ValueError("no"))
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
