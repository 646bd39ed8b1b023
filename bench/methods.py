# SPDX-License-Identifier: MIT
"""Time and memory of every method of the library on experts of real size, each in a process of its own.

A process opens the files, makes the update tensor by tensor and lets it go, or keeps the models of all tasks together;
nothing is hashed or written. What a method is told beside the checkpoints is drawn when it is asked for: values mean
nothing, sizes are those of what is measured on real inputs.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import torch
from torch import Tensor

from bench import layouts, synthetic
from bench.measure import measured
from bench.steps import Settings, named_files, ours_threads, warm
from bench.table import Row
from tsvlib import checkpoints, devices, merging
from tsvlib.layers import Suite
from tsvlib.methods import METHODS, PROCESSES, named
from tsvlib.methods.base import Measured, PerTask, Quantity
from tsvlib.suites import CheckpointSuite

SAME = {"tsv_m_alpha_1", "adamerging_task"}
"""Rows that merge as another one does."""

LINEAR = ("in_proj_weight", "out_proj.weight", "c_fc.weight", "c_proj.weight")
"""The ends of names of linear layers that are used as ``x @ w.T``."""

SAMPLES = 256
"""Rows of inputs that a Gram matrix is made of."""

TOKENS = 32 * 50
"""Rows of inputs that 32 images give a linear layer of ViT-B/32, of which no more are kept than there are columns."""


class Drawn(Mapping[str, Tensor]):
    """Statistics of one expert by the names of its tensors, as large as real ones."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], quantity: Quantity, expert: int) -> None:
        linear = [key for key in shapes if key.endswith(LINEAR)]
        self.shapes = {key: shapes[key] for key in (linear if quantity in ("gram", "inputs") else shapes)}
        self.quantity, self.expert = quantity, expert

    def __getitem__(self, key: str) -> Tensor:
        """Return what is drawn for a tensor, the same each time."""
        shape = self.shapes[key]
        random = torch.Generator().manual_seed(len(key) + self.expert)
        if self.quantity == "coefficients":
            return torch.rand((), generator=random)
        if self.quantity == "fisher":
            return torch.rand(shape, generator=random)
        columns = shape[1]
        x = torch.randn(SAMPLES if self.quantity == "gram" else min(TOKENS, columns), columns, generator=random)
        return x.mT @ x / len(x) if self.quantity == "gram" else x

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self.shapes)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.shapes)


def cases() -> list[str]:
    """Return what is measured, as ``named`` takes it: processes follow the sum of all changes, which costs nothing."""
    alone = [name for name in METHODS if name not in PROCESSES and name not in SAME]
    return alone + [f"task_arithmetic+{name}" for name in PROCESSES]


def methods(settings: Settings) -> list[Row]:
    """Measure seconds from open files to the last tensor, and the peak memory beyond that of ``import torch``."""
    backbone, tasks = settings.merged
    base, experts = synthetic.write(settings.folder, backbone, tasks, workers=settings.workers)
    idle = measured(["-c", "import torch"], settings.workers)
    rows = [Row("methods", "import torch", "peak memory", idle.peak / 1e9, "GB")]
    for name in settings.methods or cases():
        warm([base, *experts])
        files = [*named_files(base, experts), "--workers", str(settings.workers)]
        run = measured(["-m", "bench.methods", name, *files], settings.workers)
        rows += [
            Row("methods", name, "time", float(run.said), "s"),
            Row("methods", name, "peak memory", run.peak / 1e9, "GB"),
            Row("methods", name, "peak beyond import torch", max(0, run.peak - idle.peak) / 1e9, "GB"),
        ]
    together = 4 * tasks * layouts.parameters(layouts.layout(backbone))
    rows += [
        Row("methods", "experts", "number", tasks, ""),
        Row("methods", "experts", "task vectors in float32", together / 1e9, "GB"),
    ]
    return [*rows, *ours_threads("methods", settings.workers)]


def work(name: str, suite: Suite, workers: int) -> None:
    """Do what a method does with a whole suite, and keep nothing of it."""
    row = METHODS.get(name)
    if isinstance(row, PerTask):
        row.pack(suite, [str(number) for number in range(suite.n_tasks)])
        return
    if isinstance(row, Measured):
        method = row.by([Drawn(suite.shapes, row.quantity, number) for number in range(suite.n_tasks)])
    else:
        method = named(name)
    function = method.bind(suite)
    for _ in devices.ordered(lambda key: merging.update(function, suite, key), list(suite.shapes), workers):
        pass


@click.command()
@click.argument("name", type=click.Choice(cases()))
@click.option("--base", type=click.Path(path_type=Path), required=True)
@click.option("--expert", "experts", type=click.Path(path_type=Path), multiple=True, required=True)
@click.option("--workers", type=click.IntRange(min=1), default=1)
def main(name: str, base: Path, experts: tuple[Path, ...], workers: int) -> None:
    """Do what a method does, and say how many seconds it took."""
    suite = CheckpointSuite(checkpoints.open_checkpoint(base), [checkpoints.open_checkpoint(path) for path in experts])
    start = time.perf_counter()
    work(name, suite, workers)
    sys.stdout.write(f"{time.perf_counter() - start}\n")


if __name__ == "__main__":
    main()
