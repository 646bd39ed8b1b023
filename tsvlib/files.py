# SPDX-License-Identifier: MIT
"""Files that appear complete or not at all."""

import errno
import fcntl
import glob
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tsvlib.errors import InputError

_ELSEWHERE = "make the folder writable or choose another output folder"
_IN_THE_WAY = "a part of the path is a file, not a folder; move that file or choose another output folder"
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run the command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
    errno.EACCES: f"permission denied; {_ELSEWHERE}",
    errno.EPERM: f"permission denied; {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: "a folder of that name is in the way; move it or choose another output folder",
}


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` whose file takes its place when the block succeeds.

    Whatever happens (an exception, a full disk, a killed process, a power cut), ``path`` holds either its earlier
    content or the whole new one. Without ``durable`` this no longer waits for the disk and withstands all but a power
    cut: for files whose readers notice damage and make them again. Missing folders are made. A failure to write is an
    InputError that names ``path``; other exceptions of the block pass through. What killed writers left behind goes
    with the next write.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with _telling(path, temporary):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        # tempfile would make the file private; this mode leaves the decision to the user's umask.
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        with _telling(path, temporary):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield temporary
            if durable:
                _synchronise(temporary)
            os.replace(temporary, target)
            if durable:
                _synchronise(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file; InputError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError, remedy: str = "check the path and its permissions") -> InputError:
    """Say in one sentence why ``path`` cannot be read."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: the file is missing; {remedy}.")
    return InputError(f"{path}: the file cannot be read ({_reason(error)}); {remedy}.")


@contextmanager
def _telling(path: Path, temporary: Path) -> Iterator[None]:
    """Turn an OSError about writing ``path`` into an InputError, and leave errors about other files alone."""
    ours = {str(place) for place in (None, temporary, *temporary.parents)}
    try:
        yield
    except OSError as error:
        if str(error.filename) not in ours:
            raise
        reason = _REASONS.get(error.errno or 0, f"{_reason(error)}; {_ELSEWHERE}")
        raise InputError(f"{path}: the file cannot be written: {reason}.") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Remove temporary files of earlier writers of ``target``; a living writer holds a lock on its own."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(descriptor)
