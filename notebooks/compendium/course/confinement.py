# SPDX-License-Identifier: MIT
"""Runs what students wrote in a process of its own: without network, for a limited time, apart from all others."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compendium import paths

_RUNNING: set["subprocess.Popen[bytes]"] = set()


@dataclass(frozen=True)
class Walls:
    """What separates such a process from the rest of the machine, and in a sentence what does not."""

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
        if _works([*every, *_begun([folder]), "true"]):
            return Walls(every, hiding=True)
    less = ("unshare", "--map-root-user", "--net")
    if _works([*less, "true"]):
        return Walls(less, hiding=False, missing=f"What students wrote is not wholly apart here: {SEEN}.")
    return Walls((), hiding=False, missing=f"What students wrote is not apart here: {OPEN}.")


@contextmanager
def apart(
    module: str, folder: Path, seconds: int, hidden: Sequence[Path] = (), **streams: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a module of ours in another process, in a folder, where the ``hidden`` folders are empty if walls allow it.

    It ends with the block, or after so many seconds by SIGKILL, and so does all that it has started. If a signal ends
    it otherwise, its status is that of a shell: 128 and the signal's number.
    """
    wall = walls()
    covered = [str(each) for each in hidden if wall.hiding and each.is_dir()]
    words = [*wall.command, *_begun(covered), sys.executable, "-m", module]
    with subprocess.Popen(  # noqa: S603
        words, cwd=folder, env=_surroundings(str(folder)), start_new_session=True, **streams
    ) as process:
        alarm = threading.Timer(seconds, _kill, [process])
        alarm.start()
        _RUNNING.add(process)
        try:
            yield process
        finally:
            alarm.cancel()
            _kill(process)
            _RUNNING.discard(process)


def end_all() -> None:
    """End all processes apart."""
    for process in list(_RUNNING):
        _kill(process)


def _works(words: Sequence[str]) -> bool:
    if not shutil.which(words[0]):
        return False
    return not subprocess.run(words, check=False, capture_output=True).returncode  # noqa: S603


def _begun(covered: Sequence[str]) -> list[str]:
    """Return the words before a command in whose eyes these folders are empty.

    The shell stays, because the first process of a name space is deaf to signals that would end any other.
    """
    mounts = "".join(f'mount -t tmpfs none "${number}" && ' for number, _ in enumerate(covered, start=1))
    return ["bash", "-c", f'{mounts}shift {len(covered)} && {{ "$@"; exit; }}', "apart", *covered]


def _surroundings(folder: str) -> Mapping[str, str]:
    """Return the environment of the process: what it needs to start, and its own folder for all that it writes."""
    inherited = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
    code = [str(paths.ROOT / "notebooks"), str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    of_jupyter = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    own = ("HOME", "TMPDIR", "TSV_OUTPUT", "TSV_CACHE", "IPYTHONDIR", "MPLCONFIGDIR", *of_jupyter)
    found = {name: os.environ[name] for name in inherited if name in os.environ} | dict.fromkeys(own, folder)
    return found | {"PYTHONPATH": os.pathsep.join(code), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process, and all that is left of what it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
