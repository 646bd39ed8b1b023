# SPDX-License-Identifier: MIT
"""How much memory and disk there is, as the system tells it."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compendium import paths
from tsvlib.cli import room


def test_disk_is_that_of_the_nearest_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    total = shutil.disk_usage(tmp_path).total
    for folder in (Path(), tmp_path, tmp_path / "not" / "yet", Path("not/yet")):
        assert 0 <= room.free_disk(folder) <= total


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="this system does not tell")
def test_memory_is_no_more_than_the_machine_has() -> None:
    free = room.free_memory()
    assert free is not None
    assert 0 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_least_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(room, "_GROUP", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert room.free_memory() is None
    (tmp_path / "meminfo").write_text("MemTotal:  900 kB\nMemAvailable:    500 kB\nHugePages_Total: none\n")
    assert room.free_memory() == 512_000
    # Of a container that may take 400 000 bytes and has taken 300 000, a third are copies of files.
    for name, text in {"current": "300000\n", "stat": "anon 200000\nfile 100000\n", "max": "max\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert room.free_memory() == 512_000
    (tmp_path / "memory.max").write_text("400000\n")
    assert room.free_memory() == 200_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell what a process has taken")
def test_a_limit_of_the_shell_counts() -> None:
    code = "from tsvlib.cli import room; print(room.free_memory())"
    limited = f"ulimit -v 3000000; exec {sys.executable} -c '{code}'"
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(["bash", "-c", limited], env=environment, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 3_072_000_000
