# SPDX-License-Identifier: MIT
"""What studies work on: the experts of one backbone and one seed, and what everything that is measured starts from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from compendium import paths
from compendium.profiles import Profile
from compendium.study.evaluation import Evaluator, workers
from compendium.worlds import experts
from compendium.worlds.mini import datasets
from compendium.worlds.mini.datasets import SplitName
from tsvlib import compression, devices, merging, progress, taskvectors
from tsvlib.compression import Compressed, Rank
from tsvlib.devices import Item, Result
from tsvlib.layers import Computing
from tsvlib.methods.base import Method
from tsvlib.store import Spectra
from tsvlib.taskvectors import TaskVector

Row = dict[str, str | int | float]
"""One observation of a study."""


@dataclass(frozen=True)
class Run:
    """All experts of one backbone and seed, with the evaluator that measures them."""

    profile: Profile
    evaluator: Evaluator
    seed: int

    @cached_property
    def experts(self) -> dict[str, dict[str, Tensor]]:
        """Encoder weights by task, in the order of the tasks."""
        tasks, backbone = datasets.suite(self.profile.tasks), self.evaluator.backbone.name
        return {task: experts.load(self.profile, backbone, task, self.seed) for task in tasks}

    @cached_property
    def task_vectors(self) -> dict[str, TaskVector]:
        """What fine-tuning changed, by task."""
        base = self.evaluator.base
        return {task: taskvectors.task_vector(base, expert, task) for task, expert in self.experts.items()}

    @cached_property
    def spectra(self) -> Spectra:
        """The store in which every task matrix of the profile is decomposed once, for all suites and methods."""
        return Spectra(paths.cache(self.profile.name) / "spectra", whole=True)

    @cached_property
    def factors(self) -> dict[str, Compressed]:
        """Task vectors with every task matrix as its full singular value decomposition, by task."""
        return {
            task: compression.compress(vector, Rank(fraction=1.0), workers=workers(), spectra=self.spectra)
            for task, vector in self.task_vectors.items()
        }

    def merged(self, method: Method, n_tasks: int) -> TaskVector:
        """Return the update of a merging method for the first ``n_tasks`` experts."""
        return self.merged_from(method, datasets.suite(n_tasks))

    def merged_from(self, method: Method, tasks: Sequence[str]) -> TaskVector:
        """Return the update of a merging method for the experts of ``tasks``."""
        vectors = [self.task_vectors[task] for task in tasks]
        return merging.merged_update(vectors, method, workers=workers(), computing=Computing(spectra=self.spectra))

    def individual(self, split: SplitName, tasks: Sequence[str], most: int | None = None) -> dict[str, float]:
        """Return the accuracy of each expert on its own task, on all or at most the first ``most`` images."""
        states, keys = self.experts, {task: (task, split, most) for task in tasks}
        missing = [task for task, key in keys.items() if key not in self._individual]
        measured = each(lambda task: self.evaluator.accuracy(states[task], *keys[task]), missing)
        self._individual.update(zip([keys[task] for task in missing], measured, strict=True))
        return {task: self._individual[key] for task, key in keys.items()}

    @cached_property
    def _individual(self) -> dict[tuple[str, SplitName, int | None], float]:
        return {}

    def truncated(self, jobs: Sequence[tuple[str, float]]) -> list[tuple[float, int]]:
        """Return for each task and share of components its expert's test accuracy with these alone, and their bytes."""
        factors = self.factors

        def measured(job: tuple[str, float]) -> tuple[float, int]:
            kept = factors[job[0]].shorten(Rank(fraction=job[1]))
            state = kept.expand().apply(self.evaluator.base)
            return self.evaluator.accuracy(state, job[0], "test"), kept.stored_bytes

        return each(measured, jobs)


def of(profile: Profile) -> Iterator[Run]:
    """Yield the experts of each backbone and seed of the profile; only one backbone is in memory at a time."""
    for backbone in profile.backbones:
        evaluator = Evaluator(profile, backbone.name)
        for seed in backbone.seeds:
            yield Run(profile, evaluator, seed)


def cells(profile: Profile, label: str) -> Iterator[tuple[Run, int]]:
    """Yield every run with every number of tasks, and show how far that is."""
    total = sum(len(backbone.seeds) for backbone in profile.backbones) * len(profile.suites)
    with progress.track(total, label) as bar:
        for run in of(profile):
            for n_tasks in profile.suites:
                yield run, n_tasks
                bar.update()


def each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return the value of a function for each item, in order; several at once."""
    return list(devices.ordered(function, items, workers()))
