# SPDX-License-Identifier: MIT
"""What a merging method is: a function from a :class:`Layer` to its update, listed by name in ``METHODS``.

To add one, write that function and decorate it with ``method``. One that must see the whole suite before it can merge
a layer, say to find a threshold, is a function from the suite to such a function, and ``suite_method`` decorates it.
The list is complete once ``tsvlib.merging`` is imported.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.linalg import Factors
from tsvlib.precision import check_held, wider
from tsvlib.store import Spectra
from tsvlib.taskvectors import Suite

CPU = torch.device("cpu")


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
    device: torch.device = CPU
    spectra: Spectra | None = None

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
        A GPU takes all of them in one batch, since they are of one shape; on a CPU one at a time is in memory.
        """
        if self.spectra or self.device.type == "cpu":
            decompose = self.spectra.factors if self.spectra else linalg.leading
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


Merge = Callable[[Layer], Tensor]
Binding = Callable[[Suite], Merge]


class Needs(NamedTuple):
    """What a method requires beyond the checkpoints: the columns of Table 1."""

    training: bool = False
    """Gradient steps on coefficients or weights."""
    storage: bool = False
    """More on disk than one model for all tasks."""
    inputs: bool = False
    """Validation images."""
    labels: bool = False
    """Their labels."""


NOTHING = Needs()
VALIDATION = Needs(inputs=True, labels=True)
"""For a coefficient that has to be chosen by accuracy."""


@dataclass(frozen=True)
class Method:
    """A way to merge, what it requires, and the scaling coefficients alpha to choose from on validation images.

    ``bind`` looks at a suite once, if the method has to, and returns what merges its layers one by one.
    """

    name: str
    title: str
    bind: Binding
    alphas: tuple[float, ...]
    needs: Needs

    @property
    def searches_alpha(self) -> bool:
        """Tell whether there is more than one alpha to choose from."""
        return len(self.alphas) > 1


METHODS: dict[str, Method] = {}
THIRTIETHS = tuple(step / 30 for step in range(1, 31))
TENTHS = tuple(step / 10 for step in range(1, 31))


def method(name: str, title: str, alphas: tuple[float, ...], needs: Needs = NOTHING) -> Callable[[Merge], Merge]:
    """Register a function that merges one layer under ``name``."""

    def register(function: Merge) -> Merge:
        METHODS[name] = Method(name, title, lambda suite: function, alphas, needs)
        return function

    return register


def suite_method(
    name: str, title: str, alphas: tuple[float, ...], needs: Needs = NOTHING
) -> Callable[[Binding], Binding]:
    """Register under ``name`` a function that looks at a suite and returns what merges one layer of it."""

    def register(bind: Binding) -> Binding:
        METHODS[name] = Method(name, title, bind, alphas, needs)
        return bind

    return register


def named(name: str) -> Method:
    """Return a method by its name, in which ``-`` may stand for ``_``; InputError for an unknown one."""
    found = METHODS.get(name.replace("-", "_"))
    if found is None:
        raise InputError(f"there is no merging method `{name}`; choose one of {', '.join(METHODS)}.")
    return found
