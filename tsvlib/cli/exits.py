# SPDX-License-Identifier: MIT
"""How every command line of this project ends: one table of exit statuses, one sentence on the error stream.

| status | after |
|---|---|
| 0 | all that was asked for |
| 1 | unsuitable input, a full disk or output, no permission, no memory; a notebook that failed, tables that differ |
| 2 | a wrong command line |
| 128 and the signal's number | Ctrl-C (130), SIGTERM (143), SIGHUP (129), which leave nothing half-made |
| 141 | the end of whoever read the output, such as `head` |
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import click

from tsvlib import exhaustion, files
from tsvlib.cli import streams
from tsvlib.errors import InputError

# What batch systems send before they kill, and what a closed terminal sends.
_STOPS = (signal.SIGTERM, signal.SIGHUP)


def run(
    command: click.Command,
    program: str,
    arguments: Sequence[str] | None,
    after_a_stop: str,
    tell: Callable[[str], object] = lambda sentence: sys.stderr.write(f"{sentence}\n"),
) -> int:
    """Run a command line and return the exit status of the table above.

    ``after_a_stop`` says what a stopped command leaves behind. Where there is no standard stream, or one that takes
    nothing, only what was to be said is lost.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with streams.usable():
        return _ended(command, program, given, after_a_stop, tell)


def _ended(
    command: click.Command, program: str, arguments: list[str], after_a_stop: str, tell: Callable[[str], object]
) -> int:
    try:
        with _stoppable(), command.make_context(program, arguments) as found:
            status = command.invoke(found)
            sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        with suppress(OSError):
            error.show(sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args else signal.SIGINT
        how = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
        # A note says what was stopped, where several things run side by side.
        what = "".join(f"{note}: " for note in getattr(stop, "__notes__", ()))
        return _told(tell, f"{what}{how}; {after_a_stop}", 128 + number)
    except InputError as error:
        return _told(tell, str(error), 1)
    except BrokenPipeError:
        # Whoever reads, such as `head`, has enough.
        return 128 + signal.SIGPIPE
    except Exception as error:
        if exhaustion.is_told_by(error):
            return _told(tell, exhaustion.sentence(), 1)
        if not isinstance(error, OSError):
            raise
        return _told(tell, _trouble(error), 1)
    return status if isinstance(status, int) else 0


def _trouble(error: OSError) -> str:
    """Say what went wrong with a file, or with what was to be said."""
    if error.filename != streams.OUTPUT:
        return str(files.unusable(error))
    reason = (error.strerror or str(error)).lower()
    return f"{streams.OUTPUT} takes no more ({reason}); files that were asked for are complete, words are not."


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let other signals that end a process do so as Ctrl-C does, unless somebody, such as nohup, decided otherwise."""
    # Only the main thread is told of signals.
    free = _STOPS if threading.current_thread() is threading.main_thread() else ()
    ours = [number for number in free if signal.getsignal(number) == signal.SIG_DFL]

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


def _told(tell: Callable[[str], object], sentence: str, status: int) -> int:
    # A terminal that has been closed takes no more words, and the status says it as well.
    with suppress(OSError):
        tell(sentence)
    return status
