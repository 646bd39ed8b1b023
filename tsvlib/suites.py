# SPDX-License-Identifier: MIT
"""Suites of experts: task vectors in memory, or checkpoints and adapters on disk."""

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tsvlib.adapters import Adapter, Thin
from tsvlib.checkpoints import Checkpoint
from tsvlib.errors import InputError
from tsvlib.precision import is_finite, plain, wider
from tsvlib.selection import is_whole, select
from tsvlib.taskvectors import StateDict, beyond, check_alike, check_finite, difference


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
        for number, form in self.forms(key):
            if isinstance(form, Tensor):
                yield number, form
                continue
            change = form.product().reshape(self.shapes[key])
            if not is_finite(change):
                raise InputError(beyond(key, self.experts[number].owner, change.dtype))
            if _has_changed(change):
                yield number, change

    def is_thin(self, key: str) -> bool:
        """Tell whether all experts are adapters that change a tensor by low rank or not at all."""
        return all(isinstance(expert, Adapter) and expert.is_thin(key) for expert in self.experts)

    def forms(self, key: str) -> Iterator[tuple[int, Tensor | Thin]]:
        """Yield what ``changes`` does, and of adapters what they add by low rank, which may be zero."""
        if not any(key in own for own in self.selection.own):
            return
        start: Tensor | None = None
        every = zip(self.experts, self.selection.own, self.weights, strict=True)
        for number, (expert, own, weight) in enumerate(every):
            if not weight:
                continue
            if isinstance(expert, Adapter) and expert.is_thin(key):
                if (added := expert.change(key, weight)) is not None:
                    yield number, added
                continue
            start = self.base.read(key) if start is None else start
            if (change := self._change(key, start, expert, own[key], weight)) is not None:
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
