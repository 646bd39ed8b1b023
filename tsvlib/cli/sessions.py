# SPDX-License-Identifier: MIT
"""How one command computes: on what, with how many workers, and showing how far it is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from tsvlib import devices, progress
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.store import Spectra

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

    @property
    def store(self) -> Path | None:
        """Return the folder that keeps decompositions, if there is one."""
        return self.spectra.folder if self.spectra else None

    @contextmanager
    def over(
        self, function: Callable[[Item], Result], items: Sequence[Item], label: str, key: Callable[[Item], str] = str
    ) -> Iterator[Iterator[Result]]:
        """Provide the value for each item, in order, and show how far it is; workers end with the block.

        InputError where LAPACK finds no answer, naming the tensor that the item is about by its ``key``.
        """

        def tried(item: Item) -> Result:
            try:
                return function(item)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
                trouble = "its task matrices cannot be decomposed, their numbers lie too far apart"
                remedy = f"train the expert whose weights have exploded again, or add `--leave-out {key(item)}`"
                raise InputError(f"`{key(item)}`: {trouble}; {remedy}.") from error

        def values() -> Iterator[Result]:
            for value in found:
                yield value
                bar.update()

        with progress.track(len(items), label) as bar, closing(devices.ordered(tried, items, self.workers)) as found:
            yield values()
