# SPDX-License-Identifier: MIT
"""Runs a submission in a process of its own: without network, within limits of memory and time, apart from others."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from compendium import paths
from compendium.course.running import Ran, Request
from tsvlib.errors import InputError

MOST = 20_000_000
"""Bytes that the process may answer."""


_RUNNING: set["subprocess.Popen[bytes]"] = set()


@dataclass(frozen=True)
class Limits:
    """What one submission may take."""

    cell_seconds: int = 30
    seconds: int = 300
    memory: int = 2**31
    """Bytes of address space, beyond what Python takes with torch."""


@dataclass(frozen=True)
class Walls:
    """What separates a submission from the rest of the machine, and in a sentence what does not."""

    command: tuple[str, ...]
    hiding: bool
    missing: str = ""


OPEN = "it can use the network, and processes that it leaves behind go on; grade in a container that has no network"
SEEN = "it can see and change your files; grade in an account of its own"


@functools.cache
def walls() -> Walls:
    """Return the best that this system allows: name spaces of Linux for network, processes and mounts."""
    every = ("unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    with tempfile.TemporaryDirectory() as folder:
        if _works([*every, *_hidden([folder]), "true"]):
            return Walls(every, hiding=True)
    less = ("unshare", "--map-root-user", "--net")
    if _works([*less, "true"]):
        return Walls(less, hiding=False, missing=f"A submission is not wholly apart here: {SEEN}.")
    return Walls((), hiding=False, missing=f"A submission is not apart here: {OPEN}.")


def run(request: Request, limits: Limits, hidden: Sequence[Path] = (), cpus: Set[int] = frozenset()) -> list[Ran]:
    """Return what became of the cells that were run, in a process that sees nothing of the ``hidden`` folders.

    ``cpus`` are those that it runs on; none are all. Cells that are missing in what is returned were not reached.

    Raises:
        InputError: the process did not come as far as the first cell.
    """
    wall = walls()
    hiding = _hidden([str(folder) for folder in hidden if folder.is_dir()]) if wall.hiding and hidden else []
    words = [*wall.command, *hiding, sys.executable, "-m", "compendium.course.running"]
    with tempfile.TemporaryDirectory(prefix="tsv-") as folder, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603
            words,
            cwd=folder,
            env=_surroundings(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        with _ended(process, limits.seconds):
            if cpus and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, cpus)
            found = _answer(process, json.dumps(request).encode())
        if request["cells"] and not found:
            raise InputError(f"no cell could be run: {_last_line(errors)}; see to that and mark again.")
        return found


def end_all() -> None:
    """End all submissions that run."""
    for process in list(_RUNNING):
        _kill(process)


def _works(words: Sequence[str]) -> bool:
    if not shutil.which(words[0]):
        return False
    return not subprocess.run(words, check=False, capture_output=True).returncode  # noqa: S603


def _hidden(folders: Sequence[str]) -> list[str]:
    """Return the words before a command in whose eyes these folders are empty."""
    mounts = " && ".join(f'mount -t tmpfs none "${number}"' for number, _ in enumerate(folders, start=1))
    return ["bash", "-c", f'{mounts} && shift {len(folders)} && exec "$@"', "hiding", *folders]


def _surroundings(folder: str) -> Mapping[str, str]:
    """Return the environment of the process: what it needs to start, and its own folder for all that it writes."""
    inherited = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
    roots = os.pathsep.join([str(paths.ROOT), str(paths.ROOT / "notebooks")])
    of_jupyter = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    own = ("HOME", "TMPDIR", "TSV_OUTPUT", "TSV_CACHE", "IPYTHONDIR", "MPLCONFIGDIR", *of_jupyter)
    found = {name: os.environ[name] for name in inherited if name in os.environ} | dict.fromkeys(own, folder)
    return {"PYTHONPATH": roots, **found, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


@contextmanager
def _ended(process: "subprocess.Popen[bytes]", seconds: int) -> Iterator[None]:
    """End a process, and all that it has started, at the end of the block or after so many seconds."""
    alarm = threading.Timer(seconds, _kill, [process])
    alarm.start()
    _RUNNING.add(process)
    try:
        yield
    finally:
        alarm.cancel()
        _kill(process)
        _RUNNING.discard(process)
        if process.stdout:
            process.stdout.close()
        process.wait()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    # The leader of the group is not waited for before the end of the block, so its number is nobody else's.
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _answer(process: "subprocess.Popen[bytes]", request: bytes) -> list[Ran]:
    """Give a process its request, and return the lines of its answer, as far as it came."""
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(request)
        process.stdin.close()
    except BrokenPipeError:
        return []
    found: list[Ran] = []
    left = MOST
    while left > 0 and (line := process.stdout.readline(left)).endswith(b"\n"):
        left -= len(line)
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "the time was over before Python was ready"
