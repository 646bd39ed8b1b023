# SPDX-License-Identifier: MIT
"""Accuracy of encoders with frozen zero-shot heads, and the choice of alpha on validation inputs."""

import hashlib
import json
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from compendium import engine, paths, provenance
from compendium.engine import Unit
from compendium.profiles import Profile
from compendium.worlds.protocol import SplitName, world_of
from tsvlib import checkpoints, devices, files
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

CLASS = np.dtype("<u2")
"""How predicted classes are kept: as the base64 text of such numbers."""

Hits = Bool[Tensor, " n"]
"""Which inputs of a split, in its order, a model predicted right."""

UNIT = 2000
"""Inputs that are worth a unit of their own on a cluster."""

FIRST_ALPHA = 2
STRIDE = 5
GOLDEN = 0.382


class AlphaSearch(NamedTuple):
    """The chosen alpha, its validation score, and how many alphas were scored to find it."""

    alpha: float
    score: float
    evaluations: int


class Wanted(NamedTuple):
    """What is still to be predicted of one split: under which key, what is known so far, and how many in all."""

    key: str
    known: bytes
    stop: int

    @property
    def start(self) -> int:
        """Return how many are known."""
        return len(self.known) // CLASS.itemsize


class Evaluator:
    """Measures encoders of one backbone on the profile's tasks; every prediction is made once and kept.

    What is kept is found again by the content of weights, head, inputs and encoder, so that nothing stale can be
    returned, whatever has changed.
    """

    def __init__(self, profile: Profile, backbone: str) -> None:
        self.profile = profile
        self.backbone = profile.backbone(backbone)
        self.world = world_of(profile)
        self.encoder = self.world.encoder(backbone)
        self.base: dict[str, Tensor] = checkpoints.load(self.world.base(backbone))
        self.heads: dict[str, Tensor] = {}
        self._contexts: dict[tuple[str, str], str] = {}

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
        return {
            task: predicted == self.world.split(task, split).labels[:most]
            for task, predicted in self.predictions(state, tasks, split, most).items()
        }

    def predictions(
        self, state: StateDict, tasks: Iterable[str], split: SplitName, most: int | None = None
    ) -> dict[str, Int64[Tensor, " n"]]:
        """Return the class that the encoder with weights ``state`` predicts for every input of each of the tasks.

        With ``most`` only the first ones of a task are looked at. What is known of a task is completed, never repeated.
        """
        weights = checkpoints.state_digest(state)
        folder = self.folder(weights)
        keys = {task: f"{task} {split} {self._context(task, split)}" for task in tasks}
        kept = _read(folder)
        wanted = {}
        for task, key in keys.items():
            inputs = self.world.split(task, split).inputs
            each = Wanted(key, b64decode(kept.get(key, "")), len(inputs) if most is None else min(most, len(inputs)))
            if each.start < each.stop:
                wanted[task] = each
        if wanted:
            self._complete(state, weights, split, wanted, folder)
            kept = _read(folder)
        return {
            task: torch.from_numpy(np.frombuffer(b64decode(kept[key]), CLASS)[:most].astype("i8"))
            for task, key in keys.items()
        }

    def predict(self, state: StateDict, split: SplitName, wanted: Mapping[str, Wanted], folder: Path) -> None:
        """Predict what is wanted of each task and keep it in a file of the folder; workers share all batches."""
        features, batch = self.encoder.features(state), self.encoder.batch
        parts = [
            (task, slice(start, min(start + batch, each.stop)))
            for task, each in wanted.items()
            for start in range(each.start, each.stop, batch)
        ]

        def classes(part: tuple[str, slice]) -> tuple[str, bytes]:
            task, chosen = part
            logits = features(self.world.split(task, split).inputs[chosen]) @ self.head(task).T
            return task, logits.argmax(1).numpy().astype(CLASS).tobytes()

        found = {task: each.known for task, each in wanted.items()}
        for task, predicted in devices.ordered(classes, parts, workers()):
            found[task] += predicted
        kept = {wanted[task].key: b64encode(content).decode() for task, content in found.items()}
        text = json.dumps(kept, indent=1, sort_keys=True) + "\n"
        name = hashlib.sha256("\n".join((*sorted(kept), *(str(each.stop) for each in wanted.values()))).encode())
        with files.replacing(folder / f"{name.hexdigest()[:32]}.json", durable=False) as draft:
            draft.write_text(text, encoding="utf-8")

    def folder(self, weights: str) -> Path:
        """Return where predictions by weights with this digest are kept."""
        return paths.cache(self.profile.name) / "evaluations" / self.backbone.name / weights

    def head(self, task: str) -> Tensor:
        """Return the frozen classifier of a task, one row of weights per class."""
        if task not in self.heads:
            self.heads[task] = self.world.head(self.backbone.name, task)
        return self.heads[task]

    def _complete(
        self, state: StateDict, weights: str, split: SplitName, wanted: Mapping[str, Wanted], folder: Path
    ) -> None:
        """Predict here, or on the cluster in units of some tasks, which find the weights in a file of the cache."""
        if not engine.is_remote():
            self.predict(state, split, wanted, folder)
            return
        # Of its own, because whoever measures the same weights at the same time deletes its file when it is done.
        file = paths.cache(self.profile.name) / "candidates" / f"{weights}-{uuid.uuid4().hex}.safetensors"
        checkpoints.save(file, state, {})
        try:
            units = [
                Unit(predict, (self.profile, self.backbone.name, file, split, some, folder)) for some in _shared(wanted)
            ]
            for _ in engine.complete(units):
                pass
        finally:
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


