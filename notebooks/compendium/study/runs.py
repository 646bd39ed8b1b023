# SPDX-License-Identifier: MIT
"""What studies work on: the experts of one backbone and one seed, and what everything that is measured starts from.

Experts stay on disk. In memory are the base, and of experts, updates and what is measured no more than one for each
worker, or one tensor of all experts, however many tasks there are; but task vectors that take no more than ``HELD``
together are read once.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from torch import Tensor

from compendium import engine, paths, provenance
from compendium.engine import Unit
from compendium.profiles import Profile
from compendium.study.adaptation import Unlabelled
from compendium.study.evaluation import Candidate, Evaluator, Hits, evaluator_of, workers
from compendium.worlds import protocol
from compendium.worlds.protocol import SplitName
from tsvlib import checkpoints, compression, devices, files, linalg, merging, progress, taskvectors
from tsvlib.compression import Rank
from tsvlib.computing import Computing
from tsvlib.devices import Item, Result
from tsvlib.errors import InputError
from tsvlib.layers import Layer, Suite, task_matrices
from tsvlib.methods.base import Method
from tsvlib.store import Spectra
from tsvlib.suites import CheckpointSuite, MemorySuite
from tsvlib.taskvectors import StateDict, TaskVector

HELD = 2**29
"""Bytes up to which all task vectors of a run stay in memory."""

Row = dict[str, str | int | float]
"""One observation of a study."""


@dataclass(frozen=True)
class Run:
    """All experts of one backbone and seed, with the evaluator that measures them."""

    profile: Profile
    evaluator: Evaluator
    seed: int

    @property
    def backbone(self) -> str:
        """Return the name of the backbone."""
        return self.evaluator.backbone.name

    def tasks(self, n_tasks: int) -> tuple[str, ...]:
        """Return the names of the first tasks, in the order of the world."""
        return protocol.suite(self.profile, n_tasks)

    def expert(self, task: str) -> dict[str, Tensor]:
        """Return the weights of the expert of a task."""
        expert = checkpoints.open_checkpoint(self._file(task))
        return {key: expert.read(key) for key in self.evaluator.base}

    def task_vector(self, task: str) -> TaskVector:
        """Return what fine-tuning on a task changed."""
        if task in self._held:
            return self._held[task]
        found = taskvectors.task_vector(self.evaluator.base, self.expert(task), task)
        if self._fits:
            self._held[task] = found
        return found

    def unlabelled(self, task: str, most: int | None = None) -> Unlabelled:
        """Return the validation inputs of a task, all or the first ``most``, without labels."""
        inputs = self.evaluator.world.split(task, "validation").inputs
        return Unlabelled(inputs if most is None else inputs[:most], self.evaluator.head(task))

    def digest(self, task: str) -> str:
        """Return the SHA-256 of the checkpoint of an expert."""
        return files.sha256(self._file(task))

    def suite(self, tasks: Sequence[str]) -> Suite:
        """Return the task vectors of some experts for methods that read them more than once."""
        return MemorySuite([self.task_vector(task) for task in tasks]) if self._fits else self.suite_on_disk(tasks)

    def suite_on_disk(self, tasks: Sequence[str]) -> CheckpointSuite:
        """Return the task vectors of some experts, of which a tensor is read at a time."""
        base, *experts = map(checkpoints.open_checkpoint, (self._base, *map(self._file, tasks)))
        return CheckpointSuite(base, experts)

    @property
    def _fits(self) -> bool:
        size = sum(tensor.nbytes for tensor in self.evaluator.base.values())
        return self.profile.tasks * size <= HELD

    @cached_property
    def _held(self) -> dict[str, TaskVector]:
        return {}

    def matrices(self, tasks: Sequence[str]) -> list[Layer]:
        """Return the task matrices of some experts, in the order of the model's layers."""
        suite = self.suite_on_disk(tasks)
        return task_matrices(suite, sorted(suite.shapes, key=self.evaluator.world.place), self.computing)

    def changed_matrices(self, tasks: Sequence[str]) -> list[Layer]:
        """Return those of them that at least one of these experts changed; of others there are no singular vectors.

        InputError where that is none, which is seen before anything is decomposed.
        """
        found = [layer for layer in self.matrices(tasks) if any(True for _ in layer.numbered_changes())]
        if not found:
            raise InputError(
                f"backbone {self.backbone}, seed {self.seed}: none of the experts of {', '.join(tasks)} changed a "
                "matrix, so there is nothing to compare; check that their files are not those of the base."
            )
        return found

    def first_matrix(self) -> str:
        """Return the name of the first task matrix of the first layer, of those that the smallest suite changed."""
        keys = [layer.key for layer in self.changed_matrices(self.tasks(self.profile.suites[0]))]
        return min(keys, key=lambda key: (self.evaluator.world.place(key)[0] < 0, self.evaluator.world.place(key)))

    @cached_property
    def computing(self) -> Computing:
        """How to compute: with the store in which every task matrix is decomposed once, for all suites and methods.

        Here that happens when a matrix is asked for first; a cluster fills the store with all of them at once.
        """
        if engine.is_remote():
            self._fill()
        return Computing(spectra=self.store)

    @property
    def store(self) -> Spectra:
        """Return the store of decompositions of the profile."""
        return Spectra(paths.cache(self.profile.name) / "spectra", whole=True)

    def _fill(self) -> None:
        """Decompose the task matrices of all tasks, each tensor a unit that leaves a note of what it was made from."""
        tasks = self.tasks(self.profile.tasks)
        suite, files_of = self.suite_on_disk(tasks), (self._base, *map(self._file, tasks))
        content = hashlib.sha256(" ".join([linalg.SOLVER, *map(files.sha256, files_of)]).encode()).hexdigest()
        keys = {layer.key for layer in task_matrices(suite, suite.shapes)}
        notes = {key: self.store.folder / "complete" / f"{content[:32]}-{key}" for key in sorted(keys)}
        place = (self.profile, self.backbone, self.seed)
        units = [Unit(decompose, (*place, key, note)) for key, note in notes.items() if not note.exists()]
        for _ in engine.complete(units):
            pass

    def merged(self, method: Method, n_tasks: int) -> TaskVector:
        """Return the update of a merging method for the first ``n_tasks`` experts."""
        return self.merged_from(method, self.tasks(n_tasks))

    def merged_from(self, method: Method, tasks: Sequence[str]) -> TaskVector:
        """Return the update of a merging method for the experts of ``tasks``."""
        return merging.merged_update(self.suite(tasks), method, workers=workers(), computing=self.computing)

    def individual(self, split: SplitName, tasks: Sequence[str], most: int | None = None) -> dict[str, Hits]:
        """Return what each expert has right of its own task, of all or at most the first ``most`` inputs."""
        self.measured_with_experts([], split, tasks, most)
        return {task: self._individual[task, split, most] for task in tasks}

    def measured_with_experts(
        self, candidates: Sequence[Candidate], split: SplitName, tasks: Sequence[str], most: int | None = None
    ) -> list[dict[str, Hits]]:
        """Return what some models have right, measured together with those experts of tasks that are not yet."""
        missing = [task for task in tasks if (task, split, most) not in self._individual]
        experts = [Candidate(partial(self.expert, task), (task,)) for task in missing]
        found = self.evaluator.hits_of([*candidates, *experts], split, most)
        for task, hits in zip(missing, found[len(candidates) :], strict=True):
            self._individual[task, split, most] = hits[task]
        return found[: len(candidates)]

    @cached_property
    def _individual(self) -> dict[tuple[str, SplitName, int | None], Hits]:
        return {}

    def truncated(self, task: str, ranks: Sequence[Rank]) -> list[tuple[Hits, int]]:
        """Return what the expert has right of its test inputs with each of some shares of its components alone.

        Beside that stand the bytes that these components take. Ranks are shares, all of one type.
        """
        most, vector = max(ranks, key=lambda rank: rank.fraction or 0), self.task_vector(task)
        factors = compression.compress(vector, most, workers=workers(), spectra=self.computing.spectra)
        sizes: dict[Rank, int] = {}

        def state(rank: Rank) -> StateDict:
            kept = factors.shorten(rank)
            sizes[rank] = kept.stored_bytes
            return kept.expand().apply(self.evaluator.base)

        found = self.evaluator.hits_of([Candidate(partial(state, rank), (task,)) for rank in ranks], "test")
        return [(hits[task], sizes[rank]) for hits, rank in zip(found, ranks, strict=True)]

    @property
    def _base(self) -> Path:
        return self.evaluator.world.base(self.backbone)

    def _file(self, task: str) -> Path:
        """Return the checkpoint of an expert, which is looked at and noted when it is asked for first."""
        if task not in self._files:
            file = self.evaluator.world.expert(self.backbone, task, self.seed)
            provenance.note(file)
            self._files[task] = file
        return self._files[task]

    @cached_property
    def _files(self) -> dict[str, Path]:
        return {}


def decompose(profile: Profile, backbone: str, seed: int, key: str, note: Path) -> None:
    """Decompose the matrices of all tasks in one tensor into the store, and write the note: a unit of work."""
    run = Run(profile, evaluator_of(profile, backbone), seed)
    suite = run.suite_on_disk(run.tasks(profile.tasks))
    for layer in task_matrices(suite, [key], Computing(spectra=run.store)):
        layer.factors(min(layer.shape))
    with files.replacing(note, durable=False) as draft:
        draft.touch()


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
    # What is alone leaves all workers to what it does itself.
    return [function(items[0])] if len(items) == 1 else list(devices.ordered(function, items, workers()))
