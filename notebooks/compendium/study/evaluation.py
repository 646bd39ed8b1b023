# SPDX-License-Identifier: MIT
"""Accuracy of encoders with frozen zero-shot heads, of one or of several in one pass over the inputs."""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from compendium import engine, gpus, paths, provenance
from compendium.engine import Unit
from compendium.profiles import Profile
from compendium.study import predictions
from compendium.study.predictions import Model, Wanted
from compendium.worlds.protocol import SplitName, world_of
from tsvlib import checkpoints, devices
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

Hits = Bool[Tensor, " n"]
"""Which inputs of a split, in its order, a model predicted right."""

CANDIDATES = 2**32
"""Bytes that candidates may take which are measured together, each counted twice for what it is made of."""

CPU = torch.device("cpu")


@runtime_checkable
class Placed(Protocol):
    """An encoder that may not run on the CPU."""

    device: torch.device


class Candidate(NamedTuple):
    """Weights that are made when there is room for them, and the tasks on which they are measured."""

    make: Callable[[], StateDict]
    tasks: Sequence[str]


Tasks = Mapping[str, Wanted]
"""What is wanted of one model, by task."""


class Evaluator:
    """Measures encoders of one backbone on the profile's tasks; every prediction is made once and kept."""

    def __init__(self, profile: Profile, backbone: str) -> None:
        self.profile = profile
        self.backbone = profile.backbone(backbone)
        self.world = world_of(profile)
        self.encoder = self.world.encoder(backbone)
        self.device = self.encoder.device if isinstance(self.encoder, Placed) else CPU
        self.base: dict[str, Tensor] = checkpoints.load(self.world.base(backbone))
        self.heads: dict[str, Tensor] = {}
        self._contexts: dict[tuple[str, str], str] = {}
        # Threads that measure at once would share the memory of a GPU, which is small.
        self._turn: AbstractContextManager[object] = nullcontext() if self.device.type == "cpu" else threading.Lock()
        provenance.name_device(self.device.type)

    def accuracy(self, state: StateDict, task: str, split: SplitName, most: int | None = None) -> float:
        """Return the share of correct top-1 predictions, in [0, 1], of the encoder with weights ``state``."""
        return self.accuracies(state, [task], split, most)[task]

    def accuracies(
        self, state: StateDict, tasks: Iterable[str], split: SplitName, most: int | None = None
    ) -> dict[str, float]:
        """Return the top-1 accuracy on each of the tasks, in their order, on all inputs or the first ``most``."""
        return shares(self.hits(state, tasks, split, most))

    def hits(
        self, state: StateDict, tasks: Iterable[str], split: SplitName, most: int | None = None
    ) -> dict[str, Hits]:
        """Return which inputs of each of the tasks, all or the first ``most``, have their class predicted first."""
        return self.hits_of([Candidate(lambda: state, tuple(tasks))], split, most)[0]

    def hits_of(
        self, candidates: Iterable[Candidate], split: SplitName, most: int | None = None
    ) -> list[dict[str, Hits]]:
        """Return which inputs several models have right, which are measured as :meth:`predictions_of` does it."""
        return [
            {task: classes == self.world.split(task, split).labels[:most] for task, classes in predicted.items()}
            for predicted in self.predictions_of(candidates, split, most)
        ]

    def predictions(
        self, state: StateDict, tasks: Iterable[str], split: SplitName, most: int | None = None
    ) -> dict[str, Int64[Tensor, " n"]]:
        """Return the class that the encoder with weights ``state`` predicts for every input of each of the tasks.

        With ``most`` only the first ones of a task are looked at. What is known of a task is completed, never repeated.
        """
        return self.predictions_of([Candidate(lambda: state, tuple(tasks))], split, most)[0]

    def predictions_of(
        self, candidates: Iterable[Candidate], split: SplitName, most: int | None = None
    ) -> list[dict[str, Int64[Tensor, " n"]]]:
        """Return the predictions of several models, one after the other as ``candidates`` yields them.

        As many as ``CANDIDATES`` allows, but at least one, are in memory together and share a pass over the inputs.
        Each is made by one thread, and several at once.
        """
        waiting = iter(candidates)
        together = max(1, CANDIDATES // (2 * sum(tensor.nbytes for tensor in self.base.values())))
        found: list[dict[str, Int64[Tensor, " n"]]] = []
        while some := list(islice(waiting, together)):
            found += self._measured(some, split, most)
        return found

    def predict(self, states: Mapping[Path, StateDict], split: SplitName, wanted: Mapping[Path, Tasks]) -> None:
        """Predict what is wanted of the weights that each folder is for, and keep it there."""
        with self._turn, gpus.memory():
            models = [Model(self.encoder.features(states[place]), wanted[place], place) for place in wanted]
            threads = workers() if self.device.type == "cpu" else predictions.READERS
            predictions.predict(
                models,
                lambda task: predictions.Split(self.world.split(task, split).inputs, self.head(task)),
                self.encoder.batch,
                self.device,
                threads,
            )

    def folder(self, weights: str) -> Path:
        """Return where predictions by weights with this digest are kept."""
        return paths.cache(self.profile.name) / "evaluations" / self.backbone.name / weights

    def head(self, task: str) -> Tensor:
        """Return the frozen classifier of a task, one row of weights per class."""
        if task not in self.heads:
            self.heads[task] = self.world.head(self.backbone.name, task)
        return self.heads[task]

    def _measured(
        self, candidates: Sequence[Candidate], split: SplitName, most: int | None
    ) -> list[dict[str, Int64[Tensor, " n"]]]:
        keys = [
            {task: f"{task} {split} {self._context(task, split)}" for task in candidate.tasks}
            for candidate in candidates
        ]
        states: dict[Path, StateDict] = {}
        wanted: dict[Path, Tasks] = {}
        places = []
        made = devices.ordered(_made, candidates, min(len(candidates), workers()))
        for (weights, state), mine in zip(made, keys, strict=True):
            place = self.folder(weights)
            stops = {task: len(self.world.split(task, split).labels[:most]) for task in mine}
            places.append(place)
            # The same weights may come more than once, for the same tasks or others.
            missing = {**wanted.get(place, {}), **predictions.wanted_of(place, mine, stops)}
            if missing:
                states[place], wanted[place] = state, missing
        if wanted:
            self._complete(states, split, wanted)
        return [predictions.known(place, mine, most) for place, mine in zip(places, keys, strict=True)]

    def _complete(self, states: Mapping[Path, StateDict], split: SplitName, wanted: Mapping[Path, Tasks]) -> None:
        """Predict here, or on the cluster in units of some tasks, which find the weights in files of the cache."""
        if not engine.is_remote():
            self.predict(states, split, wanted)
            return
        with self._written(states) as files:
            units = [
                Unit(predict, (self.profile, self.backbone.name, self.encoder.digest, files[place], split, some, place))
                for place, tasks in wanted.items()
                for some in predictions.shared(tasks)
            ]
            for _ in engine.complete(units):
                pass

    @contextmanager
    def _written(self, states: Mapping[Path, StateDict]) -> Iterator[dict[Path, Path]]:
        """Yield files that hold weights while the block runs, by the folders of their predictions."""
        folder = paths.cache(self.profile.name) / "candidates"
        # Of its own, because whoever measures the same weights at the same time deletes its file when it is done.
        files = {place: folder / f"{place.name}-{uuid.uuid4().hex}.safetensors" for place in states}
        try:
            for place, file in files.items():
                checkpoints.save(file, states[place], {})
            yield files
        finally:
            for file in files.values():
                file.unlink(missing_ok=True)

    def _context(self, task: str, split: SplitName) -> str:
        """Return a digest of all that a prediction depends on besides the weights."""
        if (task, split) not in self._contexts:
            head = checkpoints.state_digest({"head": self.head(task)})
            parts = (self.encoder.digest, head, self.world.split(task, split).digest)
            self._contexts[task, split] = hashlib.sha256(" ".join(parts).encode()).hexdigest()
        return self._contexts[task, split]


@lru_cache(maxsize=1)
def evaluator_of(profile: Profile, backbone: str) -> Evaluator:
    """Return the evaluator of a backbone, made once for all units that ask for it in a row."""
    return Evaluator(profile, backbone)


def evaluator_alike(profile: Profile, backbone: str, digest: str) -> Evaluator:
    """Return the evaluator of a backbone, in a unit of work.

    Raises:
        InputError: the encoder here is not the one with this digest, as on a machine with another kind of device.
    """
    evaluator = evaluator_of(profile, backbone)
    if evaluator.encoder.digest != digest:
        raise InputError(
            f"profile {profile.name}: workers of the cluster encode otherwise than who asked them ("
            f"{evaluator.encoder.digest!r}, not {digest!r}); give all the same device, or set 'device' to \"cpu\"."
        )
    return evaluator


def predict(
    profile: Profile, backbone: str, digest: str, state: Path, split: SplitName, wanted: Tasks, folder: Path
) -> None:
    """Predict what is wanted by the weights in a file: a unit of work; InputError as :func:`evaluator_alike`."""
    evaluator_alike(profile, backbone, digest).predict({folder: checkpoints.load(state)}, split, {folder: wanted})


def _made(candidate: Candidate) -> tuple[str, StateDict]:
    state = candidate.make()
    return checkpoints.state_digest(state), state


def shares(hits: Mapping[str, Hits]) -> dict[str, float]:
    """Return the accuracy on each task, in [0, 1], from which of its inputs were right."""
    return {task: int(right.sum()) / len(right) for task, right in hits.items()}


def packed(hits: Hits) -> str:
    """Return hits as tables keep them: bits, the first input's first, as hexadecimal digits, eight inputs in two.

    >>> packed(torch.tensor([True, False, False, False, True, True, True, True, True]))
    '8f80'
    """
    return np.packbits(hits.numpy()).tobytes().hex()


def normalised_accuracy(merged: Mapping[str, float], individual: Mapping[str, float]) -> float:
    """Return the mean over tasks of merged / individual accuracy (a mean of ratios, not a ratio of means).

    >>> normalised_accuracy({"a": 0.4, "b": 0.9}, {"a": 0.8, "b": 0.9})
    0.75
    """
    if merged.keys() != individual.keys():
        raise InputError("normalised accuracy: merged and individual models must be measured on the same tasks.")
    if useless := [task for task, value in individual.items() if value == 0]:
        raise InputError(f"task {useless[0]}: its expert has accuracy 0, so nothing can be normalised by it.")
    return sum(merged[task] / individual[task] for task in merged) / len(merged)


def workers() -> int:
    """Return how many things a study works on at once, all of them on the CPU."""
    return devices.default_workers(CPU)
