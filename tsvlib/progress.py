# SPDX-License-Identifier: MIT
"""Progress bars that reach the terminal and never the notebook."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm


@contextmanager
def track(total: int, label: str) -> Iterator["tqdm[Any]"]:
    """Show a bar over ``total`` steps that says what it does, how far it is and how long it will take.

    Call ``update()`` on the bar after each step. It writes to the file named by ``TSV_PROGRESS``, which the runner
    copies to the terminal, or to the standard error stream when there is no runner.
    """
    file = os.environ.get("TSV_PROGRESS")
    layout = "{desc}: {n_fmt}/{total_fmt} |{bar:24}| {elapsed} elapsed, {remaining} left"
    with Path(file).open("a", encoding="utf-8") if file else nullcontext(sys.stderr) as stream:
        bar: tqdm[Any] = tqdm(total=total, desc=label, file=stream, bar_format=layout, mininterval=0.5)
        with bar:
            yield bar
