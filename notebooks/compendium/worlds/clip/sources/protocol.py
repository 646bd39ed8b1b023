# SPDX-License-Identifier: MIT
"""What a source of checkpoints answers; folders, backbones and tasks have the names of ``data/clip``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from compendium.worlds.findings import Finding
from tsvlib.checkpoints.layout import TensorInfo

Layout = Literal["open_clip", "transformers"]
"""How an image encoder names and cuts its tensors; ``layouts`` turns one into the other."""


@dataclass(frozen=True)
class Offer:
    """A file on the hub: its repository, and for each name that it may have there, where it is put here.

    The first name that the repository has is taken; whether letters are capitals does not count.
    """

    repository: str
    names: Mapping[str, Path]


@runtime_checkable
class Opened(Protocol):
    """Tensors on disk that are read one by one."""

    @property
    def layout(self) -> Mapping[str, TensorInfo]:
        """Return what is there, by name."""

    def read(self, key: str) -> Tensor:
        """Return one tensor in memory of its own."""


@runtime_checkable
class Source(Protocol):
    """Where somebody's checkpoints are and how they are read; a task of None means the base of all experts."""

    @property
    def name(self) -> str:
        """Return what ``data/clip/local.toml`` calls it."""

    @property
    def layout(self) -> Layout:
        """Return the layout of what it reads."""

    def files(self, folder: Path, backbone: str, task: str | None) -> Path:
        """Return the file of a checkpoint below a local folder, or where it will lie."""

    def offer(self, folder: Path, backbone: str, task: str | None) -> Offer | None:
        """Return where the hub has that checkpoint, if it does."""

    def by_hand(self, folder: Path, backbone: str, task: str | None) -> str:
        """Return how to get that checkpoint without our help, as the end of a sentence."""

    def look(self, folder: Path, backbone: str, task: str | None) -> Finding:
        """Return whether a checkpoint is there, whole, and of that backbone; no number of its tensors is read."""

    def read(self, folder: Path, backbone: str, task: str | None) -> dict[str, Tensor]:
        """Return the tensors of an image encoder in float32, in the source's layout.

        Raises:
            InputError: with file and name, unless the tensors are just those of that backbone and finite.
        """

    def projection(self, folder: Path, backbone: str) -> Float[Tensor, "embed width"]:
        """Return what takes an encoder of transformers' layout to features, which is the base's for all experts.

        ValueError where the layout has it among the tensors of each encoder.
        """

    def head(self, folder: Path, backbone: str, task: str) -> Float[Tensor, "classes embed"] | None:
        """Return the classifier that the source keeps beside its experts, or None where there is no file of it."""
