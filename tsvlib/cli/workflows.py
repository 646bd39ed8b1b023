# SPDX-License-Identifier: MIT
"""From checkpoints on disk to weights on disk: merged models and TSV-C files.

Everything is checked before heavy work. Weights carry a recipe: the command with its arguments, the SHA-256 of every
input and versions, from which ``tsvlib COMMAND --recipe FILE`` makes the same bytes again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from tsvlib import checkpoints, compression, linalg, merging, progress, versions
from tsvlib.adapters import open_expert
from tsvlib.checkpoints import Checkpoint
from tsvlib.cli import memory, models, outputs, planning, recipes, sums
from tsvlib.cli.models import File, PathLike
from tsvlib.cli.planning import Plan
from tsvlib.cli.recipes import Recipe
from tsvlib.cli.sessions import Session
from tsvlib.cli.sums import AS_BASE, Alphas
from tsvlib.errors import InputError
from tsvlib.methods import named
from tsvlib.methods.base import Method
from tsvlib.suites import CheckpointSuite
from tsvlib.taskvectors import check_enough

_WHAT_OPTIONS_NEED = {
    "split_qkv": "no tensor that is merged is called `in_proj_weight`",
    "convolutions": "no tensor that is merged has more than two dimensions",
}
"""Why options of the rule for task matrices may be without effect."""

_SOMEWHERE = Path("merged.safetensors")
"""Stands for a file whose place does not matter."""


class Inputs:
    """A base and the experts that were fine-tuned from it, which fit each other as far as headers tell.

    What ``leave_out`` names stays as in the base, and changes of each expert count times its weight. Those that
    ``followed``, a recipe, names are called as it calls them. InputError for files that cannot be read, or that differ
    in keys, shapes or types.
    """

    def __init__(
        self,
        base: Path,
        experts: Sequence[Path],
        followed: Recipe | None = None,
        *,
        leave_out: Sequence[str] = (),
        weights: Sequence[float] = (),
    ) -> None:
        self.base = checkpoints.open_checkpoint(base)
        self.experts = tuple(open_expert(path, self.base) for path in experts)
        self.suite = CheckpointSuite(self.base, self.experts, leave_out=leave_out, weights=weights)
        given = {"leave_out": list(leave_out), "weights": list(weights)}
        self.options = {name: value for name, value in given.items() if value}
        self.followed = followed
        self._digests: dict[str, str] = {}

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every file that is read: what holds tensors, indexes, and those with the recipe."""
        every = [path for each in (self.base, *self.experts) for path in (*each.files, each.index)]
        return tuple(path for path in (*every, *(self.followed.files if self.followed else ())) if path)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences about what was chosen of several things, and about names that were read as others."""
        return (*(note for each in (self.base, *self.experts) for note in each.notes), *self.suite.selection.notes)

    def inspect(self, session: Session, *others: Checkpoint) -> dict[str, str]:
        """Return the SHA-256 of every input and of ``others`` by its path.

        Bytes are read once: afterwards a file that changes is refused as soon as a tensor is read. InputError for NaN
        or Inf in what an expert changed.
        """
        every = (self.base, *self.experts, *others)
        if fresh := [checkpoint for checkpoint in every if str(checkpoint.path) not in self._digests]:
            with session.over(lambda each: each.inspect(), fresh, "checking inputs") as found:
                seen = dict(zip(fresh, found, strict=True))
            self._digests |= {str(each.path): inspection.sha256 for each, inspection in seen.items()}
            self.suite.check({each: inspection.unsound for each, inspection in seen.items()})
        return dict(self._digests)


@memory.planned
def merge(
    inputs: Inputs,
    out: PathLike,
    method: str,
    alpha: Alphas,
    session: Session,
    dtype: str = AS_BASE,
    then: Sequence[str] = (),
) -> dict[Path, str]:
    """Write base + alpha * update of a merging method to ``out``, in the base's types or all in ``dtype``.

    ``out`` is a file, or a folder as ``models.places`` says; several alphas give as many in one pass, beside it.
    Processes of ``then`` change the update, one after the other. Tensors are read, merged and written one by one.
    Returns the digest of every model.

    Raises:
        InputError: there are fewer than two experts, no such method, an alpha that is not finite, unsuitable inputs,
            values that their type cannot hold, too little space, or a place that cannot be written.
    """
    chosen, places = _asked(inputs, out, method, alpha, session, dtype, then)
    tell(inputs, session, _planned(inputs, places, session).brief)
    hashes = inputs.inspect(session)
    function = chosen.bind(inputs.suite)

    def update(key: str) -> Tensor:
        return merging.update(function, inputs.suite, key, session)

    recipe = recipe_of("merge", inputs, hashes, session, method=chosen.name.replace("_", "-"), dtype=dtype)
    return sums.write(places, inputs.suite.selection, update, recipe, session, "merging")


def plan(
    inputs: Inputs,
    out: PathLike | None,
    method: str,
    alpha: Alphas,
    session: Session,
    dtype: str = AS_BASE,
    then: Sequence[str] = (),
) -> Plan:
    """Return what ``merge`` would do and take; InputError as far as headers tell, and for ``out`` if it is given."""
    _, places = _asked(inputs, out, method, alpha, session, dtype, then)
    return _planned(inputs, places, session)


@memory.planned
def compress(inputs: Inputs, out: Path, rank: str, dtype: str, session: Session) -> str:
    """Write the only expert of ``inputs`` as a TSV-C file (see ``tsvlib.compression``) and return its digest."""
    kept = compression.Rank.parse(rank)
    factors = sums.type_of(dtype)
    check_place(out, outputs.WEIGHTS, inputs, session)
    compression.check_names(inputs.suite.shapes, str(inputs.base.path))
    tell(inputs, session)
    hashes = inputs.inspect(session)

    def compressed(key: str) -> dict[str, Tensor]:
        return compression.compressed(inputs.suite, key, kept, factors, session)

    with session.over(compressed, list(inputs.suite.shapes), "compressing") as parts:
        tensors = {name: tensor for part in parts for name, tensor in part.items()}
    notes = compression.Notes(compression.VERSION, _content(inputs.base), inputs.suite.shapes)
    recipe = recipe_of("compress", inputs, hashes, session, rank=rank, dtype=dtype)
    metadata = checkpoints.for_loaders({compression.FORMAT: notes.text})
    return checkpoints.save(out, tensors, recipe, metadata=metadata)


@memory.planned
def expand(
    inputs: Inputs, factors: Path, out: PathLike, alpha: Alphas, session: Session, dtype: str = AS_BASE
) -> dict[Path, str]:
    """Write base + alpha * the task vector of a TSV-C file to ``out``, as ``merge`` does; experts play no part.

    InputError when the factors are damaged, are no TSV-C file or belong to another base.
    """
    compression.check_names(inputs.suite.shapes, str(inputs.base.path))
    packed = checkpoints.open_checkpoint(factors)
    notes = compression.Notes.parse(packed.metadata.get(compression.FORMAT, ""), str(factors))
    base, places = inputs.base.path, _places(inputs, out, alpha, dtype)
    if notes.shapes != inputs.suite.shapes:
        raise InputError(f"{factors}: its tensors are not those of {base}; name the base that it was compressed from.")
    _check_places(places, inputs, session, *packed.files)
    tell(inputs, session)
    hashes = inputs.inspect(session, packed)
    if notes.base != (hashes[str(base)] if notes.version == 1 else _content(inputs.base)):
        raise InputError(f"{factors}: it was compressed from another base than {base}; name the right one.")
    tensors = checkpoints.load(packed.files[0], "compress the expert again")

    def update(key: str) -> Tensor:
        return compression.expanded(key, inputs.suite.shapes[key], tensors, tensors.__getitem__)

    recipe = recipe_of("expand", inputs, hashes, session, [packed], dtype=dtype)
    return sums.write(places, inputs.suite.selection, update, recipe, session, "expanding")


def _asked(
    inputs: Inputs,
    out: PathLike | None,
    method: str,
    alpha: Alphas,
    session: Session,
    dtype: str,
    then: Sequence[str],
) -> tuple[Method, dict[float, File]]:
    """Return what is asked of a merge: its method, and the place of each alpha."""
    check_enough(len(inputs.experts))
    chosen, places = named("+".join((method, *then))), _places(inputs, _SOMEWHERE if out is None else out, alpha, dtype)
    if out is not None:
        _check_places(places, inputs, session)
    return chosen, places


def _places(inputs: Inputs, out: PathLike, alpha: Alphas, dtype: str) -> dict[float, File]:
    layout = sums.layout_of(inputs.base, dtype)
    return models.places(out, sums.numbers(alpha), inputs.base, layout, None if dtype == AS_BASE else dtype)


def _planned(inputs: Inputs, places: Mapping[float, File], session: Session) -> Plan:
    place = next(iter(places.values()))
    return planning.plan(
        inputs.suite,
        place.layout,
        len(places),
        rule=session.rule,
        workers=session.workers,
        folder=place.path.parent,
        notes=_notes(inputs, session),
    )


def _check_places(places: Mapping[float, File], inputs: Inputs, session: Session, *others: Path) -> None:
    """Raise InputError unless models may be written to all places, as ``outputs`` says."""
    needed = sum(place.nbytes for place in places.values())
    for place in places.values():
        place.check((*inputs.files, *others), session.store, needed)


def tell(inputs: Inputs, session: Session, *sentences: str) -> None:
    """Say what is to be known of the inputs, and further sentences, to where progress is shown."""
    for sentence in (*_notes(inputs, session), *sentences):
        progress.say(sentence)


def _notes(inputs: Inputs, session: Session) -> tuple[str, ...]:
    """Return the notes of the inputs and one for each option that splits or adds no task matrix of theirs."""
    rule, suite = session.rule, inputs.suite
    merged = [(key, suite.shapes[key]) for key in suite.selection.merged]
    vain = [
        f"--{option.replace('_', '-')} changes nothing: {lacking}."
        for option, lacking in _WHAT_OPTIONS_NEED.items()
        if getattr(rule, option)
        and all(rule.parts(*each) == replace(rule, **{option: False}).parts(*each) for each in merged)
    ]
    return (*inputs.notes, *vain)


def _content(base: Checkpoint) -> str:
    """Return by what a TSV-C file knows its base, in whatever files that is."""
    return checkpoints.content_digest(base.layout, base.read)


def recipe_of(
    command: str,
    inputs: Inputs,
    hashes: Mapping[str, str],
    session: Session,
    factors: Sequence[Checkpoint] = (),
    **arguments: object,
) -> dict[str, object]:
    """Return what a file records of how it was made, from which the same command makes it again."""
    named = {"base": [inputs.base], "expert": inputs.experts, "factors": factors}
    return {
        "command": command,
        "arguments": inputs.options | arguments | asdict(session.rule) | {"device": session.device.type},
        "inputs": recipes.entries(named, hashes, inputs.followed),
        "solver": linalg.SOLVER,
        "versions": versions.of(versions.COMPUTING, session.device.type),
    }


def check_place(out: Path, suffix: str, inputs: Inputs, session: Session) -> None:
    """Raise InputError unless a file may be written to ``out``, as ``outputs.check`` says."""
    outputs.check(out, suffix, inputs.files, session.store)
