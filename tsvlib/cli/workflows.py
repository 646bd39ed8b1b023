# SPDX-License-Identifier: MIT
"""From checkpoints on disk to weights on disk: merged models and TSV-C files.

Everything is checked before heavy work. Weights carry a recipe: the command with its arguments, the SHA-256 of every
input and versions, from which ``tsvlib COMMAND --recipe FILE`` makes the same bytes again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from tsvlib import checkpoints, compression, linalg, merging, progress, versions
from tsvlib.checkpoints import Checkpoint, TensorInfo
from tsvlib.cli import outputs, planning, sums
from tsvlib.cli.planning import Plan
from tsvlib.cli.sessions import Session
from tsvlib.cli.sums import AS_BASE, Alphas
from tsvlib.errors import InputError
from tsvlib.layers import CheckpointSuite
from tsvlib.methods import named
from tsvlib.methods.base import Method
from tsvlib.taskvectors import check_enough

_SOMEWHERE = Path("merged.safetensors")
"""Stands for a file whose place does not matter."""


class Inputs:
    """A base and the experts that were fine-tuned from it, which fit each other as far as headers tell.

    What ``leave_out`` names stays as in the base, and changes of each expert count times its weight. Those files that
    ``recipe``, a file whose recipe is followed, names must be as they were then. InputError for files that cannot be
    read, or that differ in keys, shapes or types.
    """

    def __init__(
        self,
        base: Path,
        experts: Sequence[Path],
        recipe: Path | None = None,
        *,
        leave_out: Sequence[str] = (),
        weights: Sequence[float] = (),
    ) -> None:
        self.base = checkpoints.open_checkpoint(base)
        self.experts = tuple(checkpoints.open_checkpoint(path) for path in experts)
        self.suite = CheckpointSuite(self.base, self.experts, leave_out=leave_out, weights=weights)
        given = {"leave_out": list(leave_out), "weights": list(weights)}
        self.options = {name: value for name, value in given.items() if value}
        self._recipe = recipe
        self._expected: dict[str, str] = checkpoints.recipe(recipe)["sha256"] if recipe else {}
        self._digests: dict[str, str] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every file that is read: what holds tensors, indexes, and the one with the recipe."""
        every = [path for each in (self.base, *self.experts) for path in (*each.files, each.index)]
        return tuple(path for path in (*every, self._recipe) if path)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences about what was chosen of several things, and about names that were read as others."""
        return (*(note for each in (self.base, *self.experts) for note in each.notes), *self.suite.selection.notes)

    def inspect(self, session: Session, *others: Checkpoint) -> dict[str, str]:
        """Return the SHA-256 of every input and of ``others`` by its path.

        Bytes are read once: afterwards a file that changes is refused as soon as a tensor is read. InputError for NaN
        or Inf in what an expert changed, and for what is not the file that the recipe names.
        """
        every = (self.base, *self.experts, *others)
        if fresh := [checkpoint for checkpoint in every if str(checkpoint.path) not in self._digests]:
            with session.over(Checkpoint.inspect, fresh, "checking inputs") as found:
                seen = dict(zip(fresh, found, strict=True))
            self._digests |= {str(each.path): inspection.sha256 for each, inspection in seen.items()}
            self.suite.check({each: inspection.unsound for each, inspection in seen.items()})
        shared = self._expected.keys() & self._digests.keys()
        if changed := sorted(path for path in shared if self._digests[path] != self._expected[path]):
            raise InputError(f"{changed[0]}: the file is not the one that the recipe names; restore it.")
        return dict(self._digests)


def merge(
    inputs: Inputs,
    out: Path,
    method: str,
    alpha: Alphas,
    session: Session,
    dtype: str = AS_BASE,
    then: Sequence[str] = (),
) -> dict[Path, str]:
    """Write base + alpha * update of a merging method to ``out``, in the base's types or all in ``dtype``.

    Processes of ``then`` change the update, one after the other. Several alphas give as many files in one pass, named
    as ``outputs.places`` says. Tensors are read, merged and written one by one. Returns the digest of every file.

    Raises:
        InputError: there are fewer than two experts, no such method, an alpha that is not finite, unsuitable inputs,
            values that their type cannot hold, too little space, or a place that cannot be written.
    """
    chosen, places, layout = _asked(inputs, out, method, alpha, session, dtype, then)
    tell(inputs, _planned(inputs, layout, places, session).brief)
    hashes = inputs.inspect(session)
    function = chosen.bind(inputs.suite)

    def update(key: str) -> Tensor:
        return merging.update(function, inputs.suite, key, session)

    recipe = _recipe("merge", inputs, hashes, session, method=chosen.name.replace("_", "-"), dtype=dtype)
    return sums.write(places, inputs.base, inputs.suite.selection, layout, update, recipe, session, "merging")


def plan(
    inputs: Inputs,
    out: Path | None,
    method: str,
    alpha: Alphas,
    session: Session,
    dtype: str = AS_BASE,
    then: Sequence[str] = (),
) -> Plan:
    """Return what ``merge`` would do and take; InputError as far as headers tell, and for ``out`` if it is given."""
    _, places, layout = _asked(inputs, out, method, alpha, session, dtype, then)
    return _planned(inputs, layout, places, session)


def compress(inputs: Inputs, out: Path, rank: str, dtype: str, session: Session) -> str:
    """Write the only expert of ``inputs`` as a TSV-C file (see ``tsvlib.compression``) and return its digest."""
    kept = compression.Rank.parse(rank)
    factors = sums.type_of(dtype)
    check_place(out, outputs.WEIGHTS, inputs, session)
    compression.check_names(inputs.suite.shapes, str(inputs.base.path))
    tell(inputs)
    hashes = inputs.inspect(session)

    def compressed(key: str) -> dict[str, Tensor]:
        return compression.compressed(inputs.suite, key, kept, factors, session)

    with session.over(compressed, list(inputs.suite.shapes), "compressing") as parts:
        tensors = {name: tensor for part in parts for name, tensor in part.items()}
    notes = compression.Notes(compression.VERSION, _content(inputs.base), inputs.suite.shapes)
    recipe = _recipe("compress", inputs, hashes, session, rank=rank, dtype=dtype)
    return checkpoints.save(out, tensors, recipe, metadata={compression.FORMAT: notes.text})


def expand(
    inputs: Inputs, factors: Path, out: Path, alpha: Alphas, session: Session, dtype: str = AS_BASE
) -> dict[Path, str]:
    """Write base + alpha * the task vector of a TSV-C file to ``out``, as ``merge`` does; experts play no part.

    InputError when the factors are damaged, are no TSV-C file or belong to another base.
    """
    places = outputs.places(out, sums.numbers(alpha))
    compression.check_names(inputs.suite.shapes, str(inputs.base.path))
    packed = checkpoints.open_checkpoint(factors)
    notes = compression.Notes.parse(packed.metadata.get(compression.FORMAT, ""), str(factors))
    base, layout = inputs.base.path, sums.layout_of(inputs.base, dtype)
    if notes.shapes != inputs.suite.shapes:
        raise InputError(f"{factors}: its tensors are not those of {base}; name the base that it was compressed from.")
    check_places(places, inputs, session, layout, *packed.files)
    tell(inputs)
    hashes = inputs.inspect(session, packed)
    if notes.base != (hashes[str(base)] if notes.version == 1 else _content(inputs.base)):
        raise InputError(f"{factors}: it was compressed from another base than {base}; name the right one.")
    tensors = checkpoints.load(packed.files[0], "compress the expert again")

    def update(key: str) -> Tensor:
        return compression.expanded(key, inputs.suite.shapes[key], tensors, tensors.__getitem__)

    recipe = _recipe("expand", inputs, hashes, session, factors=str(factors), dtype=dtype)
    return sums.write(places, inputs.base, inputs.suite.selection, layout, update, recipe, session, "expanding")


def _asked(
    inputs: Inputs,
    out: Path | None,
    method: str,
    alpha: Alphas,
    session: Session,
    dtype: str,
    then: Sequence[str],
) -> tuple[Method, dict[float, Path], dict[str, TensorInfo]]:
    """Return what is asked of a merge: its method, the place of each alpha, and the layout of each file."""
    check_enough(len(inputs.experts))
    chosen, places = named("+".join((method, *then))), outputs.places(out or _SOMEWHERE, sums.numbers(alpha))
    layout = sums.layout_of(inputs.base, dtype)
    if out:
        check_places(places, inputs, session, layout)
    return chosen, places, layout


def _planned(inputs: Inputs, layout: Mapping[str, TensorInfo], places: Mapping[float, Path], session: Session) -> Plan:
    return planning.plan(
        inputs.suite,
        layout,
        len(places),
        rule=session.rule,
        workers=session.workers,
        folder=next(iter(places.values())).parent,
        notes=inputs.notes,
    )


def check_places(
    places: Mapping[float, Path],
    inputs: Inputs,
    session: Session,
    layout: Mapping[str, TensorInfo],
    *others: Path,
) -> None:
    """Raise InputError unless files of this layout may be written to all places, as ``outputs.check`` says."""
    needed = len(places) * sum(info.nbytes for info in layout.values())
    for place in places.values():
        check_place(place, outputs.WEIGHTS, inputs, session, needed, *others)


def tell(inputs: Inputs, *sentences: str) -> None:
    """Say what is to be known of the inputs, and further sentences, to where progress is shown."""
    for sentence in (*inputs.notes, *sentences):
        progress.say(sentence)


def _content(base: Checkpoint) -> str:
    """Return by what a TSV-C file knows its base, in whatever files that is."""
    return checkpoints.content_digest(base.layout, base.read)


def _recipe(
    command: str, inputs: Inputs, hashes: Mapping[str, str], session: Session, **arguments: object
) -> dict[str, object]:
    experts = {"expert": [str(expert.path) for expert in inputs.experts]} if inputs.experts else {}
    named = {"base": str(inputs.base.path)} | experts | inputs.options | arguments | asdict(session.rule)
    return {
        "command": command,
        "arguments": named | {"device": session.device.type},
        "sha256": dict(hashes),
        "solver": linalg.SOLVER,
        "versions": versions.of(versions.COMPUTING, session.device.type),
    }


def check_place(out: Path, suffix: str, inputs: Inputs, session: Session, needed: int = 0, *others: Path) -> None:
    """Raise InputError unless a file may be written to ``out``, as ``outputs.check`` says."""
    store = session.spectra.folder if session.spectra else None
    outputs.check(out, suffix, (*inputs.files, *others), store, needed)
