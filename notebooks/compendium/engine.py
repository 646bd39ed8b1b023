# SPDX-License-Identifier: MIT
"""Where units of work run: on this machine, or on a Dask cluster that ``make ENGINE=dask`` starts or joins.

A unit ends in a file that is named by what it depends on, so whoever asks for units leaves out those whose file is
there: to continue after any interruption needs the files and nothing else. ``TSV_SCHEDULER``, the address of a Dask
scheduler or a file that names it, says that units go there; without it they run here.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsvlib.errors import InputError

SCHEDULER = "TSV_SCHEDULER"
SHARED = ("TSV_OUTPUT", "TSV_CACHE")
"""What a worker on another machine must know of where files lie."""

RETRIES = 2
"""How often a unit that fails on a cluster is tried again there."""

IDLE = 30
"""Seconds after which a worker process without work ends by itself, as it does when whoever started it was killed."""

PATIENCE: float = 10
"""Seconds in which a scheduler answers, or does not."""

LOOK = 5
"""Seconds after which a scheduler that went silent is looked after: what was just sent to it may never come back."""

REPORTERS = ("distributed.client", "distributed.batched", "tornado.application")
"""Who would report the loss of a scheduler in pages of tracebacks, where one sentence says it."""

AGAIN = "run the command again to continue"
ENOUGH = f"make sure that there is enough memory, then {AGAIN}"


@dataclass(frozen=True)
class Unit:
    """A function of a module and its arguments; what it makes goes into a file, and nothing is returned."""

    function: Callable[..., None]
    arguments: tuple[Any, ...]


def complete(units: Sequence[Unit], *, processes: bool = True, most: int | None = None) -> Iterator[None]:
    """Do every unit, in no stated order, and yield after each.

    On this machine that takes worker processes, as many as CPUs or ``most``, or with ``processes`` off this one.
    InputError when a worker or the scheduler is lost.
    """
    if not processes and not is_remote():
        for unit in units:
            unit.function(*unit.arguments)
            yield
        return
    environment = {name: os.environ[name] for name in SHARED if name in os.environ}
    with _cluster() if is_remote() else _processes(most) as (executor, is_lost):
        pending = {executor.submit(_perform, environment, unit) for unit in units}
        while pending:
            done, pending = wait(pending, LOOK, FIRST_COMPLETED)
            for future in done:
                future.result()
                yield
            if not done and is_lost():
                raise CancelledError


def is_remote() -> bool:
    """Tell whether units run on a cluster, whose workers share files with this process and no memory."""
    return SCHEDULER in os.environ


def place() -> str:
    """Return where the scheduler of the cluster is: an address, or a file that names one; InputError without it."""
    if not is_remote():
        raise InputError(f"{SCHEDULER} is not set, which says where the Dask scheduler is; use `make ENGINE=dask`.")
    return os.environ[SCHEDULER]


def address(place: str) -> str:
    """Return the address of a scheduler by itself, or by a file that names it; OSError or ValueError without one."""
    if "://" in place:
        return place
    found: str = json.loads(Path(place).read_text(encoding="utf-8"))["address"]
    return found


def _perform(environment: Mapping[str, str], unit: Unit) -> None:
    os.environ.update(environment)
    unit.function(*unit.arguments)


@contextmanager
def _processes(most: int | None) -> Iterator[tuple[Executor, Callable[[], bool]]]:
    """Yield a pool of worker processes; none of them outlives an error, an interrupt, or this process by long.

    Here and in :func:`_cluster` the second value tells whether the work is lost without a word.
    """
    import loky

    # Workers keep inputs and base models for the units to come. That is no leak, for which they would be replaced.
    grown = {"LOKY_MAX_MEMORY_LEAK_SIZE": str(sys.maxsize)}
    pool = loky.ProcessPoolExecutor(most, timeout=IDLE, initializer=_leave_interrupts, env=grown)
    try:
        yield pool, lambda: False
    except BrokenExecutor as error:
        raise InputError(f"a worker process was killed; {ENOUGH}.") from error
    finally:
        pool.shutdown(kill_workers=True)


def _leave_interrupts() -> None:
    """Leave Ctrl-C to the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _cluster() -> Iterator[tuple[Executor, Callable[[], bool]]]:
    import distributed
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    for name in REPORTERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(address(place()), set_as_default=False, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {place()}; {AGAIN}.") from error
    with client:
        try:
            yield client.get_executor(retries=RETRIES, pure=False), lambda: client.status == "closed"
        except distributed.KilledWorker as error:
            raise InputError(f"several workers of the cluster were lost over one unit; {ENOUGH}.") from error
        except (CancelledError, FutureCancelledError, CommClosedError) as error:
            raise InputError(f"the Dask scheduler at {place()} was lost; {AGAIN}.") from error
