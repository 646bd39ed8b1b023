# SPDX-License-Identifier: MIT
"""Profiles: one code path, several sizes.

A profile is the file ``data/<name>/profile.toml``. It is read strictly: a key too many, a key too few or
a value of the wrong type is an error, so that a typing mistake can never pass as a default.
"""

import dataclasses
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from compendium import paths, provenance
from tsvlib.errors import InputError

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""What backbones may be called, so that no name holds a character by which ``Profile.part`` joins them."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Number of inputs per task in each split, and how many of a suite's validation inputs judge an alpha at most.

    Of these, every task of the suite gives the same number, its first ones.
    """

    train: int
    validation: int
    test: int
    alpha: int


@dataclasses.dataclass(frozen=True)
class Backbone:
    """One model of the profile: its name, its label in figures, the published one it stands for, its experts' seeds."""

    name: str
    label: str
    counterpart: str
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """Hyperparameters by which every expert of the profile is trained."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    clip_norm: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """Everything that distinguishes one size of the paper from another.

    ``world`` is the module that answers for tasks, models and experts (see ``worlds.protocol``). ``device`` is where
    its encoders run if they can: "cpu", or "auto" for a GPU where there is one. ``suites`` lists how many of the first
    tasks are merged together, ``fractions`` the shares of the singular components in the low-rank curve, ``lambdas``
    the choices for a TALL mask. ``pretrained`` says whether weights ship with the backbones (otherwise they are
    random), ``assert_claims`` whether a notebook fails when the paper's claim does. ``part`` is empty, or the end of
    the names by which folders and lists of a part of the profile are told from those of the whole.
    """

    name: str
    title: str
    world: str
    device: Literal["cpu", "auto"]
    tasks: int
    suites: tuple[int, ...]
    samples: Samples
    backbones: tuple[Backbone, ...]
    finetuning: Finetuning
    fractions: tuple[float, ...]
    lambdas: tuple[float, ...]
    pretrained: bool
    assert_claims: bool
    part: str = ""

    def backbone(self, name: str) -> Backbone:
        """Return the backbone called ``name``; an unknown one is an InputError."""
        for backbone in self.backbones:
            if backbone.name == name:
                return backbone
        known = ", ".join(backbone.name for backbone in self.backbones)
        raise InputError(f"profile {self.name}: there is no backbone {name!r}; choose one of {known}.")

    def narrowed(self, backbones: str, suites: str) -> "Profile":
        """Return the profile with only some backbones and suites, in its own order, and the tasks of the largest suite.

        Both are names or numbers with spaces or commas between them; where there are none, all are kept. An unknown one
        is an InputError.
        """
        names, numbers = (list(dict.fromkeys(re.findall(r"[^\s,]+", text))) for text in (backbones, suites))
        kept = {self.backbone(name).name for name in names}
        chosen = {self._suite(number) for number in numbers}
        parts = {"backbones": names, "suites": numbers}
        return dataclasses.replace(
            self,
            backbones=tuple(each for each in self.backbones if each.name in kept or not names),
            suites=tuple(suite for suite in self.suites if suite in chosen or not numbers),
            tasks=max(chosen, default=self.tasks),
            part="".join(f"+{kind}-{','.join(given)}" for kind, given in parts.items() if given),
        )

    def _suite(self, number: str) -> int:
        if number not in map(str, self.suites):
            known = ", ".join(map(str, self.suites))
            raise InputError(f"profile {self.name}: there is no suite of {number} tasks; choose of {known}.")
        return int(number)

    def with_further_seeds(self, count: int) -> "Profile":
        """Return the profile with ``count`` seeds more for every backbone, above its largest; InputError below 0."""
        if count < 0:
            raise InputError(f"profile {self.name}: further seeds cannot be {count}; give 0 or more.")
        further = [
            dataclasses.replace(b, seeds=(*b.seeds, *range(max(b.seeds) + 1, max(b.seeds) + 1 + count)))
            for b in self.backbones
        ]
        return dataclasses.replace(self, backbones=tuple(further))

    def first_seeds(self) -> "Profile":
        """Return the profile with only the first seed of every backbone, for what is run once."""
        first = [dataclasses.replace(b, seeds=b.seeds[:1]) for b in self.backbones]
        return dataclasses.replace(self, backbones=tuple(first))

    def first_suite(self) -> "Profile":
        """Return the profile with only the first backbone, its first seed and the tasks of the first suite."""
        first = self.first_seeds()
        return dataclasses.replace(first, tasks=self.suites[0], suites=self.suites[:1], backbones=first.backbones[:1])


def folder(name: str) -> Path:
    """Return the folder that holds a profile's committed inputs: ``data/<name>``."""
    return paths.ROOT / "data" / name


