# SPDX-License-Identifier: MIT
"""From adapters on disk to one adapter on disk."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, SupportsFloat

import torch
from torch import Tensor

from tsvlib import merging, progress
from tsvlib.adapters import writing
from tsvlib.adapters.writing import Places
from tsvlib.cli import outputs, planning, workflows
from tsvlib.cli.workflows import AS_BASE, Inputs, Session
from tsvlib.errors import InputError, LostUpdate
from tsvlib.methods import named
from tsvlib.methods.base import Merge
from tsvlib.precision import NOTABLE, added
from tsvlib.taskvectors import check_enough


def merge(
    inputs: Inputs,
    out: Path,
    rank: int,
    method: str,
    alpha: SupportsFloat,
    session: Session,
    dtype: str = AS_BASE,
    then: Sequence[str] = (),
) -> str:
    """Write alpha * update of a merging method to the folder ``out`` as an adapter of that rank; return its digest.

    ``LostUpdate`` is warned of where the rank has no room for much of the update. InputError as of ``workflows.merge``,
    and for what ``writing.places`` has no place for.
    """
    check_enough(len(inputs.experts))
    if rank < 1:
        raise InputError(f"{rank} is no rank of an adapter; choose at least one.")
    chosen, factor = named("+".join((method, *then))), workflows.finite(alpha)
    held, types = writing.places(inputs.base, inputs.experts), _types(inputs, dtype)
    store = session.spectra.folder if session.spectra else None
    outputs.check_folder(out, inputs.files, store, _size(inputs, held, types, rank))
    progress.say(planning.plan(inputs.base, inputs.experts, rule=session.rule, workers=session.workers).brief)
    hashes = inputs.inspect(session)
    work = _Work(inputs, chosen.bind(inputs.suite), session, held, types, rank, factor)
    tensors = work.low_rank() | work.whole()
    name = chosen.name.replace("_", "-")
    recipe = workflows.recipe_of(
        "merge", inputs, hashes, session, method=name, alpha=factor, dtype=dtype, as_adapter=rank
    )
    return writing.save(out, rank, held, tensors, inputs.base, inputs.experts, recipe)


class _Part(NamedTuple):
    """Tensors by their names, and squared norms of the update and of what is missing of it."""

    tensors: dict[str, Tensor]
    wanted: float
    missed: float


@dataclass(frozen=True)
class _Work:
    inputs: Inputs
    function: Merge
    session: Session
    held: Places
    types: Mapping[str, torch.dtype]
    rank: int
    alpha: float

    def low_rank(self) -> dict[str, Tensor]:
        """Return the matrices of all slots by their names, and warn of what they have no room for."""
        with self.session.over(self._slot, list(self.held.slots), "merging") as found:
            parts = list(found)
        wanted, missed = (
            (sum(amounts) for amounts in zip(*(part[1:] for part in parts), strict=True)) if parts else (0, 0)
        )
        if wanted and (share := math.sqrt(missed / wanted)) > NOTABLE:
            lost = f"rank {self.rank} lost {100 * share:.0f} % of the update; a higher rank keeps it."
            warnings.warn(lost, LostUpdate, stacklevel=3)
        return {name: tensor for part in parts for name, tensor in part.tensors.items()}

    def whole(self) -> dict[str, Tensor]:
        """Return the tensors that are there whole by their names, without modules that nobody changed."""
        if not self.held.whole:
            return {}
        with self.session.over(self._whole, self.held.whole, "merging what is whole") as found:
            values = dict(zip(self.held.whole, found, strict=True))
        changed = {key for key, value in values.items() if not torch.equal(value, self.inputs.base.read(key))}
        groups = [*({key: name} for key, name in self.held.biases.items()), *self.held.saved.values()]
        return {name: values[key] for group in groups if changed & group.keys() for key, name in group.items()}

    def _slot(self, key: str) -> _Part:
        factors, wanted = merging.components(self.function, self.inputs.suite, key, self.rank, self.session)
        shape = self.inputs.suite.shapes[key]
        tensors = writing.matrices(self.held.slots[key], factors, self.rank, self.alpha, shape, self.types[key])
        return _Part(tensors, wanted, max(0.0, wanted - float(factors.s.double().square().sum())))

    def _whole(self, key: str) -> Tensor:
        update = merging.update(self.function, self.inputs.suite, key, self.session)
        return added(key, self.inputs.base.read(key), update, self.alpha, self.types[key])[0]


def _types(inputs: Inputs, dtype: str) -> dict[str, torch.dtype]:
    """Return the type of each tensor: that of the base, or the one that was asked for."""
    chosen = None if dtype == AS_BASE else workflows.type_of(dtype)
    layout = inputs.base.layout.items()
    return {key: chosen if chosen and info.dtype.is_floating_point else info.dtype for key, info in layout}


def _size(inputs: Inputs, held: Places, types: Mapping[str, torch.dtype], rank: int) -> int:
    shapes = inputs.suite.shapes
    thin = sum(rank * (shapes[key][0] + math.prod(shapes[key][1:])) * types[key].itemsize for key in held.slots)
    return thin + sum(math.prod(shapes[key]) * types[key].itemsize for key in held.whole)
