# SPDX-License-Identifier: MIT
"""What some methods are told of each expert beside its weights, such as measurements on inputs, and whether it fits."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float64
from torch import Tensor

from tsvlib.errors import InputError
from tsvlib.layers import Suite
from tsvlib.precision import is_finite

Statistics = Mapping[str, Tensor]
"""What was measured on one expert, by the names of its tensors; any mapping, so that it may read from disk."""


def check_given(suite: Suite, statistics: Sequence[Statistics], kind: str) -> None:
    """Raise InputError unless there are statistics for each expert of a suite, and of no tensors but its own."""
    if len(statistics) != suite.n_tasks:
        found = f"there is {kind} of {len(statistics)} experts, and {suite.n_tasks} are merged"
        raise InputError(f"{found}; give it for each of them, in their order.")
    for number, mine in enumerate(statistics, start=1):
        if unknown := sorted(mine.keys() - suite.shapes.keys()):
            raise InputError(f"expert {number} has {kind} of `{unknown[0]}`, but no such tensor; leave it out.")


def measured_by_all(suite: Suite, statistics: Sequence[Statistics], kind: str) -> set[str]:
    """Return the names of the tensors with statistics, at least one; InputError unless all experts have the same."""
    check_given(suite, statistics, kind)
    known: set[str] = set().union(*statistics)
    if not known:
        raise InputError(f"there is no {kind} of any tensor; give those of linear layers, or average the experts.")
    for number, mine in enumerate(statistics, start=1):
        if lacking := sorted(known - mine.keys()):
            raise InputError(f"there is no {kind} of `{lacking[0]}` of expert {number}; give it for all or none.")
    return known


def measured(
    statistics: Sequence[Statistics], expert: int, key: str, shape: tuple[int, ...], kind: str
) -> Float64[Tensor, "..."]:
    """Return what was measured on an expert, by its number from 0.

    InputError if it was not, or is of another shape or not finite.
    """
    found, owner = statistics[expert].get(key), f"of `{key}` of expert {expert + 1}"
    if found is None:
        raise InputError(f"there is no {kind} {owner}; give it for every expert.")
    if tuple(found.shape) != shape:
        raise InputError(f"the {kind} {owner} has shape {tuple(found.shape)} instead of {shape}; compute it again.")
    if not is_finite(found):
        raise InputError(f"the {kind} {owner} holds NaN or Inf; compute it again.")
    return found.detach().double()