def predict(
    profile: Profile, backbone: str, state: Path, split: SplitName, wanted: Mapping[str, Wanted], folder: Path
) -> None:
    """Predict what is wanted by the weights in a file: a unit of work."""
    evaluator_of(profile, backbone).predict(checkpoints.load(state), split, wanted, folder)


def _shared(wanted: Mapping[str, Wanted]) -> list[dict[str, Wanted]]:
    """Share tasks out among units, each with inputs enough to be worth it."""
    units: list[dict[str, Wanted]] = [{}]
    for task, each in wanted.items():
        if sum(mine.stop - mine.start for mine in units[-1].values()) >= UNIT:
            units.append({})
        units[-1][task] = each
    return units


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


def search_alpha(score: Callable[[float], float], grid: Sequence[float]) -> AlphaSearch:
    """Return the best alpha of a rising grid, with at most 10 evaluations on a grid of 30.

    The search climbs from small alphas in strides until the score falls, then narrows the bracket down in the
    golden ratio. It is exact if the score has a single peak. It starts at small alphas, next to the zero-shot
    model, because far too large ones all end in chance accuracy, where a comparison says nothing. A grid of one
    alpha leaves nothing to choose and is not scored.
    """
    if len(grid) == 1:
        return AlphaSearch(grid[0], float("nan"), 0)
    scores: dict[int, float] = {}

    def at(index: int) -> float:
        if index not in scores:
            scores[index] = score(grid[index])
        return scores[index]

    low, best, high = _bracket(at, len(grid))
    while high - low > 2:
        right = high - best > best - low
        step = max(1, round(GOLDEN * (high - best if right else best - low)))
        probe = best + step if right else best - step
        if at(probe) > at(best):
            low, best, high = (best, probe, high) if right else (low, probe, best)
        else:
            low, high = (low, probe) if right else (probe, high)
    return AlphaSearch(grid[best], scores[best], len(scores))


def _bracket(at: Callable[[int], float], size: int) -> tuple[int, int, int]:
    """Return three indices; a single peak lies strictly between the outer ones, the middle one is scored."""
    low, best = -1, min(FIRST_ALPHA, size - 1)
    while (probe := best + STRIDE) < size and at(probe) > at(best):
        low, best = best, probe
    return low, best, min(probe, size)


def _read(folder: Path) -> dict[str, str]:
    """Return the predictions in the files of a folder; unreadable ones can be made again, of several the longest."""
    found: dict[str, str] = {}
    for file in folder.glob("*.json") if folder.is_dir() else ():
        try:
            content: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found |= {key: text for key, text in content.items() if len(text) > len(found.get(key, ""))}
    return found


def workers() -> int:
    """Return how many things a study works on at once."""
    return devices.default_workers(devices.choose(provenance.DEVICE))
