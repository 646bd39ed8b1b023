# SPDX-License-Identifier: MIT
"""Operations and bytes of one TSV-M merge, and bytes of a TSV-C file, on paper.

A task matrix has a long side m and a short side n; T tasks keep k = n/T components each, c = T k in all. One
multiply-add counts as two operations, and of a symmetric product only one triangle is counted. ``python -m
bench.counts`` prints the tables in ``bench/README.md``.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass

from bench import layouts
from bench.layouts import Layout

FLOAT, DOUBLE = 4, 8
"""Bytes of a float32 and of a float64."""

CASES = (("ViT-B-32", 8), ("ViT-L-14", 20))


@dataclass(frozen=True)
class Counts:
    """Floating-point operations by type and kind, and bytes."""

    products32: float = 0.0
    """Matrix products in float32: long polar factors, the merged matrix."""

    eigen32: float = 0.0
    """Symmetric eigendecompositions in float32: those of long polar factors."""

    products64: float = 0.0
    """Matrix products in float64: Gram matrices, images of singular vectors, short polar factors."""

    eigen64: float = 0.0
    """Symmetric eigendecompositions in float64."""

    transferred: float = 0.0
    """Bytes to a device and back: every change, and the update."""

    moved: float = 0.0
    """Bytes between a device and its memory if each product reads and writes its matrices once."""

    read: float = 0.0
    """Bytes read from disk: every file twice, once to be hashed and checked, once to be merged."""

    written: float = 0.0
    """Bytes written to disk."""

    def __add__(self, other: "Counts") -> "Counts":
        """Return the sums."""
        return Counts(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def operations(self) -> float:
        """Return all floating-point operations."""
        return self.products32 + self.eigen32 + self.products64 + self.eigen64


@dataclass(frozen=True)
class Device:
    """Highest rates of a GPU: operations and bytes per second."""

    float32: float
    float64: float
    memory: float
    link: float
    eigen_share: float
    """Share of these operations per second that an eigendecomposition reaches; half of it is matrix times vector."""


H200 = Device(float32=67e12, float64=67e12, memory=4.8e12, link=50e9, eigen_share=0.01)
"""An H200: float32 without TF32, float64 on tensor cores, PCIe 5 x16 in practice; the share is what was measured."""


def kept(rank: int, tasks: int) -> int:
    """Return the number of components that each task keeps: the published rule."""
    return int(rank * (1 / tasks))


def matrix(rows: int, columns: int, tasks: int) -> Counts:
    """Return the operations and device bytes of merging one task matrix."""
    m, n = max(rows, columns), min(rows, columns)
    k = kept(n, tasks)
    c = tasks * k
    # Of each task: Gram matrix, its eigenvectors, images of k of them.
    decomposition = Counts(
        products64=m * n**2 + 2 * m * n * k,
        eigen64=eigen(n),
        transferred=FLOAT * m * n,
        # The change, widened and read twice more, the Gram matrix, and vectors, which are then rounded.
        moved=FLOAT * (m * n + (m + n) * k) + DOUBLE * (3 * m * n + 2 * n**2 + (2 * m + 3 * n) * k),
    )
    # Of all tasks: Gram matrix, inverse root and product for both sides, and the merged matrix.
    product = Counts(
        products32=2 * m * n * c,
        transferred=FLOAT * m * n,
        moved=FLOAT * ((m + n) * c + m * n),
    )
    # The inverse root of a side in float32 is multiplied with the other side instead of its own.
    sides = polar(n, c) + polar(m, c, n if m >= 2 * c else m)
    return sum([decomposition] * tasks, sides + product)


def polar(length: int, c: int, multiplied: int | None = None) -> Counts:
    """Return the counts of making c columns orthonormal: in float32 when they are at least twice as long as many.

    Their inverse root is multiplied with a matrix of so many rows or columns, by default the one that it is of.
    """
    times = length if multiplied is None else multiplied
    products, moved = (length + 2 * times) * c**2 + c**3, FLOAT * ((length + 2 * times) * c + 4 * c**2)
    if length >= 2 * c:
        return Counts(products32=products, eigen32=eigen(c), moved=moved)
    return Counts(products64=products, eigen64=eigen(c), moved=DOUBLE // FLOAT * moved)


def eigen(n: int) -> float:
    """Return the operations of a symmetric eigendecomposition with all vectors, at most: 9 n³."""
    return 9.0 * n**3


def merge(shapes: Layout, tasks: int) -> Counts:
    """Return the counts of merging files of a layout of which fine-tuning changed the visual part."""
    size = FLOAT * layouts.parameters(shapes)
    found = [matrix(*shape, tasks) for shape in layouts.matrices(shapes).values()]
    others = {key: shape for key, shape in layouts.visual(shapes).items() if len(shape) != 2}
    averaged = FLOAT * (tasks + 1) * layouts.parameters(others)
    whole = Counts(transferred=averaged, moved=averaged, read=2 * (tasks + 1) * size, written=size)
    return sum(found, whole)


def floor(counts: Counts, device: Device) -> dict[str, float]:
    """Return the seconds below which no implementation of these counts can come, by what limits it."""
    share = device.eigen_share
    return {
        "products": counts.products32 / device.float32 + counts.products64 / device.float64,
        "eigendecompositions": (counts.eigen32 / device.float32 + counts.eigen64 / device.float64) / share,
        "device memory": counts.moved / device.memory,
        "link": counts.transferred / device.link,
    }


def compressed_bytes(shapes: Layout, tasks: int) -> int:
    """Return the bytes of the tensors of a TSV-C file: k (m + n + 1) numbers of a matrix, all numbers of the rest."""
    numbers = 0
    for shape in layouts.visual(shapes).values():
        numbers += kept(min(shape), tasks) * (sum(shape) + 1) if len(shape) == 2 else math.prod(shape)
    return FLOAT * numbers


def table() -> str:
    """Return the counts of the two merges and their floors on an H200 as a Markdown table."""
    found = {f"{name}, {tasks} experts": merge(layouts.layout(name), tasks) for name, tasks in CASES}
    rows = {
        "products in float32 (TFLOP)": [each.products32 / 1e12 for each in found.values()],
        "eigendecompositions in float32 (TFLOP)": [each.eigen32 / 1e12 for each in found.values()],
        "products in float64 (TFLOP)": [each.products64 / 1e12 for each in found.values()],
        "eigendecompositions in float64 (TFLOP)": [each.eigen64 / 1e12 for each in found.values()],
        "between device and its memory (GB)": [each.moved / 1e9 for each in found.values()],
        "over the link (GB)": [each.transferred / 1e9 for each in found.values()],
        "read from disk (GB)": [each.read / 1e9 for each in found.values()],
        "written to disk (GB)": [each.written / 1e9 for each in found.values()],
    }
    floors = [floor(each, H200) for each in found.values()]
    for limit in floors[0]:
        rows[f"H200, {limit} (s)"] = [each[limit] for each in floors]
    return markdown(["one TSV-M merge", *found], {name: [f"{v:.3g}" for v in values] for name, values in rows.items()})


def markdown(head: list[str], rows: Mapping[str, list[str]]) -> str:
    """Return a Markdown table with numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(table() + "\n")
