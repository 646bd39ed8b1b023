# SPDX-License-Identifier: MIT
"""Progress bars that reach the terminal and never the notebook."""

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

PAUSE = 0.2
"""Seconds between two looks at the files of running notebooks."""

CLEARED = "\r\x1b[K"
"""What empties the line of a terminal."""

_STATE = re.compile(r"(\S[^\r\n]*?): (\d+/\d+) \|.*?elapsed, (\S+) left")


@contextmanager
def track(total: int, label: str, *, delay: float = 0.0) -> Iterator["tqdm[Any]"]:
    """Show a bar over ``total`` steps that says what it does, how far it is and how long it will take.

    Call ``update()`` on the bar after each step. It writes to the file named by ``TSV_PROGRESS``, which the runner
    copies to the terminal, or to the standard error stream when there is no runner. What is done within ``delay``
    seconds is never shown.
    """
    layout = "{desc}: {n_fmt}/{total_fmt} |{bar:24}| {elapsed} elapsed, {remaining} left"
    with _stream() as stream:
        bar: tqdm[Any] = tqdm(total=total, desc=label, file=stream, bar_format=layout, mininterval=0.5, delay=delay)
        with bar:
            yield bar


def say(sentence: str) -> None:
    """Write a line to where the bars are shown."""
    with _stream() as stream:
        stream.write(f"{sentence}\n")


def _stream() -> AbstractContextManager[TextIO]:
    file = os.environ.get("TSV_PROGRESS")
    return Path(file).open("a", encoding="utf-8") if file else nullcontext(sys.stderr)


@contextmanager
def shown_on_terminal(progress: Path, name: str) -> Iterator[None]:
    """Tell on the terminal what bars write to the file ``progress``, which this empties, while the block runs.

    Bars of several runs, whose files lie in one folder, share the last line of a terminal. A log, which is no terminal,
    gets whole lines that begin with ``name``, and at most two states of a running bar in a minute.
    """
    progress.write_bytes(b"")
    done = threading.Event()
    show = _on_last_line(progress) if sys.stderr.isatty() else _every_half_minute(name, sys.stderr.write)
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
            last = done.wait(PAUSE)
            show(file.read())
            sys.stderr.flush()
            if last:
                return


def _on_last_line(progress: Path) -> Callable[[str], object]:
    def show(_: str) -> None:
        # Whoever runs says so by the time of its file; one that was killed falls silent.
        os.utime(progress)
        files = sorted(progress.parent.glob("*.progress"))
        states = [_state(file) for file in files if time.time() - file.stat().st_mtime < 10 * PAUSE]
        line = " · ".join(filter(None, states))[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"{CLEARED}{line}")

    return show


def _state(file: Path) -> str:
    """Return in short how far the bar is that was shown last in a file, or nothing where there is none yet."""
    found = _STATE.findall(file.read_text(encoding="utf-8"))
    return "{} {} {}, {} left".format(file.stem, *found[-1]) if found else ""


def _every_half_minute(name: str, write: Callable[[str], object]) -> Callable[[str], object]:
    shown = time.monotonic()

    def show(text: str) -> None:
        nonlocal shown
        states = [state for state in text.replace("\r", "\n").split("\n") if state.strip()]
        if states and (text.endswith("\n") or time.monotonic() - shown > 30):
            shown = time.monotonic()
            write(f"{name}: {states[-1]}\n")

    return show
