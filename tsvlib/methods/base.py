# SPDX-License-Identifier: MIT
"""What a merging method is, beside its function: a name, what it requires, and the alphas to choose from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from tsvlib.layers import Layer, Suite

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
    needs: Needs = NOTHING

    @property
    def searches_alpha(self) -> bool:
        """Tell whether there is more than one alpha to choose from."""
        return len(self.alphas) > 1


THIRTIETHS = tuple(step / 30 for step in range(1, 31))
TENTHS = tuple(step / 10 for step in range(1, 31))


def layerwise(function: Merge) -> Binding:
    """Return the binding of a method that merges each layer without looking at the others."""
    return lambda suite: function
