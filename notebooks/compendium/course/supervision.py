# SPDX-License-Identifier: MIT
"""Has the cells of a submission run in a process apart, within limits, and keeps what became of each."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from compendium.course import confinement
from compendium.course.running import Ran, Request
from tsvlib.errors import InputError

MOST = 20_000_000
"""Bytes that the process may answer."""


@dataclass(frozen=True)
class Limits:
    """What one submission may take."""

    cell_seconds: int = 30
    seconds: int = 300
    memory: int = 2**31
    """Bytes of address space, beyond what Python takes with torch."""


def run(request: Request, limits: Limits, hidden: Sequence[Path] = ()) -> list[Ran]:
    """Return what became of the cells that were run, in a process that sees nothing of the ``hidden`` folders.

    Cells that are missing in what is returned were not reached.

    Raises:
        InputError: the process did not come as far as the first cell.
    """
    module = "compendium.course.running"
    with tempfile.TemporaryDirectory(prefix="tsv-") as folder, tempfile.TemporaryFile() as asked:
        asked.write(json.dumps(request).encode())
        asked.seek(0)
        with tempfile.TemporaryFile() as errors:
            streams = {"stdin": asked, "stdout": subprocess.PIPE, "stderr": errors}
            with confinement.apart(module, Path(folder), limits.seconds, hidden, **streams) as process:
                found = _answer(process)
            if request["cells"] and not found:
                raise InputError(f"no cell could be run: {_last_line(errors)}; see to that and mark again.")
            return found


def _answer(process: "subprocess.Popen[bytes]") -> list[Ran]:
    """Return the lines of what a process answers, as far as it came."""
    assert process.stdout
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
