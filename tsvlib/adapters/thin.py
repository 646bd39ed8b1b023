# SPDX-License-Identifier: MIT
"""Matrices of low rank as products of a tall and a wide one, such as LoRA makes: decomposed without being multiplied.

With tall = Q R and wideᵀ = P L, the product is Q (R Lᵀ) Pᵀ: its singular components are those of the small matrix
in the middle. All of this is done in float64, which costs little at that size.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib import devices, linalg
from tsvlib.linalg import Factors
from tsvlib.precision import scaled, unscaled, wider


class Thin(NamedTuple):
    """A matrix as tall @ wide, with the columns of ``tall`` and the rows of ``wide`` as its rank at most."""

    tall: Float[Tensor, "rows rank"]
    wide: Float[Tensor, "rank columns"]

    @property
    def rank(self) -> int:
        """Return the rank at most."""
        return self.tall.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Return the type to compute the product in: float32, or float64 if one of the two is."""
        return wider(self.tall.dtype, self.wide.dtype)

    def product(self) -> Float[Tensor, "rows columns"]:
        """Return the matrix itself, which takes as much memory as any other of its shape."""
        return self.tall.to(self.dtype) @ self.wide.to(self.dtype)

    def part(self, number: int, of: int) -> "Thin":
        """Return one of several equal parts that lie one above the other."""
        return Thin(self.tall.chunk(of)[number], self.wide)

    def to(self, device: torch.device) -> "Thin":
        """Return the same on a device."""
        return Thin(self.tall.to(device), self.wide.to(device))


def leading(thin: Thin, k: int) -> Factors:
    """Return the k leading singular components of a product, or as many as its rank at most.

    In the type of the product. What ``linalg.leading`` has beyond that rank is zero, and so is here what only rounding
    makes of factors that cancel. InputError when k is less than one, or for NaN and Inf.

    >>> leading(Thin(torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0, 2.0, 0.0]])), 2).s
    tensor([10.])
    """
    with devices.exact():
        (tall, up), (wide, across) = scaled(thin.tall.double()), scaled(thin.wide.double())
        q, r = torch.linalg.qr(tall)
        p, left = torch.linalg.qr(wide.mT)
        u, s, vh = linalg.truncate(linalg.svd(r @ left.mT), k)
        noise = thin.rank * torch.finfo(s.dtype).eps * r.norm() * left.norm()
        s = unscaled(unscaled(s.masked_fill(s <= noise, 0)[None], up), across)[0]
        return Factors(*(part.to(thin.dtype).contiguous() for part in (q @ u, s, vh @ p.mT)))
