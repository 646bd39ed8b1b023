# SPDX-License-Identifier: MIT
"""The same bytes from every engine, whatever is killed or cut off, and nothing that is finished is done again."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import checkout
import psutil
import pytest

pytestmark = pytest.mark.slow

RESULTS = "data/results/smoke"
CACHE = "data/cache/smoke"
WANTED = [f"build/{{0}}/{RESULTS}/{name}.csv" for name in ("checkpoints", "interference", "merge")]
"""Experts are trained, matrices decomposed and models evaluated for these."""

MANY_UNITS = """
import time
from compendium import engine
from tsvlib.errors import InputError
try:
    while True:
        for _ in engine.complete([engine.Unit(time.sleep, (0.01,))] * 20):
            pass
        print(flush=True)
except InputError as error:
    raise SystemExit(str(error))
"""

LOST = re.compile(r"Dask scheduler .*/build/cluster\.json.*; run the command again to continue\.")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout.copied(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="module")
def expected(copy: Path) -> dict[str, bytes]:
    """What the default engine makes."""
    done = subprocess.run(words("here"), cwd=copy, env=checkout.surroundings(copy), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return made(copy / "build" / "here")


def words(out: str, *more: str) -> list[str]:
    targets = [target.format(out) for target in WANTED]
    return ["make", f"VENV={sys.prefix}", "PROFILE=smoke", f"OUT=build/{out}", *more, *targets]


def made(out: Path) -> dict[str, bytes]:
    """Tables and experts by their names."""
    found = [*sorted((out / RESULTS).glob("*.csv")), *sorted((out / CACHE / "experts").iterdir())]
    return {file.name: file.read_bytes() for file in found}


def units(out: Path) -> dict[str, tuple[int, int]]:
    """Every file in which a unit ended, with what changes when one is written anew."""
    parts = ("experts/*.safetensors", "evaluations/*/*/*.json", "spectra/complete/[!.]*")
    kept = [file for part in parts for file in (out / CACHE).glob(part)]
    return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns) for file in kept}


@pytest.fixture
def started(copy: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start make with the engine; what it leaves running is stopped."""
    running = []

    def start(out: str, *more: str) -> "subprocess.Popen[str]":
        command = words(out, "ENGINE=dask", "WORKERS=2", *more)
        process = subprocess.Popen(
            command,
            cwd=copy,
            env=checkout.surroundings(copy),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
    kill_cluster(copy)


def serving(copy: Path) -> psutil.Process:
    """The process that runs scheduler and workers."""
    return psutil.Process(json.loads((copy / "build" / "cluster.json").read_text())["pid"])


def workers(copy: Path) -> list[psutil.Process]:
    return [child for child in serving(copy).children() if "spawn_main" in " ".join(child.cmdline())]


def kill_cluster(copy: Path) -> None:
    if (copy / "build" / "cluster.json").exists():
        try:
            serving(copy).kill()
        except psutil.NoSuchProcess:
            return


def wait_for(happened: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Wait until something has happened while a process runs."""
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def test_a_worker_is_killed_in_training_and_another_in_evaluation(copy: Path, expected, started) -> None:
    out = copy / "build" / "killed_workers"
    process = started("killed_workers")
    wait_for(lambda: list((out / CACHE).glob("experts/*.safetensors")), process)
    workers(copy)[0].kill()
    assert not (out / CACHE / "experts.json").exists(), "too late: all were trained"
    wait_for(lambda: list((out / CACHE).glob("evaluations/*/*/*.json")), process)
    workers(copy)[0].kill()
    assert not (out / RESULTS / "merge.csv").exists(), "too late: all was evaluated"
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert made(out) == expected
    assert said.count("Dask: 2 workers at tcp://") == 1, "one cluster serves all"
    assert "; dashboard http://" in said


def test_the_scheduler_is_killed_and_no_finished_unit_repeated(copy: Path, expected, started) -> None:
    out = copy / "build" / "killed_scheduler"
    finished: dict[str, tuple[int, int]] = {}
    for stage in ("experts/*.safetensors", "evaluations/*/*/*.json"):
        before = len(list((out / CACHE).glob(stage)))
        process = started("killed_scheduler")
        wait_for(lambda: len(list((out / CACHE).glob(stage))) > before + 1, process)  # noqa: B023
        serving(copy).kill()
        said = process.communicate()[1]
        assert process.returncode != 0
        assert len(LOST.findall(said)) == 1, said
        assert "Traceback" not in said
        now = units(out)
        assert finished.items() <= now.items()
        finished = now
    process = started("killed_scheduler")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert len(finished) > 10
    assert finished.items() <= units(out).items()
    assert made(out) == expected


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Three hosts with addresses of their own: one for scheduler and make, two for workers, each wired to the first."""
    names = {role: f"{role}-{os.getpid()}" for role in ("first", "near", "far")}
    try:
        for name in names.values():
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        for number, role in enumerate(("near", "far"), start=1):
            ip("-n", names["first"], "link", "add", role, "type", "veth", "peer", "wire", "netns", names[role])
            for name, end, own in ((names["first"], role, 1), (names[role], "wire", 2)):
                ip("-n", name, "addr", "add", f"10.87.{number}.{own}/24", "dev", end)
                ip("-n", name, "link", "set", end, "up")
            ip("-n", names[role], "route", "add", "default", "via", f"10.87.{number}.1")
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], check=False)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def separate() -> bool:
    """Tell whether hosts of one machine can be separated here, which asks for root and iproute2."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    return subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("moment", [0.1 * number for number in range(6)])
def test_at_any_moment_the_loss_of_a_scheduler_is_one_sentence(tmp_path: Path, moment: float) -> None:
    place = tmp_path / "build" / "cluster.json"
    place.parent.mkdir()
    environment = os.environ | {"PYTHONPATH": checkout.roots(), "TSV_SCHEDULER": str(place)}
    words = [sys.executable, "-m", "compendium", "cluster", "--serve-for", str(os.getpid()), "--workers", "1"]
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, text=True) as scheduler:
        wait_for(place.exists, scheduler)
        command = [sys.executable, "-c", MANY_UNITS]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
            assert client.stdout is not None
            client.stdout.readline()
            time.sleep(moment)
            scheduler.kill()
            said = client.communicate()[1].decode()
    assert client.returncode == 1
    assert said.count("\n") == 1, said
    assert LOST.search(said)


@pytest.mark.skipif(not separate(), reason="network namespaces ask for root and iproute2")
def test_workers_on_other_hosts_of_which_one_is_cut_off(copy: Path, expected, hosts) -> None:
    out, place = copy / "build" / "hosts", copy / "build" / "scheduler.json"
    environment = checkout.surroundings(copy, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="15s")
    joined = ["ENGINE=dask", f"SCHEDULER={place}", f"VENV={sys.prefix}"]

    def on(role: str, *command: str, stderr: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        words = ["ip", "netns", "exec", hosts[role], *command]
        return subprocess.Popen(words, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=stderr, text=True)

    dask = ("-m", "distributed.cli.dask_scheduler", "--host", "10.87.1.1", "--scheduler-file", str(place))
    others = [on("first", sys.executable, *dask)]
    try:
        wait_for(place.exists, others[0])
        others += [on(role, "make", *joined, "WORKERS=1", "worker") for role in ("near", "far")]
        ask = ["ip", "netns", "exec", hosts["first"], sys.executable, "-m", "compendium", "cluster"]
        asked = {**environment, "TSV_SCHEDULER": str(place)}
        while b"Dask: 2 workers at tcp://10.87.1.1:" not in subprocess.check_output(
            ask, cwd=copy, env=asked, stderr=subprocess.STDOUT
        ):
            assert [other.poll() for other in others] == [None] * 3
        smoke = ("make", *joined, "PROFILE=smoke", "OUT=build/hosts", "paper")
        process = on("first", *smoke, stderr=subprocess.PIPE)
        wait_for(lambda: list((out / CACHE).glob("evaluations/*/*/*.json")), process)
        ip("-n", hosts["first"], "link", "set", "far", "down")
        said = process.communicate()[1]
        assert process.returncode == 0, said
        assert expected.items() <= made(out).items()
    finally:
        for other in others:
            for child in (*psutil.Process(other.pid).children(recursive=True), other):
                child.kill()
            other.wait()
