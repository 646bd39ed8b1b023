# SPDX-License-Identifier: MIT
"""From checkpoints on disk to weights on disk: merged models and TSV-C files.

Everything is checked before heavy work. Weights carry a recipe: the command with its arguments, the SHA-256 of every
input and versions, from which ``tsvlib COMMAND --recipe FILE`` makes the same bytes again.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, SupportsFloat, TypeVar

import torch
from torch import Tensor

from tsvlib import checkpoints, compression, devices, linalg, merging, progress, versions
from tsvlib.checkpoints import Checkpoint, TensorInfo
from tsvlib.cli import outputs, planning
from tsvlib.errors import InputError, LostUpdate
from tsvlib.layers import CheckpointSuite, Computing
from tsvlib.methods import named
from tsvlib.precision import Rounding, added, lost, type_name
from tsvlib.store import Spectra
from tsvlib.taskvectors import check_enough

AS_BASE = "base"
"""Stands for the types of the base."""

TYPES = {type_name(dtype): dtype for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Session(Computing):
    """How to compute, and with how many workers at once."""

    spectra: Spectra | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        """Make the device ready for threads; InputError unless somebody works."""
        super().__post_init__()
        devices.check_workers(self.workers)

    @contextmanager
    def over(self, function: Callable[[Item], Result], items: Sequence[Item], label: str) -> Iterator[Iterator[Result]]:
        """Provide the value for each item, in order, and show how far it is; workers end with the block."""

        def values() -> Iterator[Result]:
            for value in found:
                yield value
                bar.update()

        with progress.track(len(items), label) as bar, closing(devices.ordered(function, items, self.workers)) as found:
            yield values()


class Inputs:
    """A base and the experts that were fine-tuned from it, which fit each other as far as headers tell.

    Those that ``recipe``, a file whose recipe is followed, names must be as they were then. InputError for files that
    cannot be read, or that differ in keys, shapes or types.
    """

    def __init__(self, base: Path, experts: Sequence[Path], recipe: Path | None = None) -> None:
        self.base = checkpoints.open_checkpoint(base)
        self.experts = tuple(checkpoints.open_checkpoint(path) for path in experts)
        planning.check(self.base, self.experts)
        self.suite = CheckpointSuite(self.base, self.experts)
        self._recipe = recipe
        self._expected: dict[str, str] = checkpoints.recipe(recipe)["sha256"] if recipe else {}
        self._digests: dict[str, str] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every file that is read: what holds tensors, indexes, and the one with the recipe."""
        every = [path for each in (self.base, *self.experts) for path in (*each.files, each.index)]
        return tuple(path for path in (*every, self._recipe) if path)

    def inspect(self, session: Session, *others: Checkpoint) -> dict[str, str]:
        """Return the SHA-256 of every input and of ``others`` by its path.

        Bytes are read once: afterwards a file that changes is refused as soon as a tensor is read. InputError for NaN
        or Inf anywhere, and for what is not the file that the recipe names.
        """
        every = (self.base, *self.experts, *others)
        if fresh := [checkpoint for checkpoint in every if str(checkpoint.path) not in self._digests]:
            with session.over(Checkpoint.inspect, fresh, "checking inputs") as digests:
                self._digests |= {str(each.path): digest for each, digest in zip(fresh, digests, strict=True)}
        shared = self._expected.keys() & self._digests.keys()
        if changed := sorted(path for path in shared if self._digests[path] != self._expected[path]):
            raise InputError(f"{changed[0]}: the file is not the one that the recipe names; restore it.")
        return dict(self._digests)


def merge(inputs: Inputs, out: Path, method: str, alpha: SupportsFloat, session: Session, dtype: str = AS_BASE) -> str:
    """Write base + alpha * update of a merging method to ``out``, in the base's types or all in ``dtype``.

    Tensors are read, merged and written one by one. InputError for fewer than two experts, an unknown method, an
    alpha that is not finite, unsuitable inputs, values that their type cannot hold, too little space or a place that
    cannot be written.
    """
    check_enough(len(inputs.experts))
    chosen, factor = named(method), _finite(alpha)
    layout = _layout(inputs.base, dtype)
    check_place(out, outputs.WEIGHTS, inputs, session, sum(info.nbytes for info in layout.values()))
    progress.say(planning.plan(inputs.base, inputs.experts, rule=session.rule, workers=session.workers).brief)
    hashes = inputs.inspect(session)
    function = chosen.bind(inputs.suite)

    def update(key: str) -> Tensor:
        return merging.update(function, inputs.suite, key, session)

    name = chosen.name.replace("_", "-")
    recipe = _recipe("merge", inputs, hashes, session, method=name, alpha=factor, dtype=dtype)
    return _write(out, inputs.base, layout, update, factor, recipe, session, "merging")


