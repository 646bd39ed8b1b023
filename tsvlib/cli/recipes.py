# SPDX-License-Identifier: MIT
"""Recipes: how a file of weights was made, without where, and its inputs found again by what they hold.

A recipe names each input, its bytes and their SHA-256, but no folder. So the same inputs give the same recipe wherever
they lie, and nobody learns from it how somebody else's disk is laid out.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tsvlib import adapters, checkpoints, files, progress
from tsvlib.checkpoints import Checkpoint, hub
from tsvlib.errors import InputError

REMEDY = "name a file that this command wrote"
ALONE = ("base", "factors")
"""What but one input of a command can be, and the names of their options."""
ROLES = (*ALONE, "expert")
"""What an input is to a command, and the name of its option."""


class Input(NamedTuple):
    """An input as a recipe names it: its own name, the SHA-256 of ``Checkpoint.inspect``, and its size in bytes."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Recipe:
    """The recipe of what stands in ``path``: its command, settings and inputs by their role, and the digest of all."""

    path: Path
    files: tuple[Path, ...]
    command: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, tuple[Input, ...]]
    digest: str

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Read the recipe of a file of weights or of a folder with them; InputError when there is none."""
        held = checkpoints.files_of(adapters.tensors_of(path))
        found = checkpoints.recipe(held[0], REMEDY)
        match found:
            case {"command": str(command), "arguments": dict(settings), "inputs": dict(named)}:
                inputs = {role: tuple(map(_input, each)) for role, each in named.items() if isinstance(each, list)}
                sound = inputs.keys() == named.keys() <= set(ROLES) and None not in sum(inputs.values(), ())
                if sound and all(len(inputs.get(role, ())) <= 1 for role in ALONE):
                    digest = checkpoints.combined([checkpoints.digest(file, REMEDY) for file in held])
                    return cls(path, held, command, settings, inputs, digest)  # type: ignore[arg-type]
        raise InputError(f"{path}: its recipe does not say which inputs it takes; {REMEDY}.")


def entries(
    inputs: Mapping[str, Sequence[Checkpoint]], digests: Mapping[str, str], followed: Recipe | None
) -> dict[str, list[dict[str, object]]]:
    """Return what a recipe says of inputs by their role, where ``digests`` has the SHA-256 of each by its path.

    One that a recipe is followed for is called as that one calls it.
    """
    known = [each for every in followed.inputs.values() for each in every] if followed else []

    def entry(checkpoint: Checkpoint) -> dict[str, object]:
        digest = digests[str(checkpoint.path)]
        same = next((each for each in known if each.sha256 == digest), None)
        if same:
            # Another one of the same content has a name of its own.
            known.remove(same)
        return Input(same.name if same else _spelt(checkpoint.name), digest, checkpoint.nbytes)._asdict()

    return {role: [entry(each) for each in every] for role, every in inputs.items() if every}


class Search:
    """The inputs of a recipe among the checkpoints in some folders and all that lies below them."""

    def __init__(self, recipe: Recipe, folders: Sequence[Path]) -> None:
        self._recipe, self._folders = recipe, folders
        self._digests: dict[Path, str] = {}

    def found(self, role: str) -> list[Path]:
        """Return the paths of the inputs of one role, in their order.

        InputError where the recipe names none, a folder cannot be looked into, or an input is not there.
        """
        wanted = self._recipe.inputs.get(role, ())
        if not wanted:
            raise InputError(f"{self._recipe.path}: its recipe names no {role}; name it with --{role}.")
        places: dict[str, Path] = {}
        changed: dict[str, Path] = {}
        for path in self._candidates({each.name for each in wanted}):
            lacking = [each for each in wanted if each.sha256 not in places]
            if not lacking:
                break
            digest = self._digest(path, {each.bytes for each in lacking})
            for each in lacking:
                if each.sha256 == digest:
                    places[digest] = path
                elif each.name == _called(path):
                    changed.setdefault(each.sha256, path)
        for each in wanted:
            if each.sha256 not in places:
                raise InputError(self._lacking(role, each, changed.get(each.sha256)))
        return [places[each.sha256] for each in wanted]

    def _lacking(self, role: str, each: Input, changed: Path | None) -> str:
        remedy = f"name its folder with --look-in, or the file itself with --{role}"
        if changed:
            return f"{changed}: the file is not the one that the recipe names; restore it, or {remedy}."
        places = " or ".join(map(str, self._folders))
        what = f"no checkpoint in {places} has the SHA-256 of {each.name!r} ({each.sha256[:12]})"
        return f"{self._recipe.path}: {what}; {remedy}."

    def _candidates(self, names: Collection[str]) -> Iterator[Path]:
        """Yield checkpoints, those of the right names first in each folder, and near folders before those below."""
        # What was fetched from the hub lies in its cache.
        waiting = [*self._folders, *(hub.cached(name) for name in sorted(names) if "/" in name)]
        while waiting:
            folder = waiting.pop(0)
            held = _entries(folder, folder in self._folders)
            every = sorted(held, key=lambda each: (each.name not in names, each.name))
            yield from (folder / each.name for each in every if checkpoints.is_named_so(each.name))
            below = (each for each in every if each.is_dir(follow_symlinks=False))
            waiting += [folder / each.name for each in below if not each.name.startswith(".")]

    def _digest(self, path: Path, sizes: Collection[int]) -> str | None:
        """Return the SHA-256 of a checkpoint of one of these sizes, and None of any other."""
        if path not in self._digests:
            # What cannot be read is not what is looked for.
            with suppress(InputError, OSError):
                held = adapters.files_of(path)
                if sum(file.stat().st_size for file in held) in sizes:
                    self._digests[path] = _sha256(held)
        return self._digests.get(path)


def _called(path: Path) -> str:
    """Return what a checkpoint is called: an adapter, by its folder."""
    return path.parent.name if path.name in checkpoints.ADAPTERS else path.name


def _sha256(held: Sequence[Path]) -> str:
    with progress.track(len(held), f"comparing {held[0].name}", delay=2.0) as bar:
        digests = []
        for file in held:
            digests.append(files.sha256(file))
            bar.update()
    return checkpoints.combined(digests)


def _entries(folder: Path, given: bool) -> list[os.DirEntry[str]]:
    """Return what a folder holds, or nothing where that is hidden; InputError where it was given to be looked into."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        if given:
            raise files.unreadable(folder, error) from error
        return []


def _input(entry: object) -> Input | None:
    match entry:
        case {"name": str(name), "sha256": str(sha256), "bytes": int(size)}:
            return Input(name, sha256, size)
    return None


def _spelt(name: str) -> str:
    """Return a name in UTF-8, which not every name of a file is."""
    return os.fsencode(name).decode("utf-8", "replace")
