# SPDX-License-Identifier: MIT
"""What a way to merge is, beside its function: a name, a kind, what it requires, and the alphas to choose from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeVar

from torch import Tensor

from tsvlib.computing import Computing
from tsvlib.layers import Layer, Suite
from tsvlib.methods.statistics import Statistics
from tsvlib.taskvectors import MatrixRule, TaskVector

Merge = Callable[[Layer], Tensor]
Binding = Callable[[Suite], Merge]
Follow = Callable[[Suite, Merge], Merge]
"""From a suite and what merges its layers to what merges and then changes them."""

Kind = Literal["update", "measured", "experts", "process"]
"""One model for all tasks, one by what was measured on inputs, a model for each task, or a change of any update."""

Quantity = Literal["fisher", "gram", "inputs", "coefficients"]
"""What is measured on an expert: its Fisher information, Gram matrices of its layers' inputs, these themselves, or how
much of it is to be merged."""

Found = TypeVar("Found")


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

    def beside(self, other: "Needs") -> "Needs":
        """Return what both require together.

        >>> Needs(inputs=True).beside(Needs(storage=True))
        Needs(training=False, storage=True, inputs=True, labels=False)
        """
        return Needs(*(mine or theirs for mine, theirs in zip(self, other, strict=True)))

    def without(self, other: "Needs") -> "Needs":
        """Return what the first requires and the second does not.

        >>> Needs(training=True, inputs=True, labels=True).without(Needs(inputs=True, labels=True))
        Needs(training=True, storage=False, inputs=False, labels=False)
        """
        return Needs(*(mine and not theirs for mine, theirs in zip(self, other, strict=True)))


NOTHING = Needs()
INPUTS = Needs(inputs=True)
"""For statistics that no label enters."""

ADAPTATION = Needs(training=True, inputs=True)
"""For coefficients that are learnt from inputs without labels."""

VALIDATION = Needs(inputs=True, labels=True)
"""For a coefficient that has to be chosen by accuracy."""


@dataclass(frozen=True)
class Process:
    """A change of any update, what it requires, and the alphas to choose from, empty for those of what it follows."""

    kind: ClassVar[Kind] = "process"

    name: str
    title: str
    follow: Follow
    alphas: tuple[float, ...] = ()
    needs: Needs = NOTHING


@dataclass(frozen=True)
class Method:
    """A way to merge, what it requires, and the scaling coefficients alpha to choose from on validation images.

    ``bind`` looks at a suite once, if the method has to, and returns what merges its layers one by one. A method
    that takes statistics is made of its row, which is ``Measured``, when there are some.
    """

    kind: ClassVar[Kind] = "update"

    name: str
    title: str
    bind: Binding
    alphas: tuple[float, ...]
    needs: Needs = NOTHING

    @property
    def searches_alpha(self) -> bool:
        """Tell whether there is more than one alpha to choose from."""
        return len(self.alphas) > 1

    def then(self, process: Process) -> "Method":
        """Return this method followed by a process; where that has one alpha, nothing has to be chosen any more."""
        settled = self.searches_alpha and len(process.alphas) == 1
        mine = self.needs.without(VALIDATION) if settled else self.needs
        return replace(
            self,
            name=f"{self.name}+{process.name}",
            title=f"{self.title} + {process.title}",
            bind=lambda suite: process.follow(suite, self.bind(suite)),
            alphas=process.alphas or self.alphas,
            needs=mine.beside(process.needs),
        )


@dataclass(frozen=True)
class Measured:
    """A way to merge by what was measured on each expert, which makes a method of it, and what it requires."""

    kind: ClassVar[Kind] = "measured"

    name: str
    title: str
    quantity: Quantity
    bind: Callable[[Sequence[Statistics]], Binding]
    needs: Needs = INPUTS

    def by(self, statistics: Sequence[Statistics]) -> Method:
        """Return the method by the statistics of each expert, in the order of a suite; alpha is 1."""
        return Method(self.name, self.title, self.bind(statistics), (1.0,), self.needs)


class Experts(Protocol):
    """Models for single tasks, made from what they share and what each has of its own."""

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes the values take."""

    def expert(self, name: str) -> TaskVector:
        """Return what stands for the task vector of an expert."""


@dataclass(frozen=True)
class PerTask:
    """A way to keep a model for each task in little more than one, and what it requires; alpha is 1."""

    kind: ClassVar[Kind] = "experts"

    name: str
    title: str
    pack: Callable[[Suite, Sequence[str]], Experts]
    needs: Needs = NOTHING


Row = Method | Measured | PerTask | Process
THIRTIETHS = tuple(step / 30 for step in range(1, 31))
TENTHS = tuple(step / 10 for step in range(1, 31))


def layerwise(function: Merge) -> Binding:
    """Return the binding of a method that merges each layer without looking at the others."""
    return lambda suite: function


def once(compute: Callable[[Computing], Found]) -> Callable[[Computing], Found]:
    """Return what computes something about a whole suite when it is first asked for, once for each matrix rule.

    A suite is bound before it is known how its layers are to be computed. Workers that ask at the same time wait.
    """
    found: dict[MatrixRule, Found] = {}
    lock = Lock()

    def of(computing: Computing) -> Found:
        with lock:
            if computing.rule not in found:
                found[computing.rule] = compute(computing)
            return found[computing.rule]

    return of
