# SPDX-License-Identifier: MIT
"""No two units have one GPU at a time, and what held one frees it however it ends; a CPU is shared by all."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from compendium import gpus
from tsvlib.errors import InputError

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(60)
"""


def test_a_cpu_is_no_gpu() -> None:
    assert gpus.count("cpu") == 0
    with gpus.one("cpu") as first, gpus.one("cpu") as second:
        assert first == second == torch.device("cpu")


def test_each_unit_has_one_of_its_own_and_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "LOOK", 0.01)
    locks, mine, most = [tmp_path / "a.lock", tmp_path / "b.lock"], threading.Lock(), []
    busy: list[int] = []

    def work() -> None:
        with gpus.held(locks) as place:
            with mine:
                assert place not in busy
                busy.append(place)
                most.append(len(busy))
            time.sleep(0.02)
            with mine:
                busy.remove(place)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 6
    assert max(most) == 2


def test_too_little_memory_is_one_sentence() -> None:
    with pytest.raises(InputError, match="the memory of the GPU is full; stop what else runs there"), gpus.memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")


def test_an_error_frees_it(tmp_path: Path) -> None:
    locks = [tmp_path / "a.lock"]
    with pytest.raises(KeyError), gpus.held(locks):
        raise KeyError
    with gpus.held(locks) as place:
        assert place == 0


def test_a_killed_process_frees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "LOOK", 0.01)
    locks = [tmp_path / "a.lock", tmp_path / "b.lock"]
    with subprocess.Popen([sys.executable, "-c", HOLD, str(locks[0])], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with gpus.held(locks) as place:
            assert place == 1
        other.kill()
        other.wait()
        with gpus.held(locks) as place:
            assert place == 0
