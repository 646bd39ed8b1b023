# SPDX-License-Identifier: MIT
"""A Dask cluster for ``make ENGINE=dask``: worker processes of this machine, or jobs of SLURM.

``make`` asks for one before it does anything else. One that answers is used; otherwise one is started in the
background, serves everything that asks, side by side or later, and ends by itself when ``make`` has ended and nobody
has asked for some minutes. Whoever has a scheduler already names it by ``SCHEDULER=``, and nothing is ever started.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compendium import engine, paths
from compendium.terminal import tell
from tsvlib import files
from tsvlib.errors import InputError

if TYPE_CHECKING:
    from dask_jobqueue.slurm import SLURMCluster
    from distributed.deploy.spec import SpecCluster

IDLE = 300
"""Seconds without work after which a cluster ends, once whoever started it has ended."""

MARGIN = 600
"""Seconds before the end of its job at which a worker of SLURM ends by itself, so that no unit meets the wall."""

START = 60
"""Seconds in which a cluster of this machine has started, or has not."""

SETTINGS = {"distributed.scheduler.allowed-failures": 3, "distributed.scheduler.worker-ttl": "2 minutes"}
"""Over how many lost workers a unit is given up, and when a silent worker is."""


def ensure(workers: int, jobs: Mapping[str, str], *, start: bool) -> None:
    """See to it that a cluster answers where ``engine.place`` says, and tell where its dashboard is.

    With ``start``, where that is a file, a cluster is started when none answers. InputError when none does in the end.
    """
    place = engine.place()
    answer = _answer(place)
    if answer is None and start and "://" not in place:
        _start(Path(place), workers, jobs)
        answer = _answer(place)
    if answer is None:
        raise InputError(f"no Dask scheduler answers at {place}; start one, or correct SCHEDULER.")
    tell(f"Dask: {answer['workers']} workers at {answer['address']}; dashboard {answer['dashboard']}")


def serve(workers: int, jobs: Mapping[str, str], owner: int) -> None:
    """Run a cluster that a file at ``engine.place`` names, until process ``owner`` is gone and it was idle for long."""
    import psutil

    own = Path(engine.place())
    with _started(workers, jobs) as cluster:
        note = {"address": cluster.scheduler_address, "dashboard": cluster.dashboard_link, "pid": os.getpid()}
        with files.replacing(own, durable=False) as draft:
            draft.write_text(json.dumps(note) + "\n", encoding="utf-8")
        while cluster.scheduler.status.name == "running":
            time.sleep(1)
            since = cluster.scheduler.idle_since
            if since and time.time() - since > IDLE and not psutil.pid_exists(owner):
                break
    own.unlink(missing_ok=True)


def job_script(jobs: Mapping[str, str]) -> str:
    """Return the script that SLURM would be given for one worker."""
    with _slurm(jobs) as cluster:
        script: str = cluster.job_script()
    return script


def _start(own: Path, workers: int, jobs: Mapping[str, str]) -> None:
    own.unlink(missing_ok=True)
    log = paths.build() / "cluster.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "compendium", "cluster", "--serve-for", str(os.getppid()), "--workers", str(workers)]
    words += [word for name, value in jobs.items() for word in ("--slurm", f"{name}={value}")]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(  # noqa: S603
            words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    for _ in range(10 * START):
        if own.is_file():
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise InputError(f"the Dask cluster did not start; {log} tells why.")


def _answer(place: str) -> dict[str, Any] | None:
    """Return what is known of the scheduler at an address or named in a file, or None where none answers."""
    import distributed

    try:
        client = distributed.Client(engine.address(place), set_as_default=False, timeout=engine.PATIENCE)
    except (OSError, ValueError):
        return None
    with client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        return {"address": client.scheduler.address, "dashboard": client.dashboard_link, "workers": workers}


@contextmanager
def _started(workers: int, jobs: Mapping[str, str]) -> Iterator["SpecCluster"]:
    import dask
    import distributed

    with dask.config.set(SETTINGS):
        if jobs:
            with _slurm(jobs) as cluster:
                cluster.adapt(minimum=0, maximum=workers)
                yield cluster
        else:
            # One thread for each process: units are computed by one thread wherever they run.
            with distributed.LocalCluster(
                workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0"
            ) as local:
                yield local


def _slurm(jobs: Mapping[str, str]) -> "SLURMCluster":
    """Return a cluster whose workers are jobs with these directives, by their long names in SLURM."""
    from dask_jobqueue.slurm import SLURMCluster

    asked = {"cpus-per-task": os.environ.get("OMP_NUM_THREADS", "2"), "mem": "16G", "time": "04:00:00"} | dict(jobs)
    lifetime = _seconds(asked["time"]) - MARGIN
    return SLURMCluster(
        cores=1,
        memory="0B",  # no limit but SLURM's
        job_mem=asked.pop("mem"),
        walltime=asked.pop("time"),
        job_directives_skip=["--cpus-per-task=1"],
        job_extra_directives=[f"--{name}={value}" for name, value in asked.items()],
        worker_extra_args=["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{MARGIN // 2}s"],
        python=sys.executable,
        scheduler_options={"dashboard_address": ":0"},
    )


def _seconds(time: str) -> int:
    """Return the seconds of a time as SLURM writes it; InputError when it is none, or too short.

    >>> _seconds("90"), _seconds("02:00:00"), _seconds("1-12")
    (5400, 7200, 129600)
    """
    days, _, clock = time.rpartition("-")
    try:
        numbers = [int(each) for each in clock.split(":")]
        # Without days, a number alone is minutes, and two are minutes and seconds.
        hours, minutes, seconds = [*numbers, 0, 0][:3] if days or len(numbers) == 3 else [0, *numbers, 0][:3]
        found = 86400 * int(days or 0) + 3600 * hours + 60 * minutes + seconds
    except ValueError:
        found = 0
    if found < 2 * MARGIN:
        raise InputError(f"time={time}: give SLURM at least {2 * MARGIN // 60} minutes, as HH:MM:SS or D-HH:MM:SS.")
    return found
