# SPDX-License-Identifier: MIT
"""Adapters on disk: a base and what LoRA changes in it as one checkpoint, which is multiplied out only on request."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tsvlib import checkpoints
from tsvlib.adapters import naming
from tsvlib.adapters import settings as configuration
from tsvlib.adapters.settings import CONFIG, REMEDY, Settings
from tsvlib.adapters.thin import Thin
from tsvlib.checkpoints import ADAPTERS, Checkpoint, TensorInfo
from tsvlib.checkpoints.sources import Inspection
from tsvlib.errors import InputError
from tsvlib.precision import is_finite, wider
from tsvlib.selection.sources import GLIMPSE
from tsvlib.taskvectors import beyond


class Adapter(Checkpoint):
    """The base with what an adapter changes in it, in the layout of the base.

    ``slots`` says of each weight that low rank changes where that stands, and ``settings`` how; ``whole`` has the names
    of tensors that the adapter holds in place of the base's. A tensor with a change of low rank is in float32 or
    float64, whatever the base has, so that nothing is rounded away.
    InputError when the adapter does not fit its settings or the base.
    """

    def __init__(self, path: Path, stored: Checkpoint, settings: Settings, base: Checkpoint) -> None:
        self.path, self.notes = path, stored.notes
        self.files, self.index = (*stored.files, settings.path), stored.index
        self.nbytes = stored.nbytes + settings.path.stat().st_size
        self.settings = settings
        self._stored, self._base = stored, base
        self._pairs, self._biases, self.whole = naming.entries(path, stored.layout, settings, base.layout)
        self._repeated: dict[str, bool] = {}
        self.slots = {key: pair.slot for key, pair in self._pairs.items()}
        own = {key: stored.layout[name] for key, name in self.whole.items()}
        wide = {key: self._info(key) for key in (*self._pairs, *self._biases)}
        self.layout: dict[str, TensorInfo] = dict(sorted((base.layout | own | wide).items()))

    @property
    def changed(self) -> set[str]:
        """Return the keys of all that the adapter may change."""
        return {*self._pairs, *self._biases, *self.whole}

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes the adapter's own tensors take."""
        return sum(info.nbytes for info in self._stored.layout.values())

    @property
    def metadata(self) -> dict[str, str]:
        """Return what the header of the adapter's file says."""
        return self._stored.metadata

    @cached_property
    def shared(self) -> Mapping[str, str]:
        """Return what of the base is the same memory, where the adapter changes neither."""
        changed = self.changed
        return {key: first for key, first in self._base.shared.items() if not changed & {key, first}}

    def rank(self, key: str) -> int | None:
        """Return the rank at most of the change of a tensor, 0 for none, and None for a tensor that is stored whole.

        As far as headers tell: a tensor that is stored beside its low rank is taken for a copy of the base's.
        """
        if key in self._pairs:
            return self._pairs[key].rank
        return 1 if key in self._biases else None if key in self.whole else 0

    def is_thin(self, key: str) -> bool:
        """Tell whether ``change`` has all that the adapter changes in a tensor, which may be nothing."""
        if key not in self.whole:
            return True
        if self.rank(key) is None:
            return False
        # PEFT stores embeddings whole beside their low rank, and nearly always as the base has them.
        if key not in self._repeated:
            self._repeated[key] = torch.equal(self._base.read(key), self._stored.read(self.whole[key]))
        return self._repeated[key]

    def change(self, key: str, weight: float = 1.0) -> Thin | None:
        """Return what low rank adds to a tensor, times ``weight``, taken as a matrix with a row per output.

        None for nothing. InputError where its scaling takes it beyond all numbers.
        """
        if key in self._biases:
            name, scaling = self._biases[key]
            tall = self._stored.read(name)[:, None].to(self.layout[key].dtype)
            wide = torch.ones(1, 1, dtype=tall.dtype)
        elif key in self._pairs:
            pair, scaling = self._pairs[key], self._pairs[key].scaling
            a, b = (self._stored.read(name).flatten(1).to(self.layout[key].dtype) for name in (pair.a, pair.b))
            tall, wide = (a.mT, b.mT) if pair.slot.is_turned else (b, a)
        else:
            return None
        if not is_finite(tall := weight * scaling * tall):
            raise InputError(beyond(key, str(self.path), tall.dtype))
        return Thin(tall, wide)

    def read(self, key: str) -> Tensor:
        """Return a tensor of the expert, multiplied out where low rank changes it."""
        start = self._stored.read(self.whole[key]) if key in self.whole else self._base.read(key)
        if (change := self.change(key)) is None:
            return start
        return start.to(self.layout[key].dtype) + change.product().reshape(start.shape)

    def glimpse(self, key: str) -> Tensor:
        """Return the first numbers of a tensor."""
        return self.read(key).reshape(-1)[:GLIMPSE]

    def inspect(self) -> Inspection:
        """Return one SHA-256 for tensors and settings, and what is whole with NaN or Inf; InputError for thin ones."""
        found = self._stored.inspect()
        own = {name: key for key, name in self.whole.items()}
        if bad := sorted(found.unsound - own.keys()):
            raise InputError(f"`{bad[0]}` of {self.owner} holds NaN or Inf; train or download that adapter again.")
        whole = checkpoints.combined([found.sha256, self.settings.digest])
        return Inspection(whole, frozenset(own[name] for name in found.unsound))

    def _info(self, key: str) -> TensorInfo:
        """Return what stands for a tensor that low rank changes, in the type to compute in."""
        names = self._biases[key][:1] if key in self._biases else self._pairs[key][1:3]
        dtypes = [self._stored.layout[name].dtype for name in names]
        return TensorInfo(wider(self._base.layout[key].dtype, *dtypes), self._base.layout[key].shape)


def open_expert(path: Path, base: Checkpoint) -> Checkpoint:
    """Open a fine-tuned model, or an adapter of ``base`` as PEFT writes it: a folder, or the file with its tensors.

    Only headers and settings are read. InputError for kinds of adapters that are not known, by their name, for one that
    does not fit the base, and as of ``open_checkpoint``.
    """
    place = checkpoints.located(path)
    file = tensors_of(place)
    config = file.parent / CONFIG
    # They tell the kind of any adapter, the names of its tensors only that of some.
    settings = configuration.read(config) if file.name in ADAPTERS and config.exists() else None
    stored = checkpoints.open_checkpoint(file)
    # A model may have such names of its own, and then the base has them too.
    fresh = {name: info for name, info in stored.layout.items() if name not in base.layout}
    if not naming.is_adapter(place, fresh) and settings is None:
        return stored
    return Adapter(place, stored, settings or _beside(place, stored), base)


def tensors_of(path: Path) -> Path:
    """Return the file with the tensors of an adapter whose folder this is, and any other path itself."""
    if not checkpoints.is_adapter(path):
        return path
    found = [path / name for name in ADAPTERS if (path / name).exists()]
    if not found:
        raise InputError(f"{path}: the folder has {CONFIG} but no {' or '.join(ADAPTERS)}; put the adapter there.")
    return found[0]


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files of an expert, those of an adapter with its settings, of which none is opened."""
    file = tensors_of(path)
    held, config = checkpoints.files_of(file), file.parent / CONFIG
    return (*held, config) if file.name in ADAPTERS and config.exists() else held


def _beside(path: Path, stored: Checkpoint) -> Settings:
    config = stored.files[0].parent / CONFIG
    if not config.exists():
        trouble = f"the file holds an adapter, and no {CONFIG} beside it tells how its matrices count"
        raise InputError(f"{path}: {trouble}; put that file there, or {REMEDY}.")
    return configuration.read(config)
