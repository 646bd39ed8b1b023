# SPDX-License-Identifier: MIT
"""Merging: the changes of many experts in, one update out; merged weights are base + alpha * update.

Models are never held whole: ``update`` takes one tensor of all experts at a time.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tsvlib import devices
from tsvlib.errors import InputError
from tsvlib.layers import ORDINARY, Computing, MemorySuite, Suite, layers_of
from tsvlib.methods import named
from tsvlib.methods.base import Merge, Method
from tsvlib.precision import check_held
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


def merged_update(
    task_vectors: Iterable[StateDict],
    method: Method | str = "tsv-m",
    *,
    workers: int = 1,
    computing: Computing = ORDINARY,
) -> TaskVector:
    """Return the whole update of task vectors in memory, by a method or its name.

    InputError when they are fewer than two, unlike or hold NaN or Inf, for an unknown method, or without a worker.
    """
    if isinstance(task_vectors, Mapping):
        raise InputError("task vectors are given in a list, and this is one of them; write [task_vector, ...].")
    vectors = list(task_vectors)
    check_enough(len(vectors))
    chosen = named(method) if isinstance(method, str) else method
    suite = MemorySuite(vectors)
    keys, function = list(suite.shapes), chosen.bind(suite)
    found = devices.ordered(lambda key: update(function, suite, key, computing), keys, workers)
    return TaskVector(zip(keys, found, strict=True))
