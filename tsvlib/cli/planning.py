# SPDX-License-Identifier: MIT
"""What merging checkpoints will take, known from their headers before any work begins."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tsvlib import devices
from tsvlib.checkpoints import Checkpoint, TensorInfo
from tsvlib.errors import InputError
from tsvlib.taskvectors import MatrixRule

# Rates of one worker on an ordinary CPU core and disk: floating-point operations and bytes per second.
FLOAT32_RATE = 60e9
FLOAT64_RATE = 30e9
READ_RATE = 1e9
_PAPER = MatrixRule()
_REMEDY = "use checkpoints of one architecture"


@dataclass(frozen=True)
class Plan:
    """The size of a merge: counts, bytes, floating-point operations, seconds and the highest memory in bytes.

    ``matrices`` counts task matrices, three for a fused projection that is split; ``untouched`` counts tensors of
    whole numbers, which are copied.
    """

    experts: int
    tensors: int
    matrices: int
    untouched: int
    bytes_read: int
    bytes_written: int
    flops: int
    seconds: float
    memory: int

    @property
    def brief(self) -> str:
        """Return the estimates as one line."""
        sizes = f"{prefixed(self.bytes_read, 'B')} to read, about {prefixed(self.memory, 'B')} of memory"
        return f"{self.experts} experts, {self.matrices} task matrices: {sizes}, about {_duration(self.seconds)}"

    def __str__(self) -> str:
        rows = {
            "experts": f"{self.experts}",
            "tensors": f"{self.tensors} ({self.matrices} task matrices; {self.untouched} of whole numbers, copied)",
            "read": prefixed(self.bytes_read, "B"),
            "written": prefixed(self.bytes_written, "B"),
            "arithmetic": prefixed(self.flops, "flop"),
            "memory": f"about {prefixed(self.memory, 'B')}",
            "time": f"about {_duration(self.seconds)}",
        }
        return "\n".join(f"{name:<11} {value}" for name, value in rows.items())


def check(base: Checkpoint, experts: Sequence[Checkpoint]) -> None:
    """Raise InputError, naming file and key, unless all experts have the keys and shapes of the base.

    Floating-point types may differ, others not. Reads nothing but headers, so tensors of whole numbers, which must be
    equal in all, pass whatever their values.
    """
    for expert in experts:
        for owner, other in ((expert, base), (base, expert)):
            if lacking := sorted(other.layout.keys() - owner.layout.keys()):
                more = f" and {len(lacking) - 1} more keys" if len(lacking) > 1 else ""
                raise InputError(f"{owner.path}: the checkpoint lacks `{lacking[0]}`{more} of {other.path}; {_REMEDY}.")
        for key, start in base.layout.items():
            end = expert.layout[key]
            if end.shape != start.shape:
                trouble = f"has shape {end.shape}, but {start.shape} in {base.path}; {_REMEDY}"
                raise InputError(f"{expert.path}: `{key}` {trouble}.")
            floating = end.dtype.is_floating_point and start.dtype.is_floating_point
            if end.dtype != start.dtype and not floating:
                trouble = f"is of type {end.dtype}, but {start.dtype} in {base.path}; convert one of the two"
                raise InputError(f"{expert.path}: `{key}` {trouble}.")


def plan(base: Checkpoint, experts: Sequence[Checkpoint], *, rule: MatrixRule = _PAPER, workers: int) -> Plan:
    """Estimate what merging checkpoints, which fit each other as ``check`` says, takes by TSV-M.

    The costs are those of the Gram matrix of the short side and its eigenvectors in float32, and of orthogonalising
    the factors of all tasks side by side in float64. InputError without a worker.
    """
    devices.check_workers(workers)
    single, double, matrices = 0, 0, 0
    for key, tensor in base.layout.items():
        parts, m, n = _matrices(rule, key, tensor)
        matrices += parts
        # An eigendecomposition takes about nine times the cube of the side.
        single += parts * len(experts) * (m * n**2 + 9 * n**3)
        double += parts * (2 * (m + n) * n**2 + 2 * 9 * n**3)
    written = sum(tensor.nbytes for tensor in base.layout.values())
    read = written * (1 + len(experts))
    return Plan(
        experts=len(experts),
        tensors=len(base.layout),
        matrices=matrices,
        untouched=sum(not tensor.dtype.is_floating_point for tensor in base.layout.values()),
        bytes_read=read,
        bytes_written=written,
        flops=single + double,
        seconds=(single / FLOAT32_RATE + double / FLOAT64_RATE) / workers + (read + written) / READ_RATE,
        memory=workers * max((_memory(rule, len(experts), *item) for item in base.layout.items()), default=0),
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


def _matrices(rule: MatrixRule, key: str, tensor: TensorInfo) -> tuple[int, int, int]:
    """Return how many task matrices a tensor holds, and their long and short side."""
    parts = rule.parts(key, tensor.shape) if tensor.dtype.is_floating_point else 0
    if not parts:
        return 0, 0, 0
    rows, columns = tensor.shape[0] // parts, math.prod(tensor.shape[1:])
    return parts, max(rows, columns), min(rows, columns)


def _memory(rule: MatrixRule, tasks: int, key: str, tensor: TensorInfo) -> int:
    """Return the bytes that one key needs: base, expert and result, the delta, and the factors of all tasks twice."""
    parts, m, n = _matrices(rule, key, tensor)
    kept = max(1, n // max(tasks, 1)) if parts else 0
    # In float32 with their singular values, and in float64 side by side.
    factors = parts * tasks * kept * (4 * (m + n + 1) + 8 * (m + n))
    delta = 4 * math.prod(tensor.shape) if tensor.dtype.is_floating_point else 0
    return 3 * tensor.nbytes + delta + factors


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
