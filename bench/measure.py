# SPDX-License-Identifier: MIT
"""Wall time and peak resident memory of a command.

The command is started by a small process (this module as a program), because Linux counts what the parent occupied
when a process began to the peak of that process.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from compendium import paths
from tsvlib.errors import InputError

_UNIT = 1 if sys.platform == "darwin" else 1024


class Measured(NamedTuple):
    """What a command took."""

    seconds: float
    peak: int
    """Peak resident memory in bytes."""
    said: str
    """What it wrote to standard output."""


def measured(command: Sequence[str], threads: int) -> Measured:
    """Run ``python`` with these arguments in the checkout and return what it took and said.

    Libraries may use so many ``threads``. InputError when the command fails; what it says goes to standard error.
    """
    launcher = [sys.executable, __file__, sys.executable, *command]
    found = subprocess.run(launcher, env=_environment(threads), stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if found.returncode:
        raise InputError(
            f"`python {' '.join(command)}` failed with exit status {found.returncode}; see what it says above."
        )
    # The command speaks before the launcher does.
    *said, took = found.stdout.splitlines()
    return Measured(**json.loads(took), said="\n".join(said))


def _environment(threads: int) -> Mapping[str, str]:
    folders = [str(paths.ROOT), str(paths.ROOT / "notebooks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": str(threads)}


def _launch(command: Sequence[str]) -> int:
    start = time.perf_counter()
    process = subprocess.Popen(command)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": usage.ru_maxrss * _UNIT}) + "\n")
    return process.returncode


if __name__ == "__main__":
    sys.exit(_launch(sys.argv[1:]))
