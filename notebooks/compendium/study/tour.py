# SPDX-License-Identifier: MIT
"""What the tour looks at: TSV-M of any rank, in one layer and as a whole model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from compendium.study import evaluation
from compendium.study.runs import Run
from tsvlib import linalg
from tsvlib.compression import Rank
from tsvlib.layers import Layer
from tsvlib.linalg import Factors
from tsvlib.methods import named, tsv
from tsvlib.methods.base import Method, layerwise
from tsvlib.taskvectors import TaskVector

METHOD = named("tsv_m")
REFERENCES = ("zero_shot", "individual")
"""The models between which a merged one lies: the base, and the expert of each task."""


class Look(NamedTuple):
    """One layer of a merged model, and how accurate the model is."""

    before: list[Factors]
    """Of each task the components that are merged, as they were found."""
    after: list[Factors]
    """The same after the vectors of all tasks have been made orthonormal together."""
    most: int
    """How many components a task has in this layer."""
    accuracies: dict[str, dict[str, float]]
    """Of the references and the merged model, by method and task, on validation inputs, in [0, 1]."""


@dataclass(frozen=True)
class Tour:
    """The experts of the first tasks of a run, merged as somebody wants to look at them."""

    run: Run
    n_tasks: int

    def look(self, layer: str, rank: Rank, alpha: float) -> Look:
        """Return what TSV-M of a rank makes of one layer, and of the model.

        InputError, which lists those that there are, when ``layer`` is no task matrix.
        """
        vectors = [self.run.task_vector(task).matrix(layer) for task in self.tasks]
        whole = [linalg.svd(matrix) for matrix in vectors if matrix.any()]
        before = [kept(factors, rank) for factors in whole]
        merged = self.measured(self.update(rank).apply(self.run.evaluator.base, alpha))
        accuracies = self.references | {METHOD.name: merged}
        return Look(before, tsv.orthogonalised(before), min(vectors[0].shape), accuracies)

    def update(self, rank: Rank) -> TaskVector:
        """Return the update of TSV-M of a rank, which is merged once."""
        if rank not in self._updates:
            self._updates[rank] = self.run.merged(tsv_m(rank), self.n_tasks)
        return self._updates[rank]

    def measured(self, state: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the accuracy of some weights on the validation inputs of each task, in [0, 1]."""
        return self.run.evaluator.accuracies(state, self.tasks, "validation")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the names of the tasks."""
        return self.run.tasks(self.n_tasks)

    @cached_property
    def references(self) -> dict[str, dict[str, float]]:
        """Return the accuracies of the references, by method and task."""
        found = self.measured(self.run.evaluator.base), evaluation.shares(self.run.individual("validation", self.tasks))
        return dict(zip(REFERENCES, found, strict=True))

    @property
    def layers(self) -> dict[str, str]:
        """Return the task matrices in the order of the model's layers, by names that say where they are."""
        keys = [layer.key for layer in self.run.changed_matrices(self.tasks)]
        places = {key: self.run.evaluator.world.place(key) for key in keys}
        return {f"{number}: {matrix}" if number >= 0 else matrix: key for key, (number, matrix) in places.items()}

    @property
    def ranks(self) -> dict[str, Rank]:
        """Return ranks around one over the number of tasks, each twice the one before, up to all components."""
        around = (Fraction(2) ** step / self.n_tasks for step in range(-3, self.n_tasks.bit_length()))
        shares = [*(share for share in around if share < 1), Fraction(1)]
        return {f"{share} of all": Rank(fraction=float(share)) for share in shares}

    @cached_property
    def _updates(self) -> dict[Rank, TaskVector]:
        return {}


def tsv_m(rank: Rank) -> Method:
    """Return TSV-M that keeps as much of each task as ``rank`` says instead of one over the number of tasks."""

    def merge(layer: Layer) -> Tensor:
        if tsv.is_averaged(layer):
            return layer.mean()
        found = [rank.cut(factors) for factors in layer.factors(rank.count(min(layer.shape)))]
        return tsv.recomposed(layer, tsv.significant(found), linalg.polar_product)

    return replace(METHOD, bind=layerwise(merge))


def kept(factors: Factors, rank: Rank) -> Factors:
    """Return the components that a rank keeps of a task matrix."""
    return rank.cut(linalg.truncate(factors, rank.count(len(factors.s))))
