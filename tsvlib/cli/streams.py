# SPDX-License-Identifier: MIT
"""Standard streams that are missing, full, read by nobody, or of an encoding that lacks letters."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

OUTPUT = "the standard output"
"""The name that an OSError gives to the output."""


@contextmanager
def usable() -> Iterator[None]:
    """Provide standard streams that can be written to in the block, whatever the process was started with.

    What a missing one would have taken is lost. Letters that an encoding lacks are written as escapes.
    Afterwards nothing is left in them that would make the interpreter fail at its end.
    """
    _occupy()
    given = sys.stdout, sys.stderr
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,  # noqa: PTH123
        _telling(given[0] or nowhere) as output,
        _taking_all(given[1] or nowhere) as error,
    ):
        sys.stdout, sys.stderr = output, error
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                _settle(stream)
            sys.stdout, sys.stderr = given


class _Output(io.TextIOWrapper):
    """The output, whose errors tell that it is the output."""

    def write(self, text: str) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = OUTPUT
        raise


@contextmanager
def _telling(stream: Any) -> Iterator[Any]:
    """Provide an output beside ``stream``, which is there again after the block."""
    if not isinstance(stream, io.TextIOWrapper):
        yield stream
        return
    # Where UTF-8 is not strict, the locale hands on the bytes of names that are none.
    faithful = stream.encoding.lower() == "utf-8" and stream.errors != "strict"
    errors = stream.errors if faithful else "backslashreplace"
    output = _Output(stream.buffer, stream.encoding, errors, line_buffering=stream.line_buffering)
    try:
        yield output
    finally:
        output.detach()


@contextmanager
def _taking_all(stream: Any) -> Iterator[Any]:
    """Provide an error stream that takes all letters, as the interpreter's own does; afterwards it is as it was."""
    if not isinstance(stream, io.TextIOWrapper) or stream.errors != "strict":
        yield stream
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield stream
    finally:
        # Somebody may have closed it.
        with suppress(ValueError):
            stream.reconfigure(errors="strict")


def _occupy() -> None:
    """Let no file get the number of a standard stream that is closed: libraries write to these without asking."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _settle(stream: Any) -> None:
    """Write what a stream still holds, or let it go nowhere."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
