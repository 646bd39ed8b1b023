# SPDX-License-Identifier: MIT
"""What a merging method sees: the changes of several experts, one tensor or task matrix of all of them at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tsvlib import devices, linalg
from tsvlib.checkpoints import Checkpoint
from tsvlib.errors import InputError
from tsvlib.linalg import Factors
from tsvlib.precision import check_held, plain, wider
from tsvlib.taskvectors import MatrixRule, StateDict, beyond, check_alike, check_finite

CPU = torch.device("cpu")
PAPER = MatrixRule()


@runtime_checkable
class Suite(Protocol):
    """The task vectors of several experts, one tensor of all of them at a time."""

    @property
    def n_tasks(self) -> int:
        """Return the number of experts."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of every tensor by its name."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the widest type of what experts changed: float64 if some of it is, else float32."""

    def changes(self, key: str) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of each expert, from 0, and what it changed in one tensor, in float32 or float64.

        Experts that left the tensor as it was are left out.
        """


class MemorySuite:
    """A suite of task vectors in memory, of any floating-point type; InputError when they are unlike or not finite."""

    def __init__(self, task_vectors: Sequence[StateDict]) -> None:
        for number, vector in enumerate(task_vectors, start=1):
            check_alike(task_vectors[0], vector, "task vector 1", f"task vector {number}")
            for key, tensor in vector.items():
                if _has_changed(tensor):
                    check_finite(key, tensor, f"task vector {number}")
        self.task_vectors = task_vectors
        self.n_tasks = len(task_vectors)
        self.shapes = {key: tuple(tensor.shape) for key, tensor in task_vectors[0].items()}
        self.dtype = wider(*(tensor.dtype for vector in task_vectors for tensor in vector.values()))

    def changes(self, key: str) -> Iterator[tuple[int, Tensor]]:
        """Yield the tensors that are not zero, after the number of the expert."""
        every = enumerate(self.task_vectors)
        return ((expert, plain(vector[key])) for expert, vector in every if _has_changed(vector[key]))


class CheckpointSuite:
    """A suite of experts on disk, of which no more than one tensor of one expert and of the base is read at a time."""

    def __init__(self, base: Checkpoint, experts: Sequence[Checkpoint]) -> None:
        self.base, self.experts = base, experts
        self.n_tasks = len(experts)
        self.shapes = {key: info.shape for key, info in base.layout.items()}
        self.dtype = wider(*(info.dtype for each in (base, *experts) for info in each.layout.values()))

    def changes(self, key: str) -> Iterator[tuple[int, Tensor]]:
        """Yield number and expert minus base, in float32 or float64, for experts that differ.

        InputError for what cannot be subtracted.
        """
        start = self.base.read(key)
        for number, expert in enumerate(self.experts):
            end = expert.read(key)
            if start.dtype == end.dtype and torch.equal(start, end):
                continue
            if not start.is_floating_point():
                check_finite(key, end, str(expert.path))
            dtype = wider(start.dtype, end.dtype)
            # In the memory of what was read, because fresh memory takes as long as the subtraction.
            change = end.to(dtype).sub_(start.to(dtype))
            # One pass finds what changed nothing and, since NaN and Inf survive subtraction, what is not finite.
            low, high = torch.aminmax(change)
            if not (low.isfinite() and high.isfinite()):
                for owner in (self.base, expert):
                    check_finite(key, owner.read(key), str(owner.path))
                raise InputError(beyond(key, str(expert.path), dtype))
            if low != 0 or high != 0:
                yield number, change


@runtime_checkable
class Decompositions(Protocol):
    """What decomposes task matrices, such as the store ``tsvlib.store.Spectra``, which does so once for all."""

    def factors(self, delta: Tensor, k: int) -> Factors:
        """Return the k leading singular components of a matrix, or all of them when there are fewer."""


@dataclass(frozen=True)
class Computing:
    """How to look at tensors and compute with them: what counts as a matrix, on which device, with which store."""

    rule: MatrixRule = PAPER
    device: torch.device = CPU
    spectra: Decompositions | None = None

    def __post_init__(self) -> None:
        """Make the device ready for threads."""
        devices.prepare(self.device)


ORDINARY = Computing()
"""As the paper's code does it, on the CPU."""


@dataclass(frozen=True)
class Layer:
    """One tensor as the experts of a suite changed it, or the part of one that is a task matrix.

    A task matrix has two dimensions here, whatever the tensor has. Changes are read each time that they are asked
    for, so that a method decides what is held in memory.
    """

    suite: Suite
    key: str
    part: int = 0
    n_parts: int = 0
    computing: Computing = ORDINARY

    @property
    def device(self) -> torch.device:
        """Return where this layer is worked on."""
        return self.computing.device

    @property
    def n_tasks(self) -> int:
        """Return the number of experts, including those that did not change this layer."""
        return self.suite.n_tasks

    @property
    def is_matrix(self) -> bool:
        """Tell whether the layer is a task matrix."""
        return self.n_parts > 0

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one expert's change."""
        whole = self.suite.shapes[self.key]
        if not self.is_matrix:
            return whole
        columns = torch.Size(whole[1:]).numel()
        return whole[0] // self.n_parts, columns

    def changes(self) -> Iterator[Tensor]:
        """Yield the change of each expert that changed this layer, on the device of the computation."""
        return (change for _, change in self.numbered_changes())

    def numbered_changes(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the same with the number of the expert, from 0, before it."""
        for expert, change in self.suite.changes(self.key):
            mine = change.flatten(1).chunk(self.n_parts)[self.part] if self.is_matrix else change
            if self.n_parts < 2 or mine.any():
                yield expert, mine.to(self.device)

    def factors(self, k: int) -> list[Factors]:
        """Return the k leading singular components of each task matrix that is not zero.

        InputError where singular values are beyond all numbers.
        A GPU without a store takes all of them in one batch, since they are of one shape, which may change its last
        bits; on a CPU one at a time is in memory.
        """
        spectra = self.computing.spectra
        if spectra or self.device.type == "cpu":
            decompose = spectra.factors if spectra else linalg.leading
            found = [decompose(change, k) for change in self.changes()]
        elif changes := list(self.changes()):
            found = [Factors(*parts) for parts in zip(*linalg.leading(torch.stack(changes), k), strict=True)]
        else:
            found = []
        for factors in found:
            check_held(self.key, factors.s)
        return found

    def total(self) -> Tensor:
        """Return the sum of all changes."""
        total = torch.zeros(self.shape, device=self.device)
        for change in self.changes():
            total = total.to(wider(total.dtype, change.dtype)).add_(change)
        return total

    def mean(self) -> Tensor:
        """Return the mean over all experts."""
        return self.total() / self.n_tasks


def layers_of(suite: Suite, key: str, computing: Computing = ORDINARY) -> list[Layer]:
    """Return the layers of one tensor: itself, or the task matrices that it holds."""
    n_parts = computing.rule.parts(key, suite.shapes[key])
    return [Layer(suite, key, part, n_parts, computing) for part in range(max(1, n_parts))]


def task_matrices(suite: Suite, keys: Iterable[str], computing: Computing = ORDINARY) -> list[Layer]:
    """Return the task matrices of the tensors ``keys``, in their order."""
    every = (layers_of(suite, key, computing) for key in keys)
    return [layer for found in every for layer in found if layer.is_matrix]


def _has_changed(tensor: Tensor) -> bool:
    # The first value nearly always has, which spares a look at the others.
    return bool(tensor.flatten()[:1].any() or tensor.any())
