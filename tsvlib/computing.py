# SPDX-License-Identifier: MIT
"""How to look at tensors and compute with them."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tsvlib import devices
from tsvlib.linalg import Factors
from tsvlib.taskvectors import MatrixRule

CPU = torch.device("cpu")
PAPER = MatrixRule()


@runtime_checkable
class Decompositions(Protocol):
    """What decomposes task matrices, such as the store ``tsvlib.store.Spectra``, which does so once for all."""

    def factors(self, delta: Tensor, k: int) -> Factors:
        """Return the k leading singular components of a matrix, or all of them when there are fewer."""


@dataclass(frozen=True)
class Computing:
    """How to look at tensors and compute with them: what counts as a matrix, on which device, with which store."""

    rule: MatrixRule = PAPER
    device: torch.device = CPU
    spectra: Decompositions | None = None

    def __post_init__(self) -> None:
        """Make the device ready for threads."""
        devices.prepare(self.device)


ORDINARY = Computing()
"""As the paper's code does it, on the CPU."""
