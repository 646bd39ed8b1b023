# SPDX-License-Identifier: MIT
"""What a world answers: which tasks, their inputs and heads, which base weights and experts, how to encode.

Studies, tables and notebooks ask a world through this protocol and never which one it is; ``world`` in a profile names
the module that builds it, here or in a package of somebody else's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from compendium import provenance
from compendium.profiles import Profile
from compendium.worlds.findings import Finding
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@runtime_checkable
class Task(Protocol):
    """One classification task."""

    @property
    def name(self) -> str:
        """Return what tables call it."""

    @property
    def title(self) -> str:
        """Return what figures and prose call it."""

    @property
    def classes(self) -> Sequence[str]:
        """Return the names of its classes in the order of labels."""

    @property
    def source(self) -> str:
        """Return where its inputs come from."""

    @property
    def licence(self) -> str:
        """Return the licence of the source."""

    @property
    def real(self) -> bool:
        """Tell whether its inputs were found and not made for it."""


@runtime_checkable
class Inputs(Protocol):
    """The inputs of one split, of which a range or chosen ones are read at a time; a tensor is one of these."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, chosen: "slice | Int64[Tensor, ' n']", /) -> Tensor:
        """Return some of them, side by side in the first dimension."""


@dataclass(frozen=True)
class Split:
    """Inputs, labels, the SHA-256 of both, and what each input shows, by which splits are kept apart."""

    inputs: Inputs
    labels: Int64[Tensor, " n"]
    digest: str
    sources: Sequence[str]


Features = Callable[[Tensor], Float[Tensor, "n embed"]]
"""From inputs to their normalised features, by the weights of one model."""


@runtime_checkable
class Encoder(Protocol):
    """What turns weights and inputs into features."""

    batch: int
    """Inputs to encode at once."""
    digest: str
    """Of all that decides features besides weights and inputs."""

    def features(self, state: StateDict) -> Features:
        """Return what encodes inputs with these weights, without a graph; threads may share it."""

    def differentiable(self) -> Callable[[StateDict, Tensor], Float[Tensor, "n embed"]]:
        """Return what encodes inputs with given weights and keeps a graph for these; no two threads may share it."""


@dataclass(frozen=True)
class Need:
    """One thing that a run rests on, or that it makes and keeps, and what looking for it gave.

    ``kind`` is what it is, in the singular, such as a checkpoint; ``of`` is the backbone, where it belongs to one.
    Things of one kind that are told in the same words share a row. ``can_fetch`` tells what ``make fetch`` gets.
    """

    kind: str
    name: str
    finding: Finding
    of: str = ""
    can_fetch: bool = False


@runtime_checkable
class World(Protocol):
    """Where tasks, splits, backbones, experts and heads come from; everything is a function of the profile alone."""

    inputs: str
    """What its inputs are called, such as images."""
    about: str
    """What a reader must know of its tasks and their sources, in a few sentences of Markdown."""
    tasks: Sequence[Task]
    """All tasks of the profile in their fixed order."""
    stated: str
    """What tables must say of experts and inputs whose versions differ, in a sentence; empty where there is but one."""

    def split(self, task: str, name: SplitName) -> Split:
        """Return one split of a task."""

    def examples(self, task: str) -> "UInt8[Tensor, 'n 3 rows cols'] | Sequence[str]":
        """Return the first training inputs of a task as people see them: as images, or as texts."""

    def base(self, backbone: str) -> Path:
        """Return the checkpoint from which the experts of a backbone start, with just the tensors that experts have."""

    def expert(self, backbone: str, task: str, seed: int) -> Path:
        """Return the checkpoint of an expert; InputError where it is missing or known to be damaged."""

    def head(self, backbone: str, task: str) -> Float[Tensor, "classes embed"]:
        """Return the frozen classifier of a task: logits are its products with features."""

    def encoder(self, backbone: str) -> Encoder:
        """Return the encoder of a backbone."""

    def place(self, key: str) -> tuple[int, str]:
        """Return the number of a tensor's layer, -1 outside of these, and its name in there."""

    def remedy(self) -> str:
        """Return what to do about an expert that is missing or broken, as the end of a sentence."""

    def needs(self) -> Iterator[Need]:
        """Yield all that a run rests on and does not make itself, and what it makes and keeps.

        This is quick: names, sizes, headers and counts are looked at. What is missing or wrong is yielded, not raised.
        """


@cache
def world_of(profile: Profile) -> World:
    """Return the world that a profile names; InputError when there is no such module, or it builds no world."""
    try:
        module = import_module(profile.world)
    except ModuleNotFoundError as error:
        if not profile.world.startswith(str(error.name)):
            raise
        raise InputError(
            f"profile {profile.name}: there is no module {profile.world!r} for its world; correct 'world'."
        ) from error
    if not hasattr(module, "build"):
        raise InputError(f"profile {profile.name}: {profile.world} has no function 'build' that makes a world; add it.")
    provenance.name_code(profile.world)
    world: World = module.build(profile)
    provenance.state(world.stated)
    return world


def suite(profile: Profile, n_tasks: int) -> tuple[str, ...]:
    """Return the names of the first ``n_tasks`` tasks of a profile's world, in order."""
    names = tuple(task.name for task in world_of(profile).tasks)
    if not 1 <= n_tasks <= len(names):
        raise InputError(f"profile {profile.name}: a suite has 1 to {len(names)} tasks, not {n_tasks}.")
    return names[:n_tasks]
