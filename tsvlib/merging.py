# SPDX-License-Identifier: MIT
"""Merging methods: many task vectors in, one update out; merged weights are ``apply(base, update, alpha)``.

``METHODS`` lists them by name. To add one, write a function from task vectors to an update and decorate it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict, check_alike, is_task_matrix

Merge = Callable[[Sequence[StateDict]], dict[str, Tensor]]


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


def method(name: str, title: str, alphas: tuple[float, ...]) -> Callable[[Merge], Merge]:
    """Register a merging function under ``name``; it then refuses unlike task vectors and fewer than two."""

    def register(function: Merge) -> Merge:
        @wraps(function)
        def checked(task_vectors: Sequence[StateDict]) -> dict[str, Tensor]:
            _check(task_vectors)
            return function(task_vectors)

        METHODS[name] = Method(name, title, checked, alphas)
        return checked

    return register


def alpha_grid(name: str) -> tuple[float, ...]:
    """Return the ascending alphas of a method, as in the paper's code; InputError for an unknown method."""
    if name not in METHODS:
        raise InputError(f"there is no merging method `{name}`; choose one of {', '.join(METHODS)}.")
    return METHODS[name].alphas


@method("weight_averaging", title="Weight averaging", alphas=(1.0,))
def weight_averaging(task_vectors: Sequence[StateDict]) -> dict[str, Tensor]:
    """Return the mean of the task vectors."""
    return {key: _stacked(task_vectors, key).mean(0) for key in task_vectors[0]}


@method("task_arithmetic", title="Task arithmetic", alphas=tuple(step / 30 for step in range(1, 31)))
def task_arithmetic(task_vectors: Sequence[StateDict]) -> dict[str, Tensor]:
    """Return the sum of the task vectors, over all parameters."""
    return {key: _stacked(task_vectors, key).sum(0) for key in task_vectors[0]}


@method("tsv_m", title="TSV-M", alphas=tuple(step / 10 for step in range(1, 31)))
def tsv_m(task_vectors: Sequence[StateDict]) -> dict[str, Tensor]:
    """Return TSV-Merge (Algorithm 1): orthogonalised sums of task matrices, and the mean of everything else.

    As in the paper's code, and unlike Eq. 1-2, the sum is not divided by the number of tasks. A matrix with fewer
    components than tasks, such as the position embedding of a model with few patches, cannot give each task one;
    it is averaged too. (The paper's models have no such matrix.)
    """
    n_tasks = len(task_vectors)
    return {
        key: _orthogonalised_sum(_stacked(task_vectors, key))
        if is_task_matrix(key, tensor) and min(tensor.shape) >= n_tasks
        else _stacked(task_vectors, key).mean(0)
        for key, tensor in task_vectors[0].items()
    }


def _orthogonalised_sum(deltas: Float[Tensor, "tasks rows columns"]) -> Float[Tensor, "rows columns"]:
    n_tasks, *shape = deltas.shape
    k = linalg.kept_rank(min(shape), 1 / n_tasks)
    kept = [factors for delta in deltas if len((factors := _leading(delta, k)).s)]
    if not kept:
        return torch.zeros_like(deltas[0])
    u = torch.cat([factors.u for factors in kept], dim=1)
    s = torch.cat([factors.s for factors in kept])
    vh = torch.cat([factors.vh for factors in kept])
    return linalg.Factors(linalg.orthogonalise(u), s, linalg.orthogonalise(vh)).product()


def _leading(delta: Float[Tensor, "rows columns"], k: int) -> linalg.Factors:
    """Return at most k components, none of them rounding error.

    A direction without weight would add nothing to the sum, yet push other tasks' directions aside. So a task
    matrix of zeros, as of a layer that was never trained, takes no part.
    """
    if not delta.any():
        return linalg.Factors(delta[:, :0], delta[0, :0], delta[:0])
    factors = linalg.svd(delta)
    return linalg.truncate(factors, min(k, linalg.numerical_rank(factors)))


def _stacked(task_vectors: Sequence[StateDict], key: str) -> Float[Tensor, "tasks ..."]:
    return torch.stack([task_vector[key] for task_vector in task_vectors])


def _check(task_vectors: Sequence[StateDict]) -> None:
    if len(task_vectors) < 2:
        raise InputError(f"merging needs at least two experts, and there are {len(task_vectors)}; name more tasks.")
    for number, task_vector in enumerate(task_vectors[1:], start=2):
        check_alike(task_vectors[0], task_vector, "task vector 1", f"task vector {number}")
