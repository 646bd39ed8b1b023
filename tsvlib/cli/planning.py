# SPDX-License-Identifier: MIT
"""What merging checkpoints will do and take, known from their headers before any work begins."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tsvlib import devices
from tsvlib.adapters import Adapter
from tsvlib.checkpoints import Checkpoint, TensorInfo
from tsvlib.cli import room
from tsvlib.methods import IN_CORE
from tsvlib.selection import Selection
from tsvlib.suites import CheckpointSuite
from tsvlib.taskvectors import MatrixRule

# Rates of one worker on an ordinary CPU core and disk: floating-point operations and bytes per second.
FLOAT32_RATE = 60e9
FLOAT64_RATE = 30e9
READ_RATE = 1e9
_PAPER = MatrixRule()


@dataclass(frozen=True)
class Plan:
    """What a merge does and takes: counts, bytes, floating-point operations, seconds and the highest memory in bytes.

    ``matrices`` counts task matrices, three for a fused projection that is split; ``selection`` says which tensors are
    merged and which are not; ``adapters`` counts experts that are LoRA adapters, and ``cores`` the task matrices that
    they change in a space so small that it is all that is merged. ``free_memory`` is None where the system does not
    tell, ``free_disk`` is that of ``folder``, and ``notes`` are sentences about the inputs.
    """

    experts: int
    tensors: int
    matrices: int
    selection: Selection
    bytes_read: int
    bytes_written: int
    flops: int
    seconds: float
    memory: int
    free_memory: int | None
    free_disk: int
    folder: Path
    notes: tuple[str, ...] = ()
    adapters: int = 0
    cores: int = 0

    @property
    def brief(self) -> str:
        """Return the estimates as one line."""
        sizes = f"{prefixed(self.bytes_read, 'B')} to read, about {prefixed(self.memory, 'B')} of memory"
        return f"{self.experts} experts, {self.matrices} task matrices: {sizes}, about {_duration(self.seconds)}"

    @property
    def troubles(self) -> tuple[str, ...]:
        """Return why the merge does not fit this machine; nothing where it does."""
        found = []
        if self.free_memory is not None and self.memory > self.free_memory:
            sizes = f"{prefixed(self.memory, 'B')} of memory are needed and {prefixed(self.free_memory, 'B')} are free"
            found.append(f"{sizes}; choose fewer workers or another machine")
        if self.bytes_written > self.free_disk:
            sizes = (
                f"{prefixed(self.bytes_written, 'B')} are to be written and {prefixed(self.free_disk, 'B')} are free"
            )
            found.append(f"{sizes} in {self.folder}; free some space or choose another disk")
        return tuple(found)

    def __str__(self) -> str:
        free = "" if self.free_memory is None else f", of {prefixed(self.free_memory, 'B')} that are free"
        rows = [
            *([("fits", f"no: {trouble}") for trouble in self.troubles] or [("fits", "yes")]),
            ("experts", f"{self.experts}"),
            ("tensors", f"{self.tensors}"),
            *_parts(self.selection, self.matrices),
            *([("adapters", self._adapters)] if self.adapters else []),
            ("read", prefixed(self.bytes_read, "B")),
            ("written", f"{prefixed(self.bytes_written, 'B')}, of {prefixed(self.free_disk, 'B')} in {self.folder}"),
            ("arithmetic", prefixed(self.flops, "flop")),
            ("memory", f"about {prefixed(self.memory, 'B')}{free}"),
            ("time", f"about {_duration(self.seconds)}"),
            *(("note", note) for note in self.notes),
        ]
        return "\n".join(f"{name:<11} {value}" for name, value in rows)

    @property
    def _adapters(self) -> str:
        by = ", ".join(IN_CORE).replace("_", "-")
        how = f"{self.cores} task matrices merged in their core by {by}; others multiplied out, one matrix at a time"
        return f"{self.adapters} ({how})"


def plan(
    suite: CheckpointSuite,
    layout: Mapping[str, TensorInfo],
    files: int = 1,
    *,
    rule: MatrixRule = _PAPER,
    workers: int,
    folder: Path = Path(),
    notes: Iterable[str] = (),
) -> Plan:
    """Return what merging a suite by TSV-M into ``files`` files of ``layout`` in ``folder`` does and takes.

    The costs are those of the Gram matrix of the short side and its eigenvectors in float32, and of orthogonalising
    the factors of all tasks side by side in float64. InputError without a worker.
    """
    devices.check_workers(workers)
    work = _work(suite, rule)
    written = files * sum(tensor.nbytes for tensor in layout.values())
    read = sum(_held(each) for each in (suite.base, *suite.experts))
    return Plan(
        experts=suite.n_tasks,
        tensors=len(suite.base.layout),
        matrices=work.matrices,
        selection=suite.selection,
        bytes_read=read,
        bytes_written=written,
        flops=work.single + work.double,
        seconds=work.seconds / workers + (read + written) / READ_RATE,
        memory=workers * max((_memory(rule, suite, key, files) for key in suite.selection.merged), default=0),
        free_memory=room.free_memory(),
        free_disk=room.free_disk(folder),
        folder=folder,
        adapters=sum(isinstance(expert, Adapter) for expert in suite.experts),
        cores=work.cores,
        notes=tuple(notes),
    )


def prefixed(value: int, unit: str) -> str:
    """Return a number with three digits and the prefix that suits it.

    >>> prefixed(48_234_567, "B"), prefixed(100, "B")
    ('48.2 MB', '100 B')
    """
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


class _Work(NamedTuple):
    """Task matrices, those of them that are merged in a core, and operations in float32 and in float64."""

    matrices: int
    cores: int
    single: int
    double: int

    @property
    def seconds(self) -> float:
        return self.single / FLOAT32_RATE + self.double / FLOAT64_RATE


def _work(suite: CheckpointSuite, rule: MatrixRule) -> _Work:
    matrices = cores = single = double = 0
    for key in suite.selection.merged:
        parts, m, n = _matrices(rule, key, suite.base.layout[key])
        matrices += parts
        if (rank := _core(suite, key, n)) is not None:
            # Two bases, what is done between them, and the update itself.
            cores += parts if rank else 0
            double += parts * (2 * (m + n) * rank**2 + 2 * 9 * rank**3)
            single += parts * m * n * rank
            continue
        # An eigendecomposition takes about nine times the cube of the side.
        single += parts * _ranks(suite, key).count(None) * (m * n**2 + 9 * n**3)
        double += parts * (2 * (m + n) * n**2 + 2 * 9 * n**3)
    return _Work(matrices, cores, single, double)


def _parts(selection: Selection, matrices: int) -> Iterator[tuple[str, str]]:
    """Yield a row for each part that tensors have, with the rule that gives it to them."""
    yield "merged", f"{len(selection.merged)}, of which {matrices} task matrices"
    if selection.whole:
        yield "copied", f"{len(selection.whole)} of whole numbers or flags, as in the base: {_some(selection.whole)}"
    for pattern in dict.fromkeys(selection.left_out.values()):
        keys = [key for key, found in selection.left_out.items() if found == pattern]
        yield "left out", f"{len(keys)} by `{pattern}`, as in the base: {_some(keys)}"
    if selection.absent:
        yield "absent", f"{len(selection.absent)} that the base lacks, not written: {_some(selection.absent)}"
    for key, other in selection.tied.items():
        yield "tied", f"`{key}` is merged as `{other}`, which it is tied to"


def _some(keys: Iterable[str], limit: int = 3) -> str:
    first, *others = [f"`{key}`" for key in sorted(keys)]
    shown = ", ".join([first, *others[: limit - 1]])
    return f"{shown} and {len(others) + 1 - limit} more" if len(others) >= limit else shown


def _held(checkpoint: Checkpoint) -> int:
    """Return how many bytes the tensors of a checkpoint take, or those of an adapter alone."""
    if isinstance(checkpoint, Adapter):
        return checkpoint.stored_bytes
    return sum(tensor.nbytes for tensor in checkpoint.layout.values())


def _ranks(suite: CheckpointSuite, key: str) -> list[int | None]:
    """Return the rank of what each adapter changes in a tensor, and None for experts that may change all of it."""
    return [expert.rank(key) if isinstance(expert, Adapter) else None for expert in suite.experts]


def _core(suite: CheckpointSuite, key: str, short: int) -> int | None:
    """Return the size of the core in which matrices of that short side are merged, or None where there is none."""
    ranks = [rank for rank in _ranks(suite, key) if rank is not None]
    return sum(ranks) if ranks and len(ranks) == suite.n_tasks and sum(ranks) < short else None


def _matrices(rule: MatrixRule, key: str, tensor: TensorInfo) -> tuple[int, int, int]:
    """Return how many task matrices a tensor holds, and their long and short side."""
    parts = rule.parts(key, tensor.shape)
    if not parts:
        return 0, 0, 0
    rows, columns = tensor.shape[0] // parts, math.prod(tensor.shape[1:])
    return parts, max(rows, columns), min(rows, columns)


def _memory(rule: MatrixRule, suite: CheckpointSuite, key: str, files: int) -> int:
    """Return the bytes that one key needs: base, expert and results, the delta, and the factors of all tasks twice.

    For what is merged in its core, there are the two bases in place of expert and factors.
    """
    tensor, tasks = suite.base.layout[key], suite.n_tasks
    parts, m, n = _matrices(rule, key, tensor)
    delta = 4 * math.prod(tensor.shape)
    if (rank := _core(suite, key, n)) is not None:
        return (1 + files) * tensor.nbytes + delta + parts * 2 * 8 * rank * (m + n)
    kept = max(1, n // max(tasks, 1)) if parts else 0
    # In float32 with their singular values, and in float64 side by side.
    factors = parts * tasks * kept * (4 * (m + n + 1) + 8 * (m + n))
    return (2 + files) * tensor.nbytes + delta + factors


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
