# SPDX-License-Identifier: MIT
"""Who is called while a student's function runs: a function that has its work done by this project is noticed."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple

OURS = ("tsvlib", "compendium")
"""Packages that hold the answers."""

ELSEWHERE = ("concurrent", "multiprocessing", "queue", "subprocess")
"""Packages that have work done where nobody watches: in another process, or in a thread that runs already."""


class Seen(NamedTuple):
    """What a function returned, and the first call in it that it should have done without, if any."""

    returned: object
    ours: str | None
    elsewhere: str | None
    unwatched: bool
    """Whether the function stopped the watching."""


class _Watch:
    """A profile function that notes the names of watched Python functions as they are called."""

    def __init__(self, start: FrameType, allowed: Sequence[str]) -> None:
        self.start = start
        self.allowed = allowed
        self.called: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or _package(frame) not in (*OURS, *ELSEWHERE):
            return
        if not any(_is_import(caller) or _name(caller) in self.allowed for caller in _callers(frame, self.start)):
            self.called.append(_name(frame))

    def first(self, packages: Sequence[str]) -> str | None:
        return next((name for name in self.called if name.partition(".")[0] in packages), None)


def watched(function: Callable[..., object], arguments: Sequence[object], allowed: Sequence[str] = ()) -> Seen:
    """Return what a function returns and what it called, by any reference, here or in threads that it starts.

    ``allowed`` are dotted names of functions that it may call, which may call others. To import is not to call. What
    the function raises passes. From Python 3.12 on, threads that ran before are watched too; in 3.11 it is the handing
    over that is seen.
    """
    watch = _Watch(sys._getframe(), allowed)
    before, of_threads = sys.getprofile(), threading.getprofile()
    _watch_threads(watch)
    sys.setprofile(watch)
    try:
        returned = function(*arguments)
        unwatched = sys.getprofile() is not watch
    finally:
        sys.setprofile(None)
        _watch_threads(of_threads)
        sys.setprofile(before)
    return Seen(returned, watch.first(OURS), watch.first(ELSEWHERE), unwatched)


def _watch_threads(profile: Any) -> None:
    if sys.version_info >= (3, 12):
        threading.setprofile_all_threads(profile)
    else:
        threading.setprofile(profile)


def _name(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_qualname}"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _callers(frame: FrameType, start: FrameType) -> Iterator[FrameType]:
    """Yield a frame and those that led to it, up to ``start`` or the beginning of the thread."""
    found: FrameType | None = frame
    while found is not None and found is not start:
        yield found
        found = found.f_back


def _is_import(frame: FrameType) -> bool:
    """Tell whether a watched module is imported or looked into here, which calls functions of its own."""
    return frame.f_code.co_qualname in ("<module>", "__getattr__") and _package(frame) in (*OURS, *ELSEWHERE)
