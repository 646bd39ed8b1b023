# SPDX-License-Identifier: MIT
"""TSV-Compress: a task vector kept as the leading singular components of its task matrices.

A TSV-C file is a safetensors file. The task matrix ``key`` = u diag(s) vh is there as ``key:u`` (rows x rank),
``key:s`` (rank, descending) and ``key:vh`` (rank x columns); one that is taken as several parts, such as q, k and v,
as ``key:0:u`` and so on, from top to bottom. Every other tensor of the task vector is there whole under its own name.
Singular vectors have the type that was asked for; all else, which narrow types might not hold, is in float32, or in
float64 if that was asked for. Tensors and parts that fine-tuning did not touch are absent. A model with names such as
``a`` and ``a:u``, which would stand for two things, is refused. The metadata entry ``tsv-c`` is a JSON object with
``version``, ``base`` and ``shapes`` (of every tensor of the base, by name); ``recipe`` and ``digest`` are those of all
files that this library writes. In version 2 ``base`` is the digest of the base's tensors
(``tsvlib.checkpoints.content_digest``), whatever files they are in; in version 1, which is read as well, it was the
SHA-256 of the base's file.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from tsvlib import devices, linalg
from tsvlib.computing import ORDINARY, Computing, Decompositions
from tsvlib.errors import InputError
from tsvlib.layers import Suite, layers_of
from tsvlib.linalg import Factors
from tsvlib.precision import check_held, plain, wider
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import StateDict, TaskVector

FORMAT = "tsv-c"
"""Name of the metadata entry that makes a safetensors file a TSV-C file."""

VERSION = 2
"""Of the files that are written; it rises with every change of what is in them, and earlier ones are read."""

_PARTS = ("u", "s", "vh")
_FACTOR = re.compile(r":(u|s|vh)\Z")
_PART = re.compile(r":[012]\Z")
_RANK = re.compile(r"(?P<part>\d+/\d+|0?\.\d+|1\.0*)|(?P<count>\d+)|energy=(?P<energy>0?\.\d+|1\.0*|1)")


@dataclass(frozen=True)
class Rank:
    """How many singular components of a task matrix to keep: a share of them, a number, or a share of the energy.

    Energy is the sum of squared singular values. At least one component is always kept, and never more than there are.

    >>> Rank.parse("1/8").count(768), Rank.parse("0.1").count(768), Rank.parse("64").count(50)
    (96, 76, 50)
    """

    fraction: float | None = None
    components: int | None = None
    energy: float | None = None

    def __str__(self) -> str:
        """Return the text that ``parse`` makes the same rank of."""
        return f"energy={self.energy}" if self.energy else str(self.components or self.fraction)

    @classmethod
    def parse(cls, text: str) -> "Rank":
        """Read ``1/8`` or ``0.125`` (share), ``96`` (number) or ``energy=0.99``; InputError for anything else."""
        found = _RANK.fullmatch(text.strip())
        try:
            if found and found["part"] and 0 < Fraction(found["part"]) <= 1:
                return cls(fraction=float(Fraction(found["part"])))
            if found and found["count"] and int(found["count"]) > 0:
                return cls(components=int(found["count"]))
            if found and found["energy"] and float(found["energy"]) > 0:
                return cls(energy=float(found["energy"]))
        except ZeroDivisionError:
            pass
        raise InputError(f"`{text}` is no rank; write a share such as 1/8 or 0.1, a number such as 64, or energy=0.99.")

    def count(self, most: int) -> int:
        """Return how many of ``most`` components to compute: all of them where the energy decides later."""
        if self.fraction is not None:
            return linalg.kept_rank(most, self.fraction)
        return most if self.components is None else min(most, self.components)

    def cut(self, factors: Factors) -> Factors:
        """Return what is to be kept of the components that ``count`` asked for."""
        if self.energy is None:
            return factors
        gathered = (factors.s.double() / factors.s[:1].double()).square().cumsum(0)
        return linalg.truncate(factors, 1 + int((gathered < self.energy * gathered[-1] * (1 - 1e-12)).sum()))


class Notes(NamedTuple):
    """What the metadata of a TSV-C file say."""

    version: int
    base: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def text(self) -> str:
        """Return the metadata entry."""
        return json.dumps(self._asdict(), sort_keys=True)

    @classmethod
    def parse(cls, text: str, owner: str) -> "Notes":
        """Read a metadata entry; InputError, naming ``owner``, for what is none of a known version."""
        try:
            found = json.loads(text)
            shapes = {key: tuple(map(int, shape)) for key, shape in found["shapes"].items()}
            if found["version"] in range(1, VERSION + 1) and found["base"]:
                return cls(found["version"], str(found["base"]), shapes)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        known = "this is no TSV-C file of a version that is known here"
        raise InputError(f"{owner}: {known}; make it with `compress`.")


@dataclass(frozen=True)
class Compressed:
    """A compressed task vector: the tensors of a TSV-C file, and the shape of every tensor of the task vector."""

    tensors: dict[str, Tensor]
    shapes: dict[str, tuple[int, ...]]

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes the values take."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def shorten(self, rank: Rank) -> "Compressed":
        """Return what ``compress`` would with a smaller rank, without decomposing anything again.

        InputError when a task matrix has fewer components left than are to be kept, or than the share of its energy
        can be told from.
        """
        tensors = dict(self.tensors)
        for stem in [name.removesuffix(":u") for name in tensors if name.endswith(":u")]:
            factors = Factors(*(tensors[f"{stem}:{part}"] for part in _PARTS))
            k = rank.count(min(len(factors.u), factors.vh.shape[1]))
            if k > len(factors.s):
                raise InputError(f"`{stem}` has only {len(factors.s)} components left, not {k}; compress it anew.")
            kept = zip(_PARTS, rank.cut(linalg.truncate(factors, k)), strict=True)
            tensors |= {f"{stem}:{part}": tensor.clone() for part, tensor in kept}
        return Compressed(tensors, self.shapes)

    def expand(self) -> TaskVector:
        """Return the task vector that this stands for, in float32 or float64."""
        read = self.tensors.__getitem__
        return TaskVector({key: expanded(key, shape, self.tensors, read) for key, shape in self.shapes.items()})


def compress(
    task_vector: StateDict, rank: Rank, *, workers: int = 1, spectra: Decompositions | None = None
) -> Compressed:
    """Return a task vector in memory as its leading components, in float32, or in float64 if it is.

    The paper keeps one over the number of tasks (TSV-C), so that the compressed task vectors of all tasks together
    take about twice the room of one model.
    """
    check_names(task_vector)
    suite = MemorySuite([task_vector])
    keys = list(suite.shapes)
    computing = Computing(spectra=spectra)
    parts = devices.ordered(lambda key: compressed(suite, key, rank, suite.dtype, computing), keys, workers)
    return Compressed({name: tensor for part in parts for name, tensor in part.items()}, dict(suite.shapes))


def compressed(
    suite: Suite,
    key: str,
    rank: Rank,
    dtype: torch.dtype = torch.float32,
    computing: Computing = ORDINARY,
) -> dict[str, Tensor]:
    """Return what a TSV-C file holds of one tensor of a single expert, which is all that ``suite`` may hold.

    That is factors of type ``dtype``, the tensor whole, or nothing if fine-tuning did not touch it.
    """
    found: dict[str, Tensor] = {}
    whole = wider(dtype)
    for layer in layers_of(suite, key, computing):
        if not layer.is_matrix:
            found.update((key, change.to("cpu", whole)) for change in layer.changes())
            continue
        name = key if layer.n_parts == 1 else f"{key}:{layer.part}"
        for factors in layer.factors(rank.count(min(layer.shape))):
            kept = zip(_PARTS, rank.cut(factors), (dtype, whole, dtype), strict=True)
            # Copies, since slices would keep the whole factors in memory.
            found |= {f"{name}:{part}": tensor.to("cpu", kind).clone() for part, tensor, kind in kept}
    for tensor in found.values():
        check_held(key, tensor)
    return found


def check_names(keys: Collection[str], owner: str = "the task vector") -> None:
    """Raise InputError when the factors of one tensor would have the name of another tensor or of its factors."""
    for key in keys:
        # What would make this tensor a part or a factor of another one is taken off its name.
        whole = _FACTOR.sub("", key)
        if found := [stem for stem in (whole, _PART.sub("", whole)) if stem != key and stem in keys]:
            trouble = f"a TSV-C file could not tell `{key}` from factors of `{found[0]}`"
            raise InputError(f"{owner}: {trouble}; rename one of the two tensors.")


def expanded(key: str, shape: tuple[int, ...], names: Collection[str], read: Callable[[str], Tensor]) -> Tensor:
    """Return one tensor of a task vector, in float32 or float64, from the tensors ``names`` of a TSV-C file.

    ``read`` returns one of them. InputError when the factors do not fit each other or the shape.
    """
    if key in names:
        return plain(read(key))
    parts = [key] if f"{key}:u" in names else [f"{key}:{number}" for number in range(3)]
    if not any(f"{part}:u" in names for part in parts):
        return torch.zeros(shape)
    try:
        # One of several parts may be as it was, and then has no factors.
        unchanged = torch.zeros(shape[0] // len(parts), torch.Size(shape[1:]).numel())
        products = [_product(part, read) if f"{part}:u" in names else unchanged for part in parts]
        return torch.stack(products).reshape(shape)
    except (LookupError, RuntimeError) as error:
        raise InputError(
            f"`{key}`: its factors do not make a tensor of shape {shape}; compress the expert again."
        ) from error


def _product(stem: str, read: Callable[[str], Tensor]) -> Tensor:
    return Factors(*(plain(read(f"{stem}:{part}")) for part in _PARTS)).product()
