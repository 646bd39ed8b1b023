# SPDX-License-Identifier: MIT
"""Merging: the changes of many experts in, one update out; merged weights are base + alpha * update.

Models are never held whole: ``update`` takes one tensor of all experts at a time.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tsvlib import devices, linalg
from tsvlib.adapters import thin
from tsvlib.computing import ORDINARY, Computing
from tsvlib.errors import InputError
from tsvlib.layers import Suite, layers_of
from tsvlib.linalg import Factors
from tsvlib.methods import named
from tsvlib.methods.base import Merge, Method
from tsvlib.methods.core import InCore
from tsvlib.precision import check_held
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import StateDict, TaskVector, check_enough


def update(
    function: Merge,
    suite: Suite,
    key: str,
    computing: Computing = ORDINARY,
) -> Tensor:
    """Return the update of one tensor, on the CPU, by the function that a method made for this suite.

    InputError, naming the tensor, when the update is beyond all numbers of its type.
    """
    parts = [function(layer) for layer in layers_of(suite, key, computing)]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    check_held(key, whole)
    return whole.reshape(suite.shapes[key]).cpu()


def components(
    function: Merge,
    suite: Suite,
    key: str,
    k: int,
    computing: Computing = ORDINARY,
) -> tuple[Factors, float]:
    """Return the k leading singular components of the update of one tensor, and the squared norm of all of it.

    A tensor of more dimensions is taken as a matrix with a row per output. Where the method can merge cores, the update
    is never multiplied out. InputError as of ``update``.
    """
    layers = layers_of(suite, key, computing)
    found = function.thin(layers[0]) if isinstance(function, InCore) and len(layers) == 1 else None
    if found is None:
        whole = update(function, suite, key, computing).flatten(1)
        return linalg.leading(whole, k), float(whole.double().square().sum())
    factors = thin.leading(found, found.rank)
    check_held(key, factors.s)
    return linalg.truncate(factors, k), float(factors.s.double().square().sum())


def merged_update(
    task_vectors: Iterable[StateDict] | Suite,
    method: Method | str = "tsv-m",
    *,
    workers: int = 1,
    computing: Computing = ORDINARY,
) -> TaskVector:
    """Return the whole update of task vectors in memory, or of a suite that may lie on disk, by a method or its name.

    InputError when they are fewer than two, unlike or hold NaN or Inf, for an unknown method, or without a worker.
    """
    if isinstance(task_vectors, Mapping):
        raise InputError("task vectors are given in a list, and this is one of them; write [task_vector, ...].")
    given = task_vectors if isinstance(task_vectors, Suite) else list(task_vectors)
    check_enough(given.n_tasks if isinstance(given, Suite) else len(given))
    suite = given if isinstance(given, Suite) else MemorySuite(given)
    chosen = named(method) if isinstance(method, str) else method
    keys, function = list(suite.shapes), chosen.bind(suite)
    found = devices.ordered(lambda key: update(function, suite, key, computing), keys, workers)
    return TaskVector(zip(keys, found, strict=True))