def available() -> tuple[str, ...]:
    """Return the names of all profiles in alphabetical order."""
    return tuple(sorted(file.parent.name for file in (paths.ROOT / "data").glob("*/profile.toml")))


def load(name: str, backbones: str = "", suites: str = "") -> Profile:
    """Read the profile called ``name``, or only a part of it (see ``Profile.narrowed``).

    Anything unknown, missing or mistyped is an InputError.
    """
    if name not in available():
        raise InputError(f"there is no profile {name!r}; choose one of {', '.join(available())}.")
    file = folder(name) / "profile.toml"
    try:
        content = tomllib.loads(provenance.read(file).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not valid TOML ({error}); correct the file.") from error
    if "name" in content:
        raise InputError(f"{file}: unknown key 'name' (the folder names the profile); delete it.")
    if "part" in content:
        raise InputError(f"{file}: unknown key 'part' (who runs a profile chooses a part of it); delete it.")
    profile: Profile = built(Profile, content | {"name": name, "part": ""}, file)
    _check(profile, file)
    return profile.narrowed(backbones, suites)


def whole(profile: Profile) -> Profile:
    """Return the profile of which ``profile`` is a part, with the seeds that its file states, or itself."""
    return load(profile.name) if profile.part else profile


def left_out(profile: Profile) -> str:
    """Return a sentence on what a part leaves out, with a space before it, to end a caption; nothing of a whole.

    >>> left_out(load("mini", suites="8, 14"))
    ' Not run: 20 tasks.'
    """
    every = whole(profile)
    run = {backbone.name for backbone in profile.backbones}
    missing = [backbone.label for backbone in every.backbones if backbone.name not in run]
    suites = [str(suite) for suite in every.suites if suite not in profile.suites]
    missing += [f"{_listed(suites)} tasks"] if suites else []
    return f" Not run: {', '.join(missing)}." if missing else ""


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def built(kind: Any, value: Any, file: Path, where: str = "") -> Any:
    """Return a dataclass, tuple or plain value made of what a TOML file holds at the dotted key ``where``.

    Raises:
        InputError: a key is unknown or missing, or a value is not of its type, with file and key.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise InputError(f"{file}: {where!r} must be a table.")
        fields = {field.name: field.type for field in dataclasses.fields(kind)}
        for problem, keys in (("unknown", value.keys() - fields.keys()), ("missing", fields.keys() - value.keys())):
            if keys:
                key = _join(where, min(keys))
                raise InputError(f"{file}: {problem} key {key!r}; the keys are {', '.join(fields)}.")
        return kind(**{key: built(fields[key], value[key], file, _join(where, key)) for key in fields})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or not value:
            raise InputError(f"{file}: {where!r} must be a list with at least one entry.")
        return tuple(built(get_args(kind)[0], item, file, f"{where}[{i}]") for i, item in enumerate(value))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            known = ", ".join(map(repr, get_args(kind)))
            raise InputError(f"{file}: {where!r} must be one of {known}, not {value!r}.")
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InputError(f"{file}: {where!r} must be of type {kind.__name__}, not {value!r}.")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _check(profile: Profile, file: Path) -> None:
    """Raise an InputError where values of the right type contradict each other."""
    counts = [*dataclasses.astuple(profile.samples), profile.finetuning.epochs, profile.finetuning.batch_size]
    names = [backbone.name for backbone in profile.backbones]
    problems = {
        "suites: every suite needs 2 or more tasks and at most 'tasks' of them": not all(
            2 <= suite <= profile.tasks for suite in profile.suites
        ),
        "suites: state each once, in rising order": list(profile.suites) != sorted(set(profile.suites)),
        "samples.alpha: every task of the largest suite needs an input": profile.samples.alpha < max(profile.suites),
        "samples, epochs and batch size must be at least 1": min(counts) < 1,
        "lambdas must lie above 0, in rising order": min(profile.lambdas) <= 0
        or list(profile.lambdas) != sorted(set(profile.lambdas)),
        "fractions must lie above 0 and at most at 1": not all(0 < f <= 1 for f in profile.fractions),
        "two backbones share a name": len(set(names)) < len(names),
        "backbones: a name has letters, digits, '.', '-' and '_' alone": not all(map(NAME.fullmatch, names)),
    }
    for problem, present in problems.items():
        if present:
            raise InputError(f"{file}: {problem}.")
