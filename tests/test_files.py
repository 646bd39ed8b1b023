# SPDX-License-Identifier: MIT
"""Files appear complete or not at all, whatever fails."""

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tsvlib.errors import InputError
from tsvlib.files import replacing, sha256

ROOT = Path(__file__).parents[1]
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
