# SPDX-License-Identifier: MIT
"""What a run says on the terminal: one line per event, and the bars of running notebooks on the last one."""

import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

PAUSE = 0.2
"""Seconds between two looks at the files of running notebooks."""

CLEARED = "\r\x1b[K"
"""What empties the line of a terminal."""

_STATE = re.compile(r"(\S[^\r\n]*?): (\d+/\d+) \|.*?elapsed, (\S+) left")


def tell(sentence: str) -> None:
    """Write one line to the error stream, past the bars that stand there."""
    # One write, so that notebooks running side by side do not mix their lines.
    sys.stderr.write(f"{CLEARED if sys.stderr.isatty() else ''}{sentence}\n")
    sys.stderr.flush()


def table(rows: Sequence[Sequence[str]], width: int) -> str:
    """Return rows below each other, the first of them headings, in columns whose words are wrapped within a width.

    All columns but the last one are as wide as their longest cell, but for at most a third of the width.

    >>> print(table([("What", "Told"), ("one", "a sentence that is long")], 16))
    What  Told
    ----  ----------
    one   a sentence
          that is
          long
    """
    widths = [min(width // 3, max(map(len, column))) for column in list(zip(*rows, strict=True))[:-1]]
    widths.append(max(10, width - sum(widths) - 2 * len(widths)))
    longest = max(len(line) for row in rows for line in _wrapped(row[-1], widths[-1]))
    ruled = [rows[0], ["-" * each for each in (*widths[:-1], longest)], *rows[1:]]
    return "\n".join(line for row in ruled for line in _lines(row, widths))


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of a row of a table."""
    cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    for parts in zip_longest(*cells, fillvalue=""):
        yield "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


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
