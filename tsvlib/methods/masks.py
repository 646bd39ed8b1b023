# SPDX-License-Identifier: MIT
"""TALL masks (Wang et al., arXiv 2405.07813, 2024): which weights of a shared update each single task wants.

They tell which weights to merge (Consensus TA), or compress experts: one update for all of them, and for each expert
one bit per weight (TALL-Mask), where the update is that of TIES or of task arithmetic. The lambda of each mask is
chosen on labelled validation inputs; 0.4 for all tasks is where nothing can be chosen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite
from tsvlib.methods import averages, ties
from tsvlib.methods.base import Binding, Merge, layerwise
from tsvlib.taskvectors import StateDict, TaskVector

LAMBDA = 0.4
"""Where nothing can be chosen."""

AGREEING = 2

ARITHMETIC: Binding = layerwise(averages.task_arithmetic)
"""Makes what experts share the sum of all their changes."""


def consensus_ta(layer: Layer) -> Tensor:
    """Return the sum of the changes at the weights that two or more tasks want, with lambda = 0.4 for all tasks.

    ``consensus`` makes the same method with other lambdas.
    """
    return _agreed(layer, [LAMBDA] * layer.n_tasks)


def consensus(lambdas: Sequence[float]) -> Binding:
    """Return the binding of Consensus TA with one lambda for each expert, in their order.

    Merging raises InputError when there are fewer or more lambdas than experts, or one is not above zero.
    """

    def bind(suite: Suite) -> Merge:
        _check_lambdas(suite, lambdas)
        return lambda layer: _agreed(layer, lambdas)

    return bind


def wanted(own: Float[Tensor, "*shape"], shared: Float[Tensor, "*shape"], threshold: float) -> Bool[Tensor, "*shape"]:
    """Return the TALL mask |own| >= threshold * |shared - own| of a task with the change ``own``.

    The published code has > instead, which differs where both sides are equal.
    """
    return own.abs() >= threshold * (shared - own).abs()


def masked(shared: StateDict, own: StateDict, threshold: float) -> TaskVector:
    """Return the shared update at the weights that a task with the task vector ``own`` wants, and zero elsewhere."""
    return TaskVector({key: tensor * wanted(own[key], tensor, threshold) for key, tensor in shared.items()})


@dataclass(frozen=True)
class Masked:
    """Experts as one update in float32, and for each of them one bit per weight, by the names of tensors."""

    experts: tuple[str, ...]
    shared: TaskVector
    masks: Mapping[str, UInt8[Tensor, "experts bytes"]]

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes the values take."""
        return self.shared.stored_bytes + sum(mask.nbytes for mask in self.masks.values())

    def expert(self, name: str) -> TaskVector:
        """Return what stands for the task vector of an expert; alpha is 1. InputError for an unknown one."""
        if name not in self.experts:
            raise InputError(f"there is no expert `{name}` among these; choose one of {', '.join(self.experts)}.")
        row = self.experts.index(name)
        return TaskVector({key: tensor * self._bits(key, row) for key, tensor in self.shared.items()})

    def _bits(self, key: str, row: int) -> Bool[Tensor, "*shape"]:
        shape = self.shared[key].shape
        bits = np.unpackbits(self.masks[key][row].numpy(), count=shape.numel())
        return torch.from_numpy(bits).bool().reshape(shape)


def shared_update(suite: Suite, bind: Binding = ties.ties_sum) -> TaskVector:
    """Return the update that all experts share, in float32 and taken as it is (alpha = 1).

    Of TALL-Mask + TIES that is TIES with the disjoint *sum*, as in the code of TALL-masks; ``bind`` makes that of
    another method, such as ``ARITHMETIC``.
    """
    merge = bind(suite)
    return TaskVector({key: merge(Layer(suite, key)).float() for key in suite.shapes})


def pack(suite: Suite, experts: Sequence[str], shared: TaskVector, lambdas: Sequence[float]) -> Masked:
    """Return the experts of a suite by their names as TALL masks of a shared update, one lambda for each.

    Each change is read once, and only its bits are kept. InputError for lambdas as in ``consensus``, and for fewer or
    more names than experts.
    """
    _check_lambdas(suite, lambdas)
    check_names(suite, experts)
    masks = {}
    for key, tensor in shared.items():
        # An expert that left a tensor alone wants nothing of it.
        rows = np.zeros((suite.n_tasks, -(-tensor.numel() // 8)), np.uint8)
        for expert, change in suite.changes(key):
            rows[expert] = np.packbits(wanted(change, tensor, lambdas[expert]).numpy())
        masks[key] = torch.from_numpy(rows)
    return Masked(tuple(experts), shared, masks)


def pack_ties(suite: Suite, experts: Sequence[str]) -> Masked:
    """Return the experts of a suite by their names as TALL-Mask + TIES with lambda = 0.4 for all tasks."""
    return pack(suite, experts, shared_update(suite), [LAMBDA] * suite.n_tasks)


def pack_arithmetic(suite: Suite, experts: Sequence[str]) -> Masked:
    """Return the same as TALL-Mask + task arithmetic."""
    return pack(suite, experts, shared_update(suite, ARITHMETIC), [LAMBDA] * suite.n_tasks)


def _agreed(layer: Layer, lambdas: Sequence[float]) -> Tensor:
    total = layer.total()
    votes = torch.zeros(layer.shape, dtype=torch.int32, device=layer.device)
    for expert, change in layer.numbered_changes():
        votes += wanted(change, total, lambdas[expert])
    return total * (votes >= AGREEING)


def check_names(suite: Suite, experts: Sequence[str]) -> None:
    """Raise InputError unless there is a name for each expert of a suite."""
    if len(experts) != suite.n_tasks:
        raise InputError(f"there are {len(experts)} names for {suite.n_tasks} experts; give one for each.")


def _check_lambdas(suite: Suite, lambdas: Sequence[float]) -> None:
    if len(lambdas) != suite.n_tasks:
        raise InputError(f"there are {len(lambdas)} lambdas for {suite.n_tasks} experts; give one for each.")
    if unfit := [value for value in lambdas if not 0 < value < math.inf]:
        raise InputError(f"{unfit[0]} is no lambda of a TALL mask; choose a number above zero, such as {LAMBDA}.")
