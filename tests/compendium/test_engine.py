# SPDX-License-Identifier: MIT
"""Units are done wherever they run, and what becomes of a lost worker or scheduler is one sentence."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkout
import loky
import psutil
import pytest

from compendium import commands, engine
from compendium.engine import Unit
from tsvlib.errors import InputError

JOB_SCRIPT = Path(__file__).with_name("job_script.sh")
SERVED = """
from compendium import cluster, commands
cluster.IDLE = 1
commands.main(["cluster", "--serve-for", "{owner}", "--workers", "1"])
"""


def write(file: Path, text: str) -> None:
    file.write_text(text)


def note_process(folder: Path, number: int) -> None:
    (folder / str(number)).write_text(str(os.getpid()))


def kill_own_process(file: Path) -> None:
    file.write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise InputError("this unit cannot be done.")


@pytest.mark.parametrize("processes", [False, True])
def test_every_unit_is_done_and_told(tmp_path: Path, processes: bool) -> None:
    units = [Unit(note_process, (tmp_path, number)) for number in range(5)]
    assert sum(1 for _ in engine.complete(units, processes=processes)) == 5
    owners = {file.name: int(file.read_text()) for file in tmp_path.iterdir()}
    assert owners.keys() == {str(number) for number in range(5)}
    assert (os.getpid() in owners.values()) is not processes


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_processes_than_asked_for(tmp_path: Path, most: int) -> None:
    for _ in engine.complete([Unit(note_process, (tmp_path, number)) for number in range(8)], most=most):
        pass
    owners = {file.read_text() for file in tmp_path.iterdir()}
    assert len(owners) <= most
    assert str(os.getpid()) not in owners


def test_what_a_unit_says_reaches_whoever_asked() -> None:
    with pytest.raises(InputError, match=r"^this unit cannot be done\.$"):
        list(engine.complete([Unit(refuse, ())]))


def test_workers_know_where_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSV_CACHE", str(tmp_path / "elsewhere"))
    list(engine.complete([Unit(note_variable, (tmp_path / "seen", "TSV_CACHE"))]))
    assert (tmp_path / "seen").read_text() == str(tmp_path / "elsewhere")


def note_variable(file: Path, name: str) -> None:
    file.write_text(os.environ[name])


def test_a_worker_that_keeps_much_for_later_units_is_not_replaced(tmp_path: Path) -> None:
    # Every worker has one before it grows, one in which it grows, and one after which it is looked at.
    for _ in engine.complete([Unit(keep, (tmp_path, number)) for number in range(4 * loky.cpu_count())]):
        pass
    assert len({file.read_text() for file in tmp_path.iterdir()}) <= loky.cpu_count()


KEPT: list[bytes] = []


def keep(folder: Path, number: int) -> None:
    KEPT.append(b"x" * (400_000_000 if len(KEPT) == 1 else 1))
    note_process(folder, number)
    # Workers are looked at once a second.
    time.sleep(1.1)


def test_a_killed_worker_is_one_sentence_and_none_is_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a worker process was killed; .* run the command again to continue\.$"):
        list(engine.complete([Unit(kill_own_process, (tmp_path / "pid",))]))
    gone = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(gone) or psutil.Process(gone).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("place", ["tcp://127.0.0.1:9", "{}/none.json", "{}/broken.json"])
def test_no_scheduler_is_one_sentence(place: str, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "broken.json").write_text("{")
    monkeypatch.setenv("TSV_SCHEDULER", place.format(tmp_path))
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    with pytest.raises(InputError, match=r"^no Dask scheduler answers at .*; run the command again to continue\.$"):
        list(engine.complete([Unit(write, (tmp_path / "never", ""))]))
    assert commands.main(["cluster"]) == 1
    assert "; start one, or correct SCHEDULER." in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_a_cluster_that_nobody_named_is_one_sentence(capsys, monkeypatch) -> None:
    monkeypatch.delenv("TSV_SCHEDULER", raising=False)
    assert commands.main(["cluster"]) == 1
    assert capsys.readouterr().err.startswith("TSV_SCHEDULER is not set")


def test_a_job_of_slurm_is_asked_for_as_stated() -> None:
    directives = ["--slurm", "partition=gpu", "--slurm", "gres=gpu:1", "--slurm", "time=02:00:00"]
    words = [sys.executable, "-m", "compendium", "cluster", "--job-script", *directives]
    environment = os.environ | {"PYTHONPATH": checkout.roots(), "OMP_NUM_THREADS": "2"}
    said = subprocess.check_output(words, env=environment, text=True).replace(sys.executable, "PYTHON")
    assert re.sub(r"tcp://\S+", "SCHEDULER", said).split() == JOB_SCRIPT.read_text().split()


@pytest.mark.parametrize("time", ["soon", "10:00", "00:19:59", "-5"])
def test_a_job_that_is_too_short_is_one_sentence(time: str, capsys) -> None:
    assert commands.main(["cluster", "--job-script", "--slurm", f"time={time}"]) == 1
    assert capsys.readouterr().err == f"time={time}: give SLURM at least 20 minutes, as HH:MM:SS or D-HH:MM:SS.\n"


def test_a_directive_without_a_value_is_told(capsys) -> None:
    assert commands.main(["cluster", "--job-script", "--slurm", "exclusive"]) == 2
    assert "--slurm exclusive: write a directive as NAME=VALUE." in capsys.readouterr().err


def test_a_cluster_serves_until_its_owner_is_gone_and_it_was_idle(tmp_path: Path, output: Path, monkeypatch) -> None:
    own = tmp_path / "cluster.json"
    monkeypatch.setenv("TSV_SCHEDULER", str(own))
    environment = os.environ | {"PYTHONPATH": checkout.roots()}
    with subprocess.Popen(["sleep", "1000"]) as owner:
        words = [sys.executable, "-c", SERVED.format(owner=owner.pid)]
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as served:
            try:
                while not own.exists():
                    assert served.poll() is None, served.communicate()[1]
                    time.sleep(0.05)
                assert json.loads(own.read_text())["pid"] == served.pid
                list(engine.complete([Unit(os.mkdir, (tmp_path / "made",))]))
                assert (tmp_path / "made").is_dir()
                time.sleep(3)
                assert served.poll() is None, "its owner is there"
                owner.kill()
                owner.wait()
                assert served.wait(timeout=60) == 0
            finally:
                owner.kill()
                served.kill()
    assert not own.exists()
