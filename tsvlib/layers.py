# SPDX-License-Identifier: MIT
"""What a merging method sees: the changes of several experts, one tensor or task matrix of all of them at a time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tsvlib import linalg
from tsvlib.adapters import Thin, thin
from tsvlib.computing import ORDINARY, Computing
from tsvlib.linalg import Factors
from tsvlib.precision import check_held, wider


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


@runtime_checkable
class ThinSuite(Suite, Protocol):
    """A suite of which some changes are known as products of thin matrices, as those of adapters are."""

    def forms(self, key: str) -> Iterator[tuple[int, Tensor | Thin]]:
        """Yield what ``changes`` does, with thin changes, which may be zero, as they are."""

    def is_thin(self, key: str) -> bool:
        """Tell whether all changes of a tensor are thin."""


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

    @property
    def rank(self) -> int:
        """Return how many singular components a task matrix has: its short side."""
        return min(self.shape)

    def changes(self) -> Iterator[Tensor]:
        """Yield the change of each expert that changed this layer, on the device of the computation."""
        return (change for _, change in self.numbered_changes())

    def numbered_changes(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the same with the number of the expert, from 0, before it."""
        for expert, change in self.suite.changes(self.key):
            if (mine := self._own(change)) is not None:
                yield expert, mine

    def forms(self) -> Iterator[tuple[int, Tensor | Thin]]:
        """Yield the same, with changes that are known as thin products as they are, even if they are zero."""
        if not isinstance(self.suite, ThinSuite):
            yield from self.numbered_changes()
            return
        for expert, form in self.suite.forms(self.key):
            if isinstance(form, Thin):
                yield expert, (form.part(self.part, self.n_parts) if self.is_matrix else form).to(self.device)
            elif (mine := self._own(form)) is not None:
                yield expert, mine

    def factors(self, k: int) -> list[Factors]:
        """Return the k leading singular components of each task matrix that is not zero.

        Of a thin product there are no more than its rank. InputError where singular values are beyond all numbers.
        A GPU without a store takes all others in one batch, since they are of one shape, which may change its last
        bits; on a CPU one at a time is in memory.
        """
        spectra = self.computing.spectra
        if spectra or self.device.type == "cpu":
            decompose = spectra.factors if spectra else linalg.leading
            found = [thin.leading(x, k) if isinstance(x, Thin) else decompose(x, k) for _, x in self.forms()]
        else:
            found = self._at_once(k)
        for factors in found:
            check_held(self.key, factors.s)
        return [factors for factors in found if factors.s[0] > 0]

    def total(self) -> Tensor:
        """Return the sum of all changes."""
        total = torch.zeros(self.shape, device=self.device)
        for change in self.changes():
            total = total.to(wider(total.dtype, change.dtype)).add_(change)
        return total

    def mean(self) -> Tensor:
        """Return the mean over all experts."""
        return self.total() / self.n_tasks

    def _own(self, change: Tensor) -> Tensor | None:
        """Return the part of a change that is this layer, or None where it is zero."""
        mine = change.flatten(1).chunk(self.n_parts)[self.part] if self.is_matrix else change
        return mine.to(self.device) if self.n_parts < 2 or mine.any() else None

    def _at_once(self, k: int) -> list[Factors]:
        forms = [form for _, form in self.forms()]
        changes = [form for form in forms if isinstance(form, Tensor)]
        stacked = linalg.leading(torch.stack(changes), k) if changes else ()
        others = (Factors(*parts) for parts in zip(*stacked, strict=True))
        return [thin.leading(form, k) if isinstance(form, Thin) else next(others) for form in forms]


def layers_of(suite: Suite, key: str, computing: Computing = ORDINARY) -> list[Layer]:
    """Return the layers of one tensor: itself, or the task matrices that it holds."""
    n_parts = computing.rule.parts(key, suite.shapes[key])
    return [Layer(suite, key, part, n_parts, computing) for part in range(max(1, n_parts))]


def task_matrices(suite: Suite, keys: Iterable[str], computing: Computing = ORDINARY) -> list[Layer]:
    """Return the task matrices of the tensors ``keys``, in their order."""
    every = (layers_of(suite, key, computing) for key in keys)
    return [layer for found in every for layer in found if layer.is_matrix]
