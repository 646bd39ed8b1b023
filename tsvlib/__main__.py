# SPDX-License-Identifier: MIT
"""``python -m tsvlib plan|merge|compress|expand|interference|spectra``: the method on checkpoints of your own."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from tsvlib.cli import commands
from tsvlib.errors import InputError

# What batch systems send before they kill, and what a closed terminal sends.
_STOPS = (signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when done, 1 with one sentence for bad input, 2 for a wrong command line.

    130 for Ctrl-C, 143 for SIGTERM and 129 for SIGHUP, all of which leave nothing half-made.
    """
    options = commands.parser().parse_args(arguments)
    try:
        with _stoppable():
            sys.stdout.write(f"{commands.run(options)}\n")
        return 0
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args else signal.SIGINT
        how = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
        return _tell(f"{how}; nothing was written, and the same command starts again.", 128 + number)
    except commands.UsageError as error:
        return _tell(str(error), 2)
    except InputError as error:
        return _tell(str(error), 1)
    except OSError as error:
        return _tell(
            f"{error.filename or 'a file'}: {error.strerror}; free space or give permission, then run again.", 1
        )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let other signals that end a process do so as Ctrl-C does, unless somebody, such as nohup, decided otherwise."""
    ours = [number for number in _STOPS if signal.getsignal(number) == signal.SIG_DFL]

    def stop(number: int, _: FrameType | None) -> None:
        # A second one, which often follows at once, must not interrupt the clearing up.
        for each in ours:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number))

    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _tell(sentence: str, code: int) -> int:
    # A terminal that has been closed takes no more words, and the status says it as well.
    with suppress(OSError):
        sys.stderr.write(f"{sentence}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
