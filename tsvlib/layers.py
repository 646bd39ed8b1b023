# SPDX-License-Identifier: MIT
"""What a merging method sees: the changes of several experts, one tensor or task matrix of all of them at a time."""

import copy
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tsvlib import devices, linalg
from tsvlib.checkpoints import Checkpoint
from tsvlib.errors import InputError
from tsvlib.linalg import Factors
from tsvlib.precision import check_held, plain, wider
from tsvlib.selection import is_whole, select
from tsvlib.taskvectors import MatrixRule, StateDict, check_alike, check_finite, difference

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
    """A suite of task vectors in memory, of any floating-point type; whole numbers in them are no change.

    InputError when they are unlike or not finite, or hold nothing but whole numbers.
    """

    def __init__(self, task_vectors: Sequence[StateDict]) -> None:
        for number, vector in enumerate(task_vectors, start=1):
            check_alike(task_vectors[0], vector, "task vector 1", f"task vector {number}")
            for key, tensor in vector.items():
                if _has_changed(tensor):
                    check_finite(key, tensor, f"task vector {number}")
            if vector and all(is_whole(tensor.dtype) for tensor in vector.values()):
                trouble = f"task vector {number} holds whole numbers alone, which are not merged"
                raise InputError(f"{trouble}; convert it to floating-point numbers.")
        self.task_vectors = task_vectors
        self.n_tasks = len(task_vectors)
        self.shapes = {key: tuple(tensor.shape) for key, tensor in task_vectors[0].items()}
        self.dtype = wider(*{tensor.dtype for vector in task_vectors for tensor in vector.values()})

    def changes(self, key: str) -> Iterator[tuple[int, Tensor]]:
        """Yield the tensors that are not zero, after the number of the expert."""
        every = enumerate(self.task_vectors)
        return ((expert, plain(vector[key])) for expert, vector in every if _has_changed(vector[key]))


class CheckpointSuite:
    """A suite of experts on disk, of which no more than one tensor of one expert and of the base is read at a time.

    ``selection`` says what of them is merged; what ``leave_out`` names is not. Changes of each expert are taken times
    its weight, all of which are 1 by default. InputError for experts that do not fit the base, as far as headers tell,
    and for weights that are not one finite number for each.
    """

    def __init__(
        self,
        base: Checkpoint,
        experts: Sequence[Checkpoint],
        *,
        leave_out: Sequence[str] = (),
        weights: Sequence[float] = (),
    ) -> None:
        self.base, self.experts = base, tuple(experts)
        self.selection = select(base, experts, leave_out)
        self.weights = _checked(weights, len(experts))
        self.n_tasks = len(experts)
        self.shapes = {key: info.shape for key, info in base.layout.items()}
        dtypes = {base.layout[key].dtype for key in self.selection.merged}
        for expert, own in zip(experts, self.selection.own, strict=True):
            dtypes |= {expert.layout[name].dtype for name in own.values()}
        self.dtype = wider(*dtypes)

    def alone(self, number: int) -> "CheckpointSuite":
        """Return one of the experts, counted from 0, as a suite."""
        one = copy.copy(self)
        one.experts, one.weights, one.n_tasks = self.experts[number : number + 1], self.weights[number : number + 1], 1
        one.selection = replace(self.selection, own=self.selection.own[number : number + 1])
        return one

    def changes(self, key: str) -> Iterator[tuple[int, Tensor]]:
        """Yield number and expert minus base, in float32 or float64, for experts that differ.

        InputError for a change to or from NaN or Inf.
        """
        if not any(key in own for own in self.selection.own):
            return
        start = self.base.read(key)
        every = zip(self.experts, self.selection.own, self.weights, strict=True)
        for number, (expert, own, weight) in enumerate(every):
            if weight and (change := self._change(key, start, expert, own[key], weight)) is not None:
                yield number, change

    def check(self, unsound: Mapping[Checkpoint, Collection[str]]) -> None:
        """Raise InputError where a tensor that holds NaN or Inf, named by its own checkpoint, is to be merged.

        What nobody changed is not, whatever it holds.
        """
        doubtful = set(unsound.get(self.base, ()))
        for expert, own in zip(self.experts, self.selection.own, strict=True):
            doubtful.update(key for key, name in own.items() if name in unsound.get(expert, ()))
        for key in sorted(doubtful):
            for _ in self.changes(key):
                pass

    def _change(self, key: str, start: Tensor, expert: Checkpoint, name: str, weight: float) -> Tensor | None:
        """Return what an expert changed in one tensor, times its weight, or nothing where it changed nothing."""
        end = expert.read(name)
        if not end.numel() or (start.dtype == end.dtype and torch.equal(start, end)):
            return None
        dtype = wider(start.dtype, end.dtype)
        # In the memory of what was read, because fresh memory takes as long as the subtraction.
        change = end.to(dtype).sub_(start.to(dtype))
        # One pass finds what changed nothing and, since NaN and Inf survive subtraction, what is not finite.
        low, high = (extreme.item() for extreme in torch.aminmax(change))
        if not (math.isfinite(low) and math.isfinite(high)):
            # Tells what is wrong, or that NaN and Inf are where they were.
            difference(key, start, expert.read(name), self.base.owner, expert.owner)
            return None
        if low == 0 and high == 0:
            return None
        return change if weight == 1 else change.mul_(weight)


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
    return not is_whole(tensor.dtype) and bool(tensor.flatten()[:1].any() or tensor.any())


def _checked(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """Return a weight for each expert; InputError unless there is one finite number for each, or none at all."""
    if weights and len(weights) != count:
        raise InputError(f"there are {len(weights)} weights and {count} experts; give each expert one (--weight).")
    if wrong := [weight for weight in weights if not math.isfinite(weight)]:
        raise InputError(f"a weight is {wrong[0]}; choose a finite number.")
    return tuple(map(float, weights)) or (1.0,) * count
