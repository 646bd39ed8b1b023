# SPDX-License-Identifier: MIT
"""From adapters on disk to one adapter on disk."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tsvlib import merging
from tsvlib.adapters import writing
from tsvlib.adapters.writing import Places
from tsvlib.cli import memory, models, outputs, planning, sums, workflows
from tsvlib.cli.sessions import Session
from tsvlib.cli.sums import AS_BASE, Alphas
from tsvlib.cli.workflows import Inputs
from tsvlib.errors import InputError, LostUpdate
from tsvlib.methods import named
from tsvlib.methods.base import Merge
from tsvlib.precision import NOTABLE, added
from tsvlib.taskvectors import check_enough


@memory.planned
def merge(
    inputs: Inputs,
    out: Path,
    rank: int,
    method: str,
    alpha: Alphas,
    session: Session,
    dtype: str = AS_BASE,
    then: Sequence[str] = (),
) -> dict[Path, str]:
    """Write alpha * update of a merging method as an adapter of that rank to the folder ``out``.

    Several alphas give as many folders, named as ``models.paths`` says. Returns the digest of each. ``LostUpdate`` is
    warned of where the rank has no room for much of the update. InputError as of ``workflows.merge``, and for what
    ``writing.places`` has no place for.
    """
    check_enough(len(inputs.experts))
    if rank < 1:
        raise InputError(f"{rank} is no rank of an adapter; choose at least one.")
    chosen, held = named("+".join((method, *then))), writing.places(inputs.base, inputs.experts)
    types = {key: info.dtype for key, info in sums.layout_of(inputs.base, dtype).items()}
    folders = models.paths(out, sums.numbers(alpha), is_folder=True)
    for folder in folders.values():
        outputs.check_folder(folder, inputs.files, session.store, len(folders) * _size(inputs, held, types, rank))
    plan = planning.plan(inputs.suite, {}, rule=session.rule, workers=session.workers, folder=out.parent)
    workflows.tell(inputs, session, plan.brief)
    hashes = inputs.inspect(session)
    work = _Work(inputs, chosen.bind(inputs.suite), session, held, types, rank, tuple(folders))
    low_rank, whole = work.low_rank(), work.whole()
    name = chosen.name.replace("_", "-")
    recipe = workflows.recipe_of("merge", inputs, hashes, session, method=name, dtype=dtype, as_adapter=rank)
    digests = {}
    for each, folder in folders.items():
        tensors, made = low_rank[each] | whole[each], sums.with_alpha(recipe, each)
        digests[folder] = writing.save(folder, rank, held, tensors, inputs.base, inputs.experts, made)
    return digests


Named = dict[str, Tensor]


class _Part(NamedTuple):
    """Tensors by their names for each alpha, and squared norms of the update and of what is missing of it."""

    tensors: dict[float, Named]
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
    alphas: tuple[float, ...]

    def low_rank(self) -> dict[float, Named]:
        """Return the matrices of all slots by their names, for each alpha, and warn of what they have no room for."""
        with self.session.over(self._slot, list(self.held.slots), "merging") as found:
            parts = list(found)
        wanted, missed = (
            (sum(amounts) for amounts in zip(*(part[1:] for part in parts), strict=True)) if parts else (0, 0)
        )
        if wanted and (share := math.sqrt(missed / wanted)) > NOTABLE:
            lost = f"rank {self.rank} lost {100 * share:.0f} % of the update; a higher rank keeps it."
            warnings.warn(lost, LostUpdate, stacklevel=3)
        return {alpha: {name: x for part in parts for name, x in part.tensors[alpha].items()} for alpha in self.alphas}

    def whole(self) -> dict[float, Named]:
        """Return the tensors that are there whole by their names, for each alpha, without modules nobody changed."""
        if not self.held.whole:
            return {alpha: {} for alpha in self.alphas}
        with self.session.over(self._whole, self.held.whole, "merging what is whole") as found:
            values = dict(zip(self.held.whole, found, strict=True))
        return {alpha: self._changed({key: x[alpha] for key, x in values.items()}) for alpha in self.alphas}

    def _changed(self, values: Named) -> Named:
        changed = {key for key, value in values.items() if not torch.equal(value, self.inputs.base.read(key))}
        groups = [*({key: name} for key, name in self.held.biases.items()), *self.held.saved.values()]
        return {name: values[key] for group in groups if changed & group.keys() for key, name in group.items()}

    def _slot(self, key: str) -> _Part:
        factors, wanted = merging.components(self.function, self.inputs.suite, key, self.rank, self.session)
        shape = self.inputs.suite.shapes[key]
        slot, dtype = self.held.slots[key], self.types[key]
        tensors = {alpha: writing.matrices(slot, factors, self.rank, alpha, shape, dtype) for alpha in self.alphas}
        return _Part(tensors, wanted, max(0.0, wanted - float(factors.s.double().square().sum())))

    def _whole(self, key: str) -> dict[float, Tensor]:
        update = merging.update(self.function, self.inputs.suite, key, self.session)
        start, dtype = self.inputs.base.read(key), self.types[key]
        return {alpha: added(key, start, update, alpha, dtype)[0] for alpha in self.alphas}


def _size(inputs: Inputs, held: Places, types: Mapping[str, torch.dtype], rank: int) -> int:
    shapes = inputs.suite.shapes
    thin = sum(rank * (shapes[key][0] + math.prod(shapes[key][1:])) * types[key].itemsize for key in held.slots)
    return thin + sum(math.prod(shapes[key]) * types[key].itemsize for key in held.whole)
