# SPDX-License-Identifier: MIT
"""Files appear complete or not at all, whatever fails."""

import errno
import fcntl
import hashlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compendium.paths import ROOT
from tsvlib.errors import InputError
from tsvlib.files import opened, replacing, sha256

WRITER = """
import sys, time
from pathlib import Path
from tsvlib.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the new")
    print("ready", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def abandon(path: Path, act: Callable[[], object] = lambda: None) -> None:
    """Write half of a file, do something else and fail."""
    with pytest.raises(ValueError, match="half"), replacing(path) as temporary:
        raise ValueError("half", temporary.write_text("half"), act())


def refused(path: Path, reason: str, text: str = "new") -> None:
    """Expect one sentence that names the file and the reason, and says what to do."""
    with pytest.raises(InputError, match=re.escape(reason)) as caught:
        write(path, text)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "; " in message
    assert message.endswith(".")
    assert "\n" not in message


def start_writer(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path)]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def kill(writer: subprocess.Popen[str]) -> None:
    with writer:
        writer.send_signal(signal.SIGKILL)


def test_file_and_missing_folders_appear_on_success(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "c.csv", "new")
    assert (tmp_path / "a" / "b" / "c.csv").read_text() == "new"
    assert names(tmp_path / "a" / "b") == ["c.csv"]


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit])
def test_interrupted_block_changes_nothing(tmp_path: Path, interruption: type[BaseException]) -> None:
    path = tmp_path / "c.csv"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["c.csv"]


def test_block_that_writes_nothing_leaves_an_empty_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize(("umask", "mode"), [(0o027, 0o640), (0o000, 0o666)])
def test_mode_follows_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "c.csv", "new")
    finally:
        os.umask(before)
    assert (tmp_path / "c.csv").stat().st_mode & 0o777 == mode


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "c.csv"
    link.symlink_to(tmp_path / "elsewhere" / "c.csv")
    write(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "c.csv").read_text() == "new"


@pytest.mark.parametrize("name", ["c.csv", "[c]*?.csv"])
def test_killed_writer_leaves_the_old_file_and_its_litter_goes_with_the_next_write(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    (tmp_path / ".another.csv.0.part").touch()
    kill(start_writer(path))
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 3
    write(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == sorted([".another.csv.0.part", name])


def test_living_writer_of_the_same_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    with replacing(path) as temporary:
        temporary.write_text("last")
        write(path, "first")
        assert path.read_text() == "first"
    assert path.read_text() == "last"


def test_troubles_without_a_number_are_told_in_their_own_words(tmp_path: Path) -> None:
    sentence = r"cannot be written: the device went away; make the folder writable"
    with pytest.raises(InputError, match=sentence), replacing(tmp_path / "c.csv"):
        raise OSError("The device went away")
    assert names(tmp_path) == []


def test_full_disk(small_disk: Path) -> None:
    path = small_disk / "c.csv"
    write(path, "old")
    refused(path, "the disk is full; free some space", text="x" * 1_000_000)
    assert path.read_text() == "old"
    assert names(small_disk) == ["c.csv"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "input/output error"),
    ],
)
@pytest.mark.parametrize("step", ["open", "mkdir", "fsync", "replace"])
def test_each_step_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, reason: str
) -> None:
    path = tmp_path / "folder" / "c.csv"
    if step != "mkdir":
        write(path, "old")

    def fail(*arguments: object, **options: object) -> None:
        # As the kernel does: calls on paths name them, calls on descriptors do not.
        raise OSError(number, os.strerror(number), *(arguments[:1] if step != "fsync" else ()))

    monkeypatch.setattr(os, step, fail)
    refused(path, reason)
    monkeypatch.undo()
    if step == "mkdir":
        assert not path.parent.exists()
    else:
        assert path.read_text() == "old"
        assert names(path.parent) == ["c.csv"]


def test_what_may_be_made_again_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised: list[int] = []
    monkeypatch.setattr(os, "fsync", synchronised.append)
    for durable, expected in ((False, 0), (True, 2)):
        with replacing(tmp_path / "a.txt", durable=durable) as temporary:
            temporary.write_text("new")
        assert len(synchronised) == expected
        assert names(tmp_path) == ["a.txt"]


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    refused(tmp_path / "a" / "c.csv", "a part of the path is a file")
    refused(tmp_path / "a" / "b" / "c.csv", "a part of the path is a file")
    assert (tmp_path / "a").read_text() == "a file"


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only the superuser makes devices")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as each:
        # The name of a socket is short.
        before = Path.cwd()
        os.chdir(path.parent)
        each.bind(path.name)
        os.chdir(before)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": listening,
    "a device": device,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("linked", [False, True])
def test_nothing_but_a_file_is_replaced(tmp_path: Path, kind: str, linked: bool) -> None:
    special = tmp_path / "special"
    SPECIAL[kind](special)
    before = special.stat()
    path = tmp_path / "link" if linked else special
    if linked:
        path.symlink_to("special")
    refused(path, f"{kind} of that name is in the way; choose another name")
    assert (special.stat().st_ino, special.stat().st_mode) == (before.st_ino, before.st_mode)
    assert len(names(tmp_path)) == 1 + linked


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_takes_the_place_of_the_file_meanwhile_stays_too(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.csv"
    with pytest.raises(InputError, match=f"{kind} of that name is in the way"), replacing(path):
        SPECIAL[kind](path)
    assert not path.is_file()
    assert names(tmp_path) == ["c.csv"]


def test_a_pipe_that_only_proc_knows_is_no_place(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("there is no /proc here")
    reader, writer = os.pipe()
    try:
        refused(Path(f"/proc/self/fd/{writer}"), "a pipe of that name is in the way")
    finally:
        os.close(reader)
        os.close(writer)


def test_missing_folder_and_back_is_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "missing" / ".." / "folder", "a folder of that name is in the way")


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    for path in (tmp_path / "one", tmp_path / "one" / "c.csv"):
        refused(path, "a link in the path leads back to itself; remove the link")
    assert names(tmp_path) == ["one", "other"]


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    for path in (tmp_path / ("n" * longest), tmp_path / ("é" * (longest // 2))):
        write(path, "old")
        kill(start_writer(path))
        write(path, "new")
        assert path.read_text() == "new"
        assert names(tmp_path) == [path.name]
        path.unlink()
    refused(tmp_path / ("n" * (longest + 1)), "the name is longer than the file system allows; choose a shorter one")
    assert names(tmp_path) == []


def test_new_folders_go_when_nothing_comes_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for folder in ("new", "old", "old/new/newer"):
        abandon(tmp_path / folder / "c.csv")
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["old"]


def test_new_folders_stay_when_somebody_else_uses_them(tmp_path: Path) -> None:
    abandon(tmp_path / "new" / "newer" / "c.csv", (tmp_path / "new" / "theirs").touch)
    assert names(tmp_path / "new") == ["theirs"]


def test_a_folder_that_another_writer_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, removed = os.open, []

    def late(path: Path, *arguments: int) -> int:
        if not removed:
            removed.append(path.parent.rmdir())
        return whole(path, *arguments)

    monkeypatch.setattr(os, "open", late)
    write(tmp_path / "new" / "c.csv", "new")
    assert removed
    assert (tmp_path / "new" / "c.csv").read_text() == "new"


def test_a_folder_where_nothing_can_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanishing(path: Path, *arguments: int) -> int:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    monkeypatch.setattr(os, "open", vanishing)
    refused(tmp_path / "c.csv", "no such file or directory; make the folder writable")


def test_a_temporary_file_that_another_writer_takes_for_a_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole, calls = tmp_path / "c.csv", fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            # Between making the file and locking it.
            write(path, "first")
        whole(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with replacing(path) as temporary:
        temporary.write_text("last")
        write(path, "second")
    assert path.read_text() == "last"
    assert names(tmp_path) == ["c.csv"]


def test_a_writer_does_not_wait_for_one_that_clears_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole, others = tmp_path / "c.csv", fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not others:
            (temporary,) = tmp_path.glob(".c.csv.*.part")
            others.append(os.open(temporary, os.O_RDWR))
            whole(others[0], fcntl.LOCK_EX)
        whole(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write(path, "new")
    os.close(others[0])
    assert path.read_text() == "new"
    assert names(tmp_path) == ["c.csv"]


def test_where_nothing_can_be_locked_files_are_written_and_nothing_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.csv"
    kill(start_writer(path))

    def unknown(descriptor: int, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", unknown)
    write(path, "new")
    assert path.read_text() == "new"
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize(
    "name", [".c.csv.mine.part", ".c.csv.01234567.part.bak", ".c.csv.part", ".c.csv.0123.4567.part"]
)
def test_files_of_the_user_are_no_leftovers(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    write(tmp_path / "c.csv", "new")
    assert (tmp_path / name).read_text() == "mine"


def test_links_and_pipes_are_no_leftovers(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".c.csv.01234567.part").symlink_to("mine")
    os.mkfifo(tmp_path / ".c.csv.89abcdef.part")
    write(tmp_path / "c.csv", "new")
    assert names(tmp_path) == [".c.csv.01234567.part", ".c.csv.89abcdef.part", "c.csv", "mine"]


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device"])
@pytest.mark.parametrize("linked", [False, True])
def test_nothing_is_read_that_might_let_us_wait(tmp_path: Path, kind: str, linked: bool) -> None:
    special = tmp_path / "special"
    SPECIAL[kind](special)
    path = tmp_path / "link" if linked else special
    if linked:
        path.symlink_to("special")
    for read in (opened, sha256):
        with pytest.raises(InputError, match=f"{path}: this is {kind}, not a file; check the path"):
            read(path)


def test_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "c.csv").mkdir()
    refused(tmp_path / "c.csv", "a folder of that name is in the way")
    assert names(tmp_path) == ["c.csv"]


def test_troubles_with_other_files_are_not_taken_for_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "c.csv"):
        (tmp_path / "other").read_text()
    assert names(tmp_path) == []


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(InputError, match="the file is missing; check the path"):
        sha256(tmp_path / "b")
    with pytest.raises(InputError, match=r"cannot be read \(is a directory\); check the path"):
        sha256(tmp_path)
