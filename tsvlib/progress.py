# SPDX-License-Identifier: MIT
"""Progress bars that reach the terminal and never the notebook."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from tqdm import tqdm


@contextmanager
def track(total: int, label: str, *, delay: float = 0.0) -> Iterator["tqdm[Any]"]:
    """Show a bar over ``total`` steps that says what it does, how far it is and how long it will take.

    Call ``update()`` on the bar after each step. It writes to the file named by ``TSV_PROGRESS``, which the runner
    copies to the terminal, or to the standard error stream when there is no runner, which may be missing or take
    nothing. What is done within ``delay`` seconds is never shown.
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


class _Forgiving:
    """A stream for words that no work depends on: what it cannot take is lost."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream or io.StringIO()

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _stream() -> AbstractContextManager[TextIO]:
    file = os.environ.get("TSV_PROGRESS")
    if file:
        return Path(file).open("a", encoding="utf-8")
    return nullcontext(cast(TextIO, _Forgiving(sys.stderr)))
