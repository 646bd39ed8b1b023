# SPDX-License-Identifier: MIT
"""Work is handed out in order, in bounded numbers, on one BLAS thread each."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info

from compendium import paths
from tsvlib import devices, linalg
from tsvlib.cli.workflows import Session
from tsvlib.computing import Computing
from tsvlib.errors import InputError


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_is_kept_whoever_finishes_first(workers: int) -> None:
    gates = {number: threading.Event() for number in range(20)}

    def late(number: int) -> int:
        # Even items wait for their successor when there is a second worker to run it.
        if workers > 1 and number % 2 == 0:
            gates[number + 1].wait(timeout=10)
        gates[number].set()
        return number

    assert list(devices.ordered(late, range(20), workers)) == list(range(20))


def test_no_more_is_begun_than_may_wait() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            begun.append(number)
            yield number

    found = devices.ordered(lambda number: number, items(), 2)
    for number in range(5):
        assert next(found) == number
        assert len(begun) <= number + 2 * devices.AHEAD + 1
    found.close()
    assert len(begun) < 50


def test_an_error_reaches_the_caller_and_ends_the_work() -> None:
    def broken(number: int) -> int:
        if number == 3:
            raise InputError("three.")
        return number

    found = devices.ordered(broken, range(1000), 2)
    with pytest.raises(InputError, match="three"):
        list(found)


def test_a_worker_that_asks_for_workers_works_alone() -> None:
    def inner(_: int) -> int:
        return threading.get_ident()

    def outer(_: int) -> set[int]:
        return {threading.get_ident(), *devices.ordered(inner, range(4), 2)}

    assert {len(threads) for threads in devices.ordered(outer, range(8), 2)} == {1}


def test_each_worker_has_one_thread_and_settings_come_back() -> None:
    before = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:

        def inside(_: int) -> tuple[int, str, set[int]]:
            blas = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
            return torch.get_num_threads(), torch.get_float32_matmul_precision(), blas

        assert set(map(str, devices.ordered(inside, range(4), 2))) == {str((1, "highest", {1}))}
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_num_threads() == before
    finally:
        torch.set_float32_matmul_precision(precision)


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_work_that_overlaps_keeps_its_limits_until_the_last_of_it_ends() -> None:
    before, threads = blas_threads(), torch.get_num_threads()
    inside, end = threading.Event(), threading.Event()
    seen: list[tuple[set[int], int]] = []

    def other() -> None:
        with devices.exact():
            inside.set()
            end.wait(timeout=30)
            seen.append((blas_threads(), torch.get_num_threads()))

    first = devices.ordered(abs, range(20), 1)
    assert next(first) == 0
    second = threading.Thread(target=other)
    second.start()
    assert inside.wait(timeout=30)
    first.close()
    # Whoever ends first gives nothing back to the one that still works.
    assert blas_threads() == {1}
    assert torch.get_num_threads() == threads
    end.set()
    second.join()
    assert seen == [({1}, 1)]
    assert blas_threads() == before


def test_bits_do_not_depend_on_other_work_in_the_process() -> None:
    x = torch.randn(700, 600, generator=torch.Generator().manual_seed(0))
    alone = list(devices.ordered(lambda factor: linalg.gram(factor * x), [1.0, 2.0, 3.0], 2))
    other = devices.ordered(abs, range(20), 1)
    next(other)
    found = []
    for number, value in enumerate(devices.ordered(lambda factor: linalg.gram(factor * x), [1.0, 2.0, 3.0], 2)):
        if number == 0:
            other.close()
        found.append(value)
    assert all(map(torch.equal, found, alone))


def test_devices_by_name() -> None:
    assert devices.choose("cpu").type == "cpu"
    assert devices.choose("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert devices.default_workers(torch.device("cpu")) >= 1
    assert devices.default_workers(torch.device("cuda")) == 1
    with pytest.raises(InputError, match="there is no device `tpu`; choose one of auto, cpu, cuda, mps"):
        devices.choose("tpu")


def test_where_the_system_does_not_tell_which_cpus_a_process_may_use_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, workers in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert devices.default_workers(torch.device("cpu")) == workers


@pytest.mark.parametrize("computing", [Computing, Session])
def test_a_device_is_prepared_before_any_thread_works(
    monkeypatch: pytest.MonkeyPatch, computing: type[Computing]
) -> None:
    prepared: list[torch.device] = []
    monkeypatch.setattr(devices, "prepare", prepared.append)
    computing(device=torch.device("cuda"))
    assert prepared == [torch.device("cuda")]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")
def test_threads_may_be_the_first_to_use_a_gpu() -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
import torch
from tsvlib import linalg
from tsvlib.computing import Computing
device = Computing(device=torch.device("cuda")).device
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: linalg.leading(torch.eye(9, device=device), 2), range(8)))
"""
    subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=True)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"has no {name} device; choose the device cpu"):
        devices.choose(name)


def test_no_workers_are_refused() -> None:
    with pytest.raises(InputError, match="0 workers cannot work; choose at least one"):
        list(devices.ordered(abs, [1], 0))


def test_a_device_that_cannot_do_the_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(InputError, match="neither float64 nor eigendecompositions on mps; choose the device cpu"):
        devices.choose("mps")
