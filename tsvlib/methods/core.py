# SPDX-License-Identifier: MIT
"""Core space (Panariello et al., NeurIPS 2025): adapters are merged in the small space that all of them share.

Let the changes of a layer be tall_i wide_i. With Q and P orthonormal bases of all tall_i and all wide_iᵀ side by side,
change i is Q core_i Pᵀ, and core_i is no larger than the ranks of all adapters together. A method whose result turns as
its matrices do, f(Q core_i Pᵀ) = Q f(core_i) Pᵀ, needs nothing but the cores, if it counts components as of the whole
matrices. Singular vectors, polar factors, sums and means turn; what looks at single entries does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib import linalg
from tsvlib.adapters import Thin
from tsvlib.layers import Layer, Suite, ThinSuite
from tsvlib.linalg import Factors
from tsvlib.methods.base import Merge


@dataclass(frozen=True)
class InCore:
    """What merges a layer in its core, where all changes are thin and the core is small, and as it is elsewhere."""

    function: Merge

    def __call__(self, layer: Layer) -> Tensor:
        """Return the update of a layer."""
        found = self.thin(layer)
        return self.function(layer) if found is None else found.product().reshape(layer.shape)

    def thin(self, layer: Layer) -> Thin | None:
        """Return the update of a layer, as a matrix with a row per output; None where there is no small core."""
        if (core := core_of(layer)) is None:
            return None
        tall = core.left @ self.function(core.inner).double()
        return Thin(tall.to(layer.suite.dtype), core.right.mT.to(layer.suite.dtype))


class Core(NamedTuple):
    """What is between the orthonormal columns of ``left`` and ``right``, as a layer of its own, in float64."""

    left: Float64[Tensor, "rows height"]
    inner: Layer
    right: Float64[Tensor, "columns width"]


@dataclass(frozen=True)
class Cored:
    """The binding of a method that merges layer by layer, and whose result turns as its matrices do."""

    function: Merge

    def __call__(self, _: Suite) -> InCore:
        """Return what merges the layers of a suite, of any one."""
        return InCore(self.function)


def core_of(layer: Layer) -> Core | None:
    """Return the core of a layer; None where a change is no thin product, or the core would not be smaller."""
    if not isinstance(layer.suite, ThinSuite) or len(layer.shape) < 2 or not layer.suite.is_thin(layer.key):
        return None
    found = [(number, form) for number, form in layer.forms() if isinstance(form, Thin)]
    ranks = [form.rank for _, form in found]
    if not 0 < sum(ranks) < min(layer.shape[0], torch.Size(layer.shape[1:]).numel()):
        return None
    left, tall = torch.linalg.qr(torch.cat([form.tall.double() for _, form in found], dim=1))
    right, wide = torch.linalg.qr(torch.cat([form.wide.double() for _, form in found]).mT)
    parts = zip(tall.split(ranks, dim=1), wide.split(ranks, dim=1), strict=True)
    cores = [(number, Thin(mine, other.mT)) for (number, _), (mine, other) in zip(found, parts, strict=True)]
    suite = _Cores(layer.n_tasks, {layer.key: (len(tall), len(wide))}, {layer.key: cores})
    return Core(left, _Inner(suite, layer.key, 0, int(layer.is_matrix), layer.computing, layer), right)


@dataclass(frozen=True)
class _Cores:
    """The cores of one layer, each after the number of its expert, as a suite."""

    n_tasks: int
    shapes: Mapping[str, tuple[int, ...]]
    cores: Mapping[str, Sequence[tuple[int, Thin]]]
    dtype: torch.dtype = torch.float64

    def changes(self, key: str) -> Iterator[tuple[int, Tensor]]:
        """Yield the cores that are not zero, multiplied out, after the number of the expert."""
        every = ((number, core.product()) for number, core in self.cores[key])
        return ((number, core) for number, core in every if core.any())

    def forms(self, key: str) -> Iterator[tuple[int, Tensor | Thin]]:
        """Yield the cores as thin products."""
        return iter(self.cores[key])

    def is_thin(self, key: str) -> bool:
        """Tell that all of them are thin."""
        return key in self.cores


@dataclass(frozen=True)
class _Inner(Layer):
    """A core as a layer, which counts components and their rounding error as the whole matrices would."""

    outer: Layer | None = None

    @property
    def rank(self) -> int:
        """Return how many singular components the whole matrices have."""
        assert self.outer is not None
        return self.outer.rank

    def factors(self, k: int) -> list[Factors]:
        """Return the leading components without those that are rounding error of the whole matrices, but for one."""
        assert self.outer is not None
        least = max(self.outer.shape) * torch.finfo(self.outer.suite.dtype).eps
        found = super().factors(k)
        counts = [int((each.s > least * each.s[0]).sum()) for each in found]
        return [linalg.truncate(each, max(1, count)) for each, count in zip(found, counts, strict=True)]
