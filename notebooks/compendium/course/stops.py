# SPDX-License-Identifier: MIT
"""Ctrl-C, and what batch systems and closed terminals send, wait for the end of a step that must not be cut in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def waiting() -> Iterator[None]:
    """Let signals that stop this process wait until the end of the block; those that are ignored stay so.

    nbgrader, for one, takes an interruption for a fault of the submission, and deletes what it had made of it.
    """
    came: list[signal.Signals] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(signal.Signals(number))

    # Only the main thread is told of signals.
    free = STOPS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in free}
    ours = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)
