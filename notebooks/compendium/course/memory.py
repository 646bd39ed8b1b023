# SPDX-License-Identifier: MIT
"""How much memory the process may take in which a submission runs."""

import importlib
import resource
from pathlib import Path

LOADED = ("torch", "matplotlib.pyplot")
"""What assignments need, and what takes gigabytes of address space before any work is done."""

LARGEST_FILE = 64 * 2**20
"""Bytes of a file that a submission may write."""


def call(extra: int) -> str:
    """Return the Python expression that does what ``confine`` does in another process, and leaves no name there."""
    return f"__import__('{__name__}', fromlist=['']).confine({extra})"


def confine(extra: int) -> None:
    """Load what assignments need, and let this process take so many bytes more from then on, and never any more."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for module in LOADED:
        importlib.import_module(module)
    limit(extra, hard=True)


def limit(extra: int, *, hard: bool) -> None:
    """Let this process take so many bytes of address space more; a ``hard`` limit cannot be raised again.

    Where the system does not tell how much it has, as on macOS, nothing is limited.
    """
    told = Path("/proc/self/statm")
    if told.is_file():
        most = int(told.read_text().split()[0]) * resource.getpagesize() + extra
        resource.setrlimit(resource.RLIMIT_AS, (most, most if hard else resource.getrlimit(resource.RLIMIT_AS)[1]))