def compress(inputs: Inputs, out: Path, rank: str, dtype: str, session: Session) -> str:
    """Write the only expert of ``inputs`` as a TSV-C file (see ``tsvlib.compression``) and return its digest."""
    kept = compression.Rank.parse(rank)
    factors = _type(dtype)
    check_place(out, outputs.WEIGHTS, inputs, session)
    compression.check_names(inputs.suite.shapes, str(inputs.base.path))
    hashes = inputs.inspect(session)

    def compressed(key: str) -> dict[str, Tensor]:
        return compression.compressed(inputs.suite, key, kept, factors, session)

    with session.over(compressed, list(inputs.suite.shapes), "compressing") as parts:
        tensors = {name: tensor for part in parts for name, tensor in part.items()}
    notes = {"version": 1, "base": hashes[str(inputs.base.path)], "shapes": inputs.suite.shapes}
    recipe = _recipe("compress", inputs, hashes, session, rank=rank, dtype=dtype)
    return checkpoints.save(out, tensors, recipe, metadata={compression.FORMAT: json.dumps(notes, sort_keys=True)})


def expand(
    inputs: Inputs, factors: Path, out: Path, alpha: SupportsFloat, session: Session, dtype: str = AS_BASE
) -> str:
    """Write base + alpha * the task vector of a TSV-C file to ``out``, as ``merge`` does; experts play no part.

    InputError when the factors are damaged, are no TSV-C file or belong to another base.
    """
    factor = _finite(alpha)
    compression.check_names(inputs.suite.shapes, str(inputs.base.path))
    packed = checkpoints.open_checkpoint(factors)
    notes = _notes(packed)
    base, layout = inputs.base.path, _layout(inputs.base, dtype)
    if {key: tuple(shape) for key, shape in notes["shapes"].items()} != inputs.suite.shapes:
        raise InputError(f"{factors}: its tensors are not those of {base}; name the base that it was compressed from.")
    size = sum(info.nbytes for info in layout.values())
    check_place(out, outputs.WEIGHTS, inputs, session, size, *packed.files)
    hashes = inputs.inspect(session, packed)
    if notes["base"] != hashes[str(base)]:
        raise InputError(f"{factors}: it was compressed from another base than {base}; name the right one.")
    tensors = checkpoints.load(packed.files[0], "compress the expert again")

    def update(key: str) -> Tensor:
        return compression.expanded(key, inputs.suite.shapes[key], tensors, tensors.__getitem__)

    recipe = _recipe("expand", inputs, hashes, session, factors=str(factors), alpha=factor, dtype=dtype)
    return _write(out, inputs.base, layout, update, factor, recipe, session, "expanding")


def _type(dtype: str) -> torch.dtype:
    if dtype not in TYPES:
        raise InputError(f"`{dtype}` is no type to write numbers in; choose one of {', '.join(TYPES)}.")
    return TYPES[dtype]


def _layout(base: Checkpoint, dtype: str) -> dict[str, TensorInfo]:
    """Return the layout of a file with the tensors of the base: as they are, or all floating-point ones in one type."""
    if dtype == AS_BASE:
        return base.layout
    chosen, every = _type(dtype), base.layout.items()
    return {key: info._replace(dtype=chosen) if info.dtype.is_floating_point else info for key, info in every}


def _write(
    out: Path,
    base: Checkpoint,
    layout: Mapping[str, TensorInfo],
    update: Callable[[str], Tensor],
    alpha: float,
    recipe: Mapping[str, object],
    session: Session,
    label: str,
) -> str:
    """Write base + alpha * update, tensor by tensor."""
    roundings: list[Rounding] = []

    def tensor(key: str) -> tuple[str, Tensor, Rounding]:
        return key, *added(key, base.read(key), update(key), alpha, layout[key].dtype)

    def values(found: Iterator[tuple[str, Tensor, Rounding]]) -> Iterator[tuple[str, Tensor]]:
        for key, value, rounding in found:
            roundings.append(rounding)
            yield key, value

    with session.over(tensor, checkpoints.file_order(layout), label) as found:
        digest = checkpoints.write(out, layout, recipe, values(found))
    if loss := lost(roundings):
        warnings.warn(f"{loss}; a wider dtype keeps it.", LostUpdate, stacklevel=4)
    return digest


def _recipe(
    command: str, inputs: Inputs, hashes: Mapping[str, str], session: Session, **arguments: object
) -> dict[str, object]:
    experts = {"expert": [str(expert.path) for expert in inputs.experts]} if inputs.experts else {}
    named = {"base": str(inputs.base.path)} | experts | arguments | asdict(session.rule)
    return {
        "command": command,
        "arguments": named | {"device": session.device.type},
        "sha256": dict(hashes),
        "solver": linalg.SOLVER,
        "versions": versions.of(versions.COMPUTING, session.device.type),
    }


def _notes(packed: Checkpoint) -> dict[str, Any]:
    text = packed.metadata.get(compression.FORMAT, "")
    try:
        notes: dict[str, Any] = json.loads(text)
        if notes["version"] == 1 and isinstance(notes["shapes"], dict) and notes["base"]:
            return notes
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{packed.path}: this is no TSV-C file of a version that is known here; make it with `compress`.")


def _finite(alpha: SupportsFloat) -> float:
    """Return alpha as the one number that recipes record, however it was given."""
    number = float(alpha)
    if not math.isfinite(number):
        raise InputError(f"alpha is {alpha}; choose a finite number.")
    return number


def check_place(out: Path, suffix: str, inputs: Inputs, session: Session, needed: int = 0, *others: Path) -> None:
    """Raise InputError unless a file may be written to ``out``, as ``outputs.check`` says."""
    store = session.spectra.folder if session.spectra else None
    outputs.check(out, suffix, (*inputs.files, *others), store, needed)
