# SPDX-License-Identifier: MIT
"""Files and folders that appear complete or not at all, in the place of a file, an empty folder or nothing."""

import errno
import fcntl
import glob
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from tsvlib.errors import InputError

_ELSEWHERE = "make the folder writable or choose another output folder"
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run the command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
    errno.EACCES: f"permission denied; {_ELSEWHERE}",
    errno.EPERM: f"permission denied; {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.ENOTDIR: "a part of the path is a file, not a folder; move that file or choose another output folder",
    errno.ELOOP: "a link in the path leads back to itself; remove the link or choose another name",
    errno.EFBIG: "it would be larger than the file system or `ulimit -f` allows; choose another output folder",
    errno.ENAMETOOLONG: "the name is longer than the file system allows; choose a shorter one",
}
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_PERMISSIONS = "check the path and its permissions"
# The longest name that a temporary one can be made of where names may have 255 bytes.
_LONGEST = 255 - len("..01234567.part")
# How often a folder is made again that another writer, who made it and did not need it, has just removed.
_PATIENCE = 20


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` whose file takes its place when the block succeeds.

    Whatever happens (an exception, a full disk, a killed process, a power cut), ``path`` holds either its earlier
    content or the whole new one. Without ``durable`` this no longer waits for the disk and withstands all but a power
    cut: for files whose readers notice damage and make them again. Missing folders are made, and removed again if
    nothing comes of the file. Anything but a regular file stays where it is. A failure to write is an InputError that
    names ``path``; other exceptions of the block pass through. What killed writers left behind goes with the next
    write.
    """
    target = destination(path)
    with _telling(path, target), ExitStack() as stack:
        _remove_leftovers(target)
        temporary = _claim(target, stack)
        yield temporary
        if durable:
            _synchronise(temporary)
        # Somebody may have put a pipe there since.
        destination(target)
        os.replace(temporary, target)
        if durable:
            _synchronise(target.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place when the block succeeds.

    That is the place of an empty folder or of nothing; all else is as with ``replacing``.
    """
    target = folder_destination(path)
    with _telling(path, target, "folder"), ExitStack() as stack:
        _remove_leftovers(target)
        temporary = _claim(target, stack, _new_folder)
        yield temporary
        for place in (temporary, *temporary.rglob("*")):
            _synchronise(place)
        folder_destination(path)
        temporary.rename(target)
        _synchronise(target.parent)


def folder_destination(path: Path) -> Path:
    """Return where a folder of that name comes to stand, which is where links lead.

    InputError when there is anything but an empty folder or nothing, or an empty folder that cannot be replaced.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
        if not stat.S_ISDIR(mode):
            raise _unwritten(path, f"{_kind(mode)} of that name is in the way; choose another name", "folder")
        filled = "it is not empty" if any(target.iterdir()) else ""
        mounted = "a file system is mounted there" if target.is_mount() else ""
        working = "it is the working folder" if target == Path(os.path.realpath(".")) else ""
    except FileNotFoundError:
        return target
    except OSError as error:
        raise _unwritable(path, error, "folder") from error
    if trouble := filled or mounted or working:
        raise _unwritten(path, f"{trouble}; name a new folder, such as one in it", "folder")
    return target


def destination(path: Path) -> Path:
    """Return where a file of that name is written to, which is where links lead.

    InputError when there is anything but a regular file or nothing, or no place for one.
    """
    target = Path(os.path.realpath(path))
    # A link of /proc may lead to a pipe that has no other name, and `missing/../file` to a file all the same.
    for place in (path, target):
        try:
            mode = place.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unwritable(path, error) from error
        if not stat.S_ISREG(mode):
            raise _unwritten(path, f"{_kind(mode)} of that name is in the way; choose another name")
    return target


def opened(path: Path, remedy: str = _PERMISSIONS) -> BufferedReader:
    """Open a file for reading.

    InputError, ending in ``remedy``, for what is missing or not to be read, and for pipes, sockets and devices, which
    might let us wait for ever.
    """
    try:
        mode = path.stat().st_mode
        # A folder cannot be opened anyway.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path}: this is {_kind(mode)}, not a file; {remedy}.")
        return path.open("rb")
    except OSError as error:
        raise unreadable(path, error, remedy) from error


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file; InputError when it cannot be read."""
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError, remedy: str = _PERMISSIONS) -> InputError:
    """Say in one sentence why ``path`` cannot be read."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: the file is missing; {remedy}.")
    return InputError(f"{path}: the file cannot be read ({_reason(error)}); {remedy}.")


def unusable(error: OSError) -> InputError:
    """Say in one sentence what went wrong with a file, or without one, that nothing else has told of."""
    reason = _REASONS.get(error.errno or 0, f"{_reason(error)}; see to that and run the command again")
    return InputError(f"{error.filename or 'the system'}: {reason}.")


def _unwritable(path: Path, error: OSError, what: str = "file") -> InputError:
    return _unwritten(path, _REASONS.get(error.errno or 0, f"{_reason(error)}; {_ELSEWHERE}"), what)


def _unwritten(path: Path, reason: str, what: str = "file") -> InputError:
    return InputError(f"{path}: the {what} cannot be written: {reason}.")


@contextmanager
def _telling(path: Path, target: Path, what: str = "file") -> Iterator[None]:
    """Turn an OSError about writing ``path`` into an InputError, and leave errors about other files alone."""
    try:
        yield
    except OSError as error:
        place = Path(str(error.filename))
        ours = any(_is_temporary(each, target) for each in (place, *place.parents))
        if error.filename is not None and place not in target.parents and not ours:
            raise
        raise _unwritable(path, error, what) from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_file(temporary: Path) -> int:
    # tempfile would make the file private; this mode leaves the decision to the user's umask.
    return os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)


def _new_folder(temporary: Path) -> int:
    temporary.mkdir()
    return os.open(temporary, os.O_RDONLY)


def _claim(target: Path, stack: ExitStack, make: Callable[[Path], int] = _new_file) -> Path:
    """Make something temporary that other writers of ``target`` leave alone; ``stack`` removes what becomes of it."""
    patience = _PATIENCE
    while True:
        temporary = target.with_name(f".{_stem(target)}.{secrets.token_hex(4)}.part")
        try:
            _make_folders(target.parent, stack)
            # Before there is anything to remove, so that no interruption comes between the two.
            stack.callback(_remove, temporary)
            descriptor = make(temporary)
        except FileNotFoundError:
            patience -= 1
            if not patience:
                raise
        else:
            stack.callback(os.close, descriptor)
            if _lock(descriptor):
                return temporary


def _make_folders(folder: Path, stack: ExitStack) -> None:
    """Make a folder and its parents, as far as they are missing; ``stack`` removes them if they stay empty."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        with suppress(FileExistsError):
            place.mkdir()
            stack.callback(_remove_folder, place)


def _lock(descriptor: int) -> bool:
    """Lock something new without waiting, and tell whether it is there still: others may take it for a leftover."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks, where nothing is taken for a leftover.
        return True
    return os.fstat(descriptor).st_nlink > 0


def _remove_leftovers(target: Path) -> None:
    """Remove temporary files of earlier writers of ``target``; a living writer holds a lock on its own."""
    for leftover in target.parent.glob(f".{glob.escape(_stem(target))}.*.part"):
        if not (_is_temporary(leftover, target) and (leftover.is_file() or leftover.is_dir())):
            continue
        with suppress(OSError):
            mode = os.O_RDONLY if leftover.is_dir() else os.O_RDWR
            descriptor = os.open(leftover, mode | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(leftover)
            finally:
                os.close(descriptor)


def _is_temporary(place: Path, target: Path) -> bool:
    pattern = rf"\.{re.escape(_stem(target))}\.[0-9a-f]{{8}}\.part"
    return place.parent == target.parent and re.fullmatch(pattern, place.name) is not None


def _stem(target: Path) -> str:
    """Return the name of a file, or something shorter where a temporary name would be too long with it."""
    name = os.fsencode(target.name)
    return target.name if len(name) <= _LONGEST else hashlib.sha256(name).hexdigest()


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink()


def _remove_folder(folder: Path) -> None:
    # Others may have put something in.
    with suppress(OSError):
        folder.rmdir()
