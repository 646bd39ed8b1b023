# SPDX-License-Identifier: MIT
"""The paper's whole linear algebra of one backbone: rank sweep, TSV-M, TSV-C and interference in three suites.

Both sides work on task matrices in memory, those of ``bench.synthetic``, and of the visual part only: the literal
algorithm would decompose the never-trained text embeddings too. Ours does all of it, with a store of factors on disk
that starts empty for every few blocks (the page cache makes a larger one no faster or slower); interference comes after
all else of these blocks, so that the wall time of both is known apart. The literal algorithm
runs on a sample, on a CPU, with as many threads as we have workers:

- one matrix of each shape, those that differ by a transpose being one shape, stands for all of that shape;
- in the rank sweep and TSV-C, one task stands for all;
- interference is measured on the smallest matrix of each short side only, so larger ones are counted too low.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TypeVar

import torch

from bench import layouts, literal, ours, synthetic
from bench.ours import Found, Matrix
from bench.steps import Settings, threads
from bench.table import Row
from tsvlib import devices, progress

OPERATIONS = ("rank sweep", "TSV-M", "TSV-C", "STI")
WITHOUT, WITH = "all but STI", "all"
BLOCKS = 4
"""Blocks whose task matrices are in memory at once, and whose factors the store keeps."""

Side = tuple[int, int]
Result = TypeVar("Result")


def paper(settings: Settings) -> list[Row]:
    """Measure our time for one backbone and extrapolate that of the literal algorithm."""
    shapes = layouts.matrices(layouts.layout(settings.backbone))
    expected, seconds = _literal(shapes, settings)
    found, walls = _ours(shapes, settings)
    rows = []
    for operation in OPERATIONS:
        busy = sum(each.seconds[operation] for each in found.values()) / settings.workers
        rows += _compared(operation, seconds[operation], busy)
    everything = sum(seconds.values())
    rows += _compared(WITHOUT, everything - seconds["STI"], walls[WITHOUT])
    rows += _compared(WITH, everything, walls[WITH])
    pairs = [(expected[key], found[key]) for key in expected]
    rows += [
        Row("paper", "TSV-M", "largest relative difference", max(_difference(*pair) for pair in pairs), ""),
        Row("paper", "STI", "largest relative difference", max(_disagreement(*pair) for pair in pairs), ""),
        Row("paper", "literal", "matrices in the sample", len(expected), ""),
        Row("paper", "ours", "matrices measured", len(found), ""),
    ]
    return rows + threads("paper", settings.workers)


def side(shape: Sequence[int]) -> Side:
    """Return the long and the short side of a matrix."""
    return max(shape), min(shape)


def representatives(shapes: dict[str, Side]) -> dict[str, int]:
    """Return the first matrix of each shape and how many it stands for; a transpose is the same shape."""
    numbers = Counter(side(shape) for shape in shapes.values())
    first = {side(shape): key for key, shape in reversed(shapes.items())}
    return {first[each]: number for each, number in sorted(numbers.items())}


def _literal(shapes: dict[str, Side], settings: Settings) -> tuple[dict[str, Found], dict[str, float]]:
    """Return results of the sample by key, and seconds of all matrices by operation."""
    chosen = representatives(shapes)
    found, seconds = {}, dict.fromkeys(OPERATIONS, 0.0)
    sharing = Counter(min(shape) for shape in shapes.values())
    with progress.track(len(chosen), "literal algorithm") as bar, _threads(settings.workers):
        for key, number in chosen.items():
            short = min(shapes[key])
            # Representatives come in the order of their long side; the first of a short side takes all of these.
            times = {"STI": sharing.pop(short, 0)}
            found[key] = _measured(_deltas(key, shapes[key], settings), settings.suites, bool(times["STI"]))
            for operation, value in found[key].seconds.items():
                seconds[operation] += value * times.get(operation, number)
            bar.update()
    return found, seconds


def _measured(deltas: Sequence[Matrix], suites: Sequence[int], interference: bool) -> Found:
    """Return the seconds that one matrix takes by the literal algorithm, with one task standing for all."""
    found = Found()
    with found.timing("rank sweep"):
        for fraction in literal.FRACTIONS:
            literal.truncated(deltas[0], fraction)
    found.seconds["rank sweep"] *= len(deltas)
    compressing = 0.0
    for tasks in suites:
        with found.timing("TSV-M"):
            found.merged[tasks] = literal.tsv_m_matrix(deltas[:tasks])
        start = time.perf_counter()
        literal.truncated(deltas[0], 1 / tasks)
        compressing += tasks * (time.perf_counter() - start)
        if interference:
            with found.timing("STI"):
                found.interference[tasks] = literal.singular_task_interference(deltas[:tasks])
    found.seconds["TSV-C"] = compressing
    return found


def _ours(shapes: dict[str, Side], settings: Settings) -> tuple[dict[str, Found], dict[str, float]]:
    """Return results by key, and the wall time of all matrices without and with interference."""
    found: dict[str, Found] = {}
    walls, store = {WITHOUT: 0.0, WITH: 0.0}, settings.folder / "store"
    with progress.track(len(shapes), "our algorithm") as bar:
        for keys in _batches(shapes):
            deltas = {key: _deltas(key, shapes[key], settings) for key in keys}
            shutil.rmtree(store, ignore_errors=True)
            start = time.perf_counter()
            found |= _each(keys, settings, lambda key: ours.linear_algebra(deltas[key], settings.suites, store))  # noqa: B023
            walls[WITHOUT] += time.perf_counter() - start
            _each(keys, settings, lambda key: ours.interference(found[key], deltas[key], settings.suites, store))  # noqa: B023
            walls[WITH] += time.perf_counter() - start
            bar.update(len(keys))
    shutil.rmtree(store, ignore_errors=True)
    return found, walls


def _each(keys: Sequence[str], settings: Settings, work: Callable[[str], Result]) -> dict[str, Result]:
    return dict(zip(keys, devices.ordered(work, keys, settings.workers), strict=True))


def _batches(shapes: dict[str, Side]) -> Iterable[list[str]]:
    """Return the matrices of a few blocks at a time, largest first, so that no worker waits long for the others."""

    def batch(key: str) -> int:
        block = layouts.block(key)
        return int(block) // BLOCKS if block else -1

    keys = sorted(shapes, key=lambda key: (batch(key), -shapes[key][0] * shapes[key][1], key))
    return [list(group) for _, group in groupby(keys, key=batch)]


def _deltas(key: str, shape: Side, settings: Settings) -> list[Matrix]:
    return [synthetic.change(0, key, shape, task) for task in range(1, max(settings.suites) + 1)]


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compared(operation: str, literal_seconds: float, our_seconds: float) -> list[Row]:
    return [
        Row("paper", operation, "literal, extrapolated", literal_seconds, "s"),
        Row("paper", operation, "ours", our_seconds, "s"),
        Row("paper", operation, "speed-up", literal_seconds / our_seconds, "times"),
    ]


def _difference(expected: Found, found: Found) -> float:
    return max(float((found.merged[t] - one).norm() / one.norm()) for t, one in expected.merged.items())


def _disagreement(expected: Found, found: Found) -> float:
    pairs = [(value, found.interference[tasks]) for tasks, value in expected.interference.items()]
    return max((abs(other / value - 1) for value, other in pairs), default=0.0)
