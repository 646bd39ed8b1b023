# SPDX-License-Identifier: MIT
"""Random inputs of the checks, in float32, which a seed decides: what one class computed is of no use to the next."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from compendium.course import answers

MODEL = {
    "visual.proj": (6, 4),
    "mlp.weight": (5, 7),
    "text_projection": (4, 4),
    "ln.weight": (4,),
    "conv1.weight": (2, 1, 3, 3),
}
"""The tensors of a model that is small and yet has every kind of them."""

INDEPENDENT = 0.15
"""The least singular value that the vectors of all tasks side by side may have."""


class Inputs:
    """Draws inputs, one after the other."""

    def __init__(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)

    def whole(self, least: int, most: int) -> int:
        """Return a whole number between two others, both of them included."""
        return int(torch.randint(least, most + 1, (), generator=self._random))

    def number(self, least: float | int, most: float | int) -> float:
        """Return a number between two others."""
        return least + (most - least) * float(torch.rand((), generator=self._random))

    def normal(self, *shape: int) -> Float32[Tensor, "..."]:
        """Return a tensor of independent normal numbers."""
        return torch.randn(shape, generator=self._random)

    def unit(self, size: int) -> Float32[Tensor, " size"]:
        """Return a vector of length one."""
        return torch.nn.functional.normalize(self.normal(size), dim=0)

    def orthonormal(self, rows: int, columns: int) -> Float32[Tensor, "rows columns"]:
        """Return a matrix with orthonormal columns, at most as many as rows."""
        q: Tensor = torch.linalg.qr(self.normal(rows, columns).double()).Q
        return q.float()

    def matrix(self, rows: int, columns: int) -> Float32[Tensor, "rows columns"]:
        """Return a matrix whose singular values are larger than one and well apart from each other."""
        rank = min(rows, columns)
        s = 0.6 + 0.55 * torch.arange(rank, 0, -1) + 0.2 * torch.rand(rank, generator=self._random)
        return (self.orthonormal(rows, rank) * s) @ self.orthonormal(columns, rank).mT

    def shapes(self) -> Iterator[tuple[str, int, int]]:
        """Yield a square shape first, then a tall and a wide one, each with its name."""
        for kind, further_rows, further_columns in (("square", 0, 0), ("tall", 6, 0), ("wide", 0, 6)):
            short = self.whole(7, 9)
            rows, columns = short + further_rows, short + further_columns
            yield f"a {kind} {rows} x {columns} matrix", rows, columns

    def weights(self, shapes: Mapping[str, Sequence[int]] = MODEL) -> dict[str, Float32[Tensor, "..."]]:
        """Return the weights of a model with tensors of these shapes."""
        return {key: self.normal(*shape) for key, shape in shapes.items()}

    def task_matrices(self, n_tasks: int, rows: int, columns: int) -> list[Float32[Tensor, "rows columns"]]:
        """Return task matrices whose singular vectors are so far from dependent that float32 orthogonalises them."""
        while True:
            found = [self.matrix(rows, columns) for _ in range(n_tasks)]
            if answers.least_independent(found) > INDEPENDENT:
                return found

    def task_vectors(
        self, n_tasks: int, shapes: Mapping[str, tuple[int, ...]] = MODEL
    ) -> list[dict[str, Float32[Tensor, "..."]]]:
        """Return the task vectors of models with tensors of these shapes; matrices are as above."""
        found: dict[str, list[Tensor]] = {
            key: self.task_matrices(n_tasks, *shape)
            if len(shape) == 2
            else [self.normal(*shape) for _ in range(n_tasks)]
            for key, shape in shapes.items()
        }
        return [{key: tensors[task] for key, tensors in found.items()} for task in range(n_tasks)]

    def cosine(self) -> float:
        """Return the cosine of an angle that is neither close to zero nor close to a right one, of either sign."""
        return self.number(0.3, 0.8) * (1 if self.whole(0, 1) else -1)


def double(*tensors: Float[Tensor, "..."]) -> list[Tensor]:
    """Return tensors in float64, in which answers are computed."""
    return [x.double() for x in tensors]
