# SPDX-License-Identifier: MIT
"""A large file is read once for its SHA-256, and again as soon as another one may be in its place."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from compendium.worlds.clip.sources import digests
from tsvlib import files
from tsvlib.errors import InputError


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TSV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clip" / "digests"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every pass over a file, in order; and times of files count as settled, however young they are."""
    done: list[Path] = []
    whole = files.sha256

    def counted(file: Path) -> str:
        done.append(file)
        return whole(file)

    monkeypatch.setattr(files, "sha256", counted)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    return done


def written(file: Path, content: bytes, seconds: int = 1000) -> str:
    """Write a file that says it is so many seconds old as 1970 was then, and return its SHA-256."""
    file.write_bytes(content)
    os.utime(file, (seconds, seconds))
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once(tmp_path: Path, passes: list[Path]) -> None:
    expected = written(tmp_path / "a.pt", b"one")
    assert [digests.sha256(tmp_path / "a.pt") for _ in range(3)] == [expected] * 3
    assert passes == [tmp_path / "a.pt"]


def test_another_file_of_the_same_name_size_and_time_is_noticed(tmp_path: Path, passes: list[Path]) -> None:
    written(tmp_path / "a.pt", b"one")
    digests.sha256(tmp_path / "a.pt")
    # File systems tell the time in steps.
    time.sleep(0.05)
    expected = written(tmp_path / "b.pt", b"two")
    (tmp_path / "b.pt").replace(tmp_path / "a.pt")
    assert digests.sha256(tmp_path / "a.pt") == expected
    assert len(passes) == 2


def test_nothing_is_noted_of_a_file_that_has_just_changed(tmp_path: Path, notes: Path) -> None:
    written(tmp_path / "a.pt", b"one")
    digests.sha256(tmp_path / "a.pt")
    assert not notes.exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"sha256": "0"}', b"\xff"])
def test_a_damaged_note_is_written_again(tmp_path: Path, notes: Path, passes: list[Path], damage: bytes) -> None:
    expected = written(tmp_path / "a.pt", b"one")
    digests.sha256(tmp_path / "a.pt")
    (note,) = notes.iterdir()
    note.write_bytes(damage)
    assert [digests.sha256(tmp_path / "a.pt") for _ in range(2)] == [expected] * 2
    assert len(passes) == 2


def test_a_missing_file_is_told_though_it_was_known(tmp_path: Path, passes: list[Path]) -> None:
    written(tmp_path / "a.pt", b"one")
    digests.sha256(tmp_path / "a.pt")
    (tmp_path / "a.pt").unlink()
    with pytest.raises(InputError, match=r"a\.pt"):
        digests.sha256(tmp_path / "a.pt")
