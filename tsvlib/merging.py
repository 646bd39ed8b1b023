# SPDX-License-Identifier: MIT
"""Merging: the changes of many experts in, one update out; merged weights are base + alpha * update.

Models are never held whole: ``update`` takes one tensor of all experts at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tsvlib import devices
from tsvlib.layers import ORDINARY, Computing, Decompositions, MemorySuite, Suite, layers_of
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
    chosen: Method, task_vectors: Sequence[StateDict], *, workers: int = 1, spectra: Decompositions | None = None
) -> TaskVector:
    """Return the whole update of task vectors in memory; InputError when they are fewer than two or unlike."""
    check_enough(len(task_vectors))
    suite = MemorySuite(task_vectors)
    keys = list(suite.shapes)
    function, computing = chosen.bind(suite), Computing(spectra=spectra)
    found = devices.ordered(lambda key: update(function, suite, key, computing), keys, workers)
    return TaskVector(zip(keys, found, strict=True))
