# SPDX-License-Identifier: MIT
"""Where the linear algebra runs: the one place that decides on device, precision and threads."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import OpenBLASController, threadpool_limits

from tsvlib.errors import InputError

NAMES = ("auto", "cpu", "cuda", "mps")
AHEAD = 8
_WORKER = threading.local()
Item = TypeVar("Item")
Result = TypeVar("Result")


def choose(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` takes CUDA where there is a GPU for it, and the CPU elsewhere.

    InputError for an unknown name, a device that this machine lacks, or ``mps``, where PyTorch has neither float64 nor
    eigendecompositions.
    """
    if name not in NAMES:
        raise InputError(f"there is no device `{name}`; choose one of {', '.join(NAMES)}.")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[name]:
        raise InputError(f"this machine or this build of PyTorch has no {name} device; choose the device cpu.")
    if name == "mps":
        raise InputError("PyTorch has neither float64 nor eigendecompositions on mps; choose the device cpu.")
    return torch.device(name)


def prepare(device: torch.device) -> None:
    """Load PyTorch's linear algebra for a GPU, which fails where threads ask for it first at once (its issue 90613)."""
    if device.type == "cuda":
        torch.linalg.eigh(torch.eye(1, device=device))


def default_workers(device: torch.device) -> int:
    """Return how many matrices to work on at once: as many as there are CPUs to use, but one on a GPU."""
    if device.type != "cpu":
        return 1
    # macOS does not tell which CPUs a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int) -> None:
    """Raise InputError unless somebody works."""
    if workers < 1:
        raise InputError(f"{workers} workers cannot work; choose at least one.")


def ordered(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """Yield ``function(item)`` in the order of the items while workers are busy with the next ones.

    Every matrix is worked on by one thread with one BLAS thread, so that results do not depend on the number of
    workers. No more than ``AHEAD`` results per worker wait for their turn, which bounds the memory that they take
    and is enough to keep all workers busy when small and large tensors alternate. A function that asks for workers
    itself, while it is run by one, gets no others: they are busy.
    InputError when ``workers`` is less than one.
    """
    check_workers(workers)
    if getattr(_WORKER, "busy", False):
        yield from map(function, items)
        return
    with exact(), ThreadPoolExecutor(workers, initializer=_begin) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= workers * AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    torch.set_num_threads(1)
    _WORKER.busy = True


class _Limits:
    """The limits of the whole process: set by whoever needs them first, lifted by whoever needs them last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._precision = ""
        self._blas: threadpool_limits | None = None

    def hold(self) -> None:
        with self._lock:
            if not self._users:
                self._precision = torch.get_float32_matmul_precision()
                with _control_of_blas():
                    self._blas = threadpool_limits(1, user_api="blas")
                torch.set_float32_matmul_precision("highest")
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._blas is not None:
                torch.set_float32_matmul_precision(self._precision)
                with _control_of_blas():
                    self._blas.restore_original_limits()


@contextmanager
def _control_of_blas() -> Iterator[None]:
    """Let this thread set OpenBLAS's number of threads, which threadpoolctl grants only to the first that did so."""
    OpenBLASController.clear_controlling_thread(force=True)
    try:
        yield
    finally:
        OpenBLASController.clear_controlling_thread(force=True)


_LIMITS = _Limits()


@contextmanager
def exact() -> Iterator[None]:
    """Compute with one BLAS thread per thread, and without TF32, which would leave ten bits of a product's precision.

    Any number of threads may do so at once. PyTorch's number of threads is each thread's own.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _LIMITS.hold()
    try:
        yield
    finally:
        _LIMITS.release()
        torch.set_num_threads(threads)
