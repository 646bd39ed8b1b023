# SPDX-License-Identifier: MIT
"""Progress bars that reach the terminal and never the notebook."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm


@contextmanager
def track(total: int, label: str, *, delay: float = 0.0) -> Iterator["tqdm[Any]"]:
    """Show a bar over ``total`` steps that says what it does, how far it is and how long it will take.

    Call ``update()`` on the bar after each step. It writes to the file named by ``TSV_PROGRESS``, which the runner
    copies to the terminal, or to the standard error stream when there is no runner. What is done within ``delay``
    seconds is never shown.
    """
    file = os.environ.get("TSV_PROGRESS")
    layout = "{desc}: {n_fmt}/{total_fmt} |{bar:24}| {elapsed} elapsed, {remaining} left"
    with Path(file).open("a", encoding="utf-8") if file else nullcontext(sys.stderr) as stream:
        bar: tqdm[Any] = tqdm(total=total, desc=label, file=stream, bar_format=layout, mininterval=0.5, delay=delay)
        with bar:
            yield bar


@contextmanager
def shown_on_terminal(progress: Path) -> Iterator[None]:
    """Copy what bars write to the file ``progress``, which this empties, to the terminal while the block runs.

    A log, which is no terminal, gets whole lines and at most two states of a running bar in a minute.
    """
    progress.write_bytes(b"")
    done = threading.Event()
    show = sys.stderr.write if sys.stderr.isatty() else _every_half_minute(sys.stderr.write)
    thread = threading.Thread(target=_follow, args=(progress, done, show), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(progress: Path, done: threading.Event, show: Callable[[str], object]) -> None:
    with progress.open(encoding="utf-8", newline="") as file:
        while True:
            last = done.wait(0.2)
            if text := file.read():
                show(text)
                sys.stderr.flush()
            if last:
                return


def _every_half_minute(write: Callable[[str], object]) -> Callable[[str], object]:
    shown = time.monotonic()

    def show(text: str) -> None:
        nonlocal shown
        states = [state for state in text.replace("\r", "\n").split("\n") if state.strip()]
        if states and (text.endswith("\n") or time.monotonic() - shown > 30):
            shown = time.monotonic()
            write(states[-1] + "\n")

    return show
