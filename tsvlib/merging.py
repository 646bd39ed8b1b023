# SPDX-License-Identifier: MIT
"""Merging methods: the changes of many experts in, one update out; merged weights are base + alpha * update.

``METHODS`` lists them by name. To add one, write a function from a :class:`Layer` to its update and decorate it.
Models are never held whole: ``update`` takes one tensor of all experts at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tsvlib import devices, linalg
from tsvlib.errors import InputError
from tsvlib.linalg import Factors
from tsvlib.spectra import Spectra
from tsvlib.taskvectors import MatrixRule, MemorySuite, StateDict, Suite, TaskVector, check_enough

CPU = torch.device("cpu")
PAPER = MatrixRule()


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
        for change in self.suite.changes(self.key):
            mine = change.flatten(1).chunk(self.n_parts)[self.part] if self.is_matrix else change
            if self.n_parts < 2 or mine.any():
                yield mine.to(self.device)

    def factors(self, k: int) -> list[Factors]:
        """Return the k leading singular components of each task matrix that is not zero.

        A GPU takes all of them in one batch, since they are of one shape; on a CPU one at a time is in memory.
        """
        if self.spectra or self.device.type == "cpu":
            decompose = self.spectra.factors if self.spectra else linalg.leading
            return [decompose(change, k) for change in self.changes()]
        changes = list(self.changes())
        if not changes:
            return []
        return [Factors(*parts) for parts in zip(*linalg.leading(torch.stack(changes), k), strict=True)]

    def total(self) -> Tensor:
        """Return the sum of all changes."""
        total = torch.zeros(self.shape, device=self.device)
        for change in self.changes():
            total = total.to(change.dtype).add_(change)
        return total

    def mean(self) -> Tensor:
        """Return the mean over all experts."""
        return self.total() / self.n_tasks


Merge = Callable[[Layer], Tensor]


@dataclass(frozen=True)
class Method:
    """A way to merge, and the scaling coefficients alpha to choose from on validation images."""

    name: str
    title: str
    function: Merge
    alphas: tuple[float, ...]

    @property
    def searches_alpha(self) -> bool:
        """Tell whether there is more than one alpha to choose from."""
        return len(self.alphas) > 1


METHODS: dict[str, Method] = {}
THIRTIETHS = tuple(step / 30 for step in range(1, 31))
TENTHS = tuple(step / 10 for step in range(1, 31))


def method(name: str, title: str, alphas: tuple[float, ...]) -> Callable[[Merge], Merge]:
    """Register a function that merges one layer under ``name``."""

    def register(function: Merge) -> Merge:
        METHODS[name] = Method(name, title, function, alphas)
        return function

    return register


def named(name: str) -> Method:
    """Return a method by its name, in which ``-`` may stand for ``_``; InputError for an unknown one."""
    found = METHODS.get(name.replace("-", "_"))
    if found is None:
        raise InputError(f"there is no merging method `{name}`; choose one of {', '.join(METHODS)}.")
    return found


@method("weight_averaging", title="Weight averaging", alphas=(1.0,))
def weight_averaging(layer: Layer) -> Tensor:
    """Return the mean of the changes."""
    return layer.mean()


@method("task_arithmetic", title="Task arithmetic", alphas=THIRTIETHS)
def task_arithmetic(layer: Layer) -> Tensor:
    """Return the sum of the changes, matrix or not (Ilharco et al.)."""
    return layer.total()


@method("tsv_m", title="TSV-M", alphas=TENTHS)
def tsv_m(layer: Layer) -> Tensor:
    """Return TSV-Merge (Algorithm 1): orthogonalised sums of task matrices, and the mean of everything else.

    As in the paper's code, and unlike Eq. 1-2, the sum is not divided by the number of tasks. A matrix with fewer
    components than tasks, such as the position embedding of a model with few patches, cannot give each task one;
    it is averaged too. (The paper's models have no such matrix.)
    """
    return _recomposed(layer, 1 / layer.n_tasks, linalg.orthogonalise)


@method("tsv_m_eigen", title="TSV-M, eigen form", alphas=TENTHS)
def tsv_m_eigen(layer: Layer) -> Tensor:
    """Return TSV-Merge by whitening (App. D.2.1), which Proposition 4.1 makes the same."""
    return _recomposed(layer, 1 / layer.n_tasks, linalg.whiten)


@method("low_rank", title="Low rank only", alphas=THIRTIETHS)
def low_rank(layer: Layer) -> Tensor:
    """Return the ablation (Tables 4-6) that keeps 1/T of the components of each task and only adds them up."""
    return _recomposed(layer, 1 / layer.n_tasks, lambda vectors: vectors)


@method("interference_reduction", title="Interference reduction only", alphas=TENTHS)
def interference_reduction(layer: Layer) -> Tensor:
    """Return the ablation (Tables 4-6) that orthogonalises all components of all tasks at once.

    Singular vectors then outnumber the dimensions: the closest matrix with orthonormal rows takes the place of
    the one with orthonormal columns.
    """
    return _recomposed(layer, 1.0, linalg.orthogonalise)


def layers(
    suite: Suite, key: str, rule: MatrixRule = PAPER, device: torch.device = CPU, spectra: Spectra | None = None
) -> list[Layer]:
    """Return the layers of one tensor: itself, or the task matrices that it holds."""
    n_parts = rule.parts(key, suite.shapes[key])
    return [Layer(suite, key, part, n_parts, device, spectra) for part in range(max(1, n_parts))]


def update(
    chosen: Method,
    suite: Suite,
    key: str,
    rule: MatrixRule = PAPER,
    device: torch.device = CPU,
    spectra: Spectra | None = None,
) -> Tensor:
    """Return the update of one tensor, on the CPU."""
    parts = [chosen.function(layer) for layer in layers(suite, key, rule, device, spectra)]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return whole.reshape(suite.shapes[key]).cpu()


def merge(
    chosen: Method, task_vectors: Sequence[StateDict], *, workers: int = 1, spectra: Spectra | None = None
) -> TaskVector:
    """Return the whole update of task vectors in memory; InputError when they are fewer than two or unlike."""
    check_enough(len(task_vectors))
    suite = MemorySuite(task_vectors)
    keys = list(suite.shapes)
    found = devices.ordered(lambda key: update(chosen, suite, key, spectra=spectra), keys, workers)
    return TaskVector(zip(keys, found, strict=True))


def tsv_m_parts(task_vectors: Sequence[StateDict], spectra: Spectra | None = None) -> list[TaskVector]:
    """Return what each task adds to the update of TSV-M: the parts add up to ``merge`` with that method.

    That is its kept components with their orthogonalised vectors, and its change over the number of tasks where TSV-M
    averages. InputError when task vectors are fewer than two or unlike.
    """
    check_enough(len(task_vectors))
    suite = MemorySuite(task_vectors)
    parts = [TaskVector() for _ in task_vectors]
    for key in suite.shapes:
        (layer,) = layers(suite, key, spectra=spectra)
        added = iter(_added(layer))
        for part, vector in zip(parts, task_vectors, strict=True):
            part[key] = next(added) if vector[key].any() else torch.zeros_like(vector[key])
    return parts


def _added(layer: Layer) -> list[Tensor]:
    """Return what each task that changed a layer adds to the update of TSV-M."""
    if _is_averaged(layer):
        return [change / layer.n_tasks for change in layer.changes()]
    if not (kept := _kept(layer, 1 / layer.n_tasks)):
        return []
    whole, counts = _together(kept, linalg.orthogonalise), [len(factors.s) for factors in kept]
    blocks = zip(*(torch.split(x, counts) for x in (whole.u.mT, whole.s, whole.vh)), strict=True)
    return [Factors(u.mT, s, vh).product() for u, s, vh in blocks]


def _recomposed(layer: Layer, fraction: float, orthogonalise: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the sum of the components that are kept, their vectors side by side made orthonormal.

    What is no matrix, or cannot give each task one component, is averaged.
    """
    if _is_averaged(layer):
        return layer.mean()
    kept = _kept(layer, fraction)
    return _together(kept, orthogonalise).product() if kept else torch.zeros(layer.shape, device=layer.device)


def _is_averaged(layer: Layer) -> bool:
    return not layer.is_matrix or min(layer.shape) < layer.n_tasks


def _kept(layer: Layer, fraction: float) -> list[Factors]:
    """Return the leading share of the components of each task matrix that is not zero.

    Components that are rounding error are left out: without weight they would add nothing, yet push other tasks'
    directions aside.
    """
    found = layer.factors(linalg.kept_rank(min(layer.shape), fraction))
    return [linalg.truncate(factors, max(1, linalg.numerical_rank(factors))) for factors in found]


def _together(kept: Sequence[Factors], orthogonalise: Callable[[Tensor], Tensor]) -> Factors:
    """Return the components of all tasks side by side, left and right vectors made orthonormal."""
    u = torch.cat([factors.u for factors in kept], dim=1)
    s = torch.cat([factors.s for factors in kept])
    v = torch.cat([factors.vh for factors in kept]).mT
    return Factors(orthogonalise(u), s, orthogonalise(v).mT)
