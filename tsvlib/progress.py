# SPDX-License-Identifier: MIT
"""Progress bars that reach the terminal and never the notebook."""

import os
import sys

from tqdm import tqdm


def track(total: int, label: str) -> "tqdm[None]":
    """Return a bar over ``total`` steps that says what it does, how far it is and how long it will take.

    Use it as a context manager and call ``update()`` after each step. It writes to the file named by
    ``TSV_PROGRESS``, which the runner copies to the terminal, or to the standard error stream without a runner.
    """
    file = os.environ.get("TSV_PROGRESS")
    # Line buffering would hold back bars, which end in a carriage return; tqdm flushes after each of them.
    stream = open(file, "a", encoding="utf-8") if file else sys.stderr  # noqa: SIM115
    bar = "{desc}: {n_fmt}/{total_fmt} |{bar:24}| {elapsed} elapsed, {remaining} left"
    return tqdm(total=total, desc=label, file=stream, bar_format=bar, mininterval=0.5, leave=True)
