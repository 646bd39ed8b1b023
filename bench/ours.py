# SPDX-License-Identifier: MIT
"""What the benchmark calls of this library, beside its command line: the paper's linear algebra of one matrix."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from bench.literal import FRACTIONS
from tsvlib import compression, linalg, merging, sti
from tsvlib.compression import Rank
from tsvlib.computing import Computing
from tsvlib.methods import named
from tsvlib.store import Spectra
from tsvlib.suites import MemorySuite

Matrix = Float[Tensor, "rows columns"]
KEY = "matrix"


@dataclass
class Found:
    """Seconds by operation, and results by number of tasks to compare with those of the literal algorithm."""

    seconds: dict[str, float] = field(default_factory=dict)
    merged: dict[int, Matrix] = field(default_factory=dict)
    interference: dict[int, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, operation: str) -> Iterator[None]:
        """Count the time of the block to an operation."""
        start = time.perf_counter()
        yield
        self.seconds[operation] = self.seconds.get(operation, 0.0) + time.perf_counter() - start


def linear_algebra(deltas: Sequence[Matrix], suites: Sequence[int], folder: Path) -> Found:
    """Do what the paper does with one task matrix of all tasks but for STI, with a store of factors in ``folder``.

    That is the rank sweep of every task, then TSV-M and TSV-C of the first tasks, as many as each of ``suites`` says.
    The sweep comes first and asks for all components, which ``interference`` finds in the store.
    """
    store, found = Spectra(folder), Found()
    with found.timing("rank sweep"):
        for delta in deltas:
            sweep(store, delta)
    for tasks in suites:
        with found.timing("TSV-M"):
            found.merged[tasks] = merge(store, deltas[:tasks])
        with found.timing("TSV-C"):
            for delta in deltas[:tasks]:
                compress(store, delta, tasks)
    return found


def sweep(store: Spectra, delta: Matrix) -> None:
    """Truncate a matrix to each fraction of its components."""
    factors = store.factors(delta, min(delta.shape))
    for fraction in FRACTIONS:
        linalg.truncate(factors, linalg.kept_rank(len(factors.s), fraction)).product()


def merge(store: Spectra, deltas: Sequence[Matrix]) -> Matrix:
    """Return the update of TSV-M."""
    suite = MemorySuite([{KEY: delta} for delta in deltas])
    return merging.update(named("tsv_m").bind(suite), suite, KEY, Computing(spectra=store))


def compress(store: Spectra, delta: Matrix, tasks: int) -> Matrix:
    """Return what TSV-C leaves of a matrix."""
    suite = MemorySuite([{KEY: delta}])
    tensors = compression.compressed(suite, KEY, Rank(fraction=1 / tasks), computing=Computing(spectra=store))
    return compression.expanded(KEY, suite.shapes[KEY], list(tensors), tensors.__getitem__)


def interference(found: Found, deltas: Sequence[Matrix], suites: Sequence[int], folder: Path) -> None:
    """Add STI of all components, as the sum of absolute entries, of the first tasks, as many as each suite says."""
    store = Spectra(folder)
    with found.timing("STI"):
        factors = [store.factors(delta, min(delta.shape)) for delta in deltas]
        norms = sti.nested_interference(factors, suites)
        found.interference = {tasks: each.entrywise for tasks, each in zip(suites, norms, strict=True)}
