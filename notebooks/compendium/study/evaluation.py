# SPDX-License-Identifier: MIT
"""Accuracy of image encoders with frozen zero-shot heads, and the choice of alpha on validation images."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from compendium import paths, provenance
from compendium.profiles import Profile
from compendium.worlds.mini import datasets, models
from compendium.worlds.mini.datasets import Split, SplitName
from tsvlib import checkpoints, devices, files
from tsvlib.errors import InputError

CLASS = np.dtype("<u2")
"""How predicted classes are kept: as the base64 text of such numbers."""

FIRST_ALPHA = 2
STRIDE = 5
GOLDEN = 0.382


class AlphaSearch(NamedTuple):
    """The chosen alpha, its validation score, and how many alphas were scored to find it."""

    alpha: float
    score: float
    evaluations: int


class Evaluator:
    """Measures encoders of one backbone on the profile's tasks; every prediction is made once and kept.

    What is kept is found again by the content of weights, head, images and model configuration, so that nothing
    stale can be returned, whatever has changed.
    """

    def __init__(self, profile: Profile, backbone: str) -> None:
        self.profile = profile
        self.backbone = profile.backbone(backbone)
        self.model = models.load_base(profile.name, backbone)
        self.base = models.encoder_state(self.model)
        self.heads: dict[str, Tensor] = {}
        self._contexts: dict[tuple[str, str], str] = {}
        self._splits: dict[tuple[str, str], Split] = {}

    def accuracy(self, state: Mapping[str, Tensor], task: str, split: SplitName, most: int | None = None) -> float:
        """Return the share of correct top-1 predictions, in [0, 1], of the encoder with weights ``state``."""
        return self.accuracies(state, [task], split, most)[task]

    def accuracies(
        self, state: Mapping[str, Tensor], tasks: Iterable[str], split: SplitName, most: int | None = None
    ) -> dict[str, float]:
        """Return the top-1 accuracy on each of the tasks, in their order, on all images or the first ``most``."""
        return {
            task: int((predicted == self._split(task, split).labels[:most]).sum()) / len(predicted)
            for task, predicted in self.predictions(state, tasks, split, most).items()
        }

    def predictions(
        self, state: Mapping[str, Tensor], tasks: Iterable[str], split: SplitName, most: int | None = None
    ) -> dict[str, Int64[Tensor, " n"]]:
        """Return the class that the encoder with weights ``state`` predicts for every image of each of the tasks.

        With ``most`` only the first ones of a task are looked at. What is known of a task is completed, never repeated.
        """
        file = self._file(checkpoints.state_digest(state))
        kept = _read(file)
        keys = {task: f"{task} {split} {self._context(task, split)}" for task in tasks}
        found = {task: b64decode(kept.get(key, "")) for task, key in keys.items()}
        rests = {task: self._rest(task, split, found[task], most) for task in keys}
        if missing := {task: images for task, images in rests.items() if len(images)}:
            for task, classes in self._predict(state, missing):
                found[task] += classes
            kept |= {keys[task]: b64encode(found[task]).decode() for task in missing}
            with files.replacing(file, durable=False) as draft:
                draft.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return {
            task: torch.from_numpy(np.frombuffer(classes, CLASS)[:most].astype("i8")) for task, classes in found.items()
        }

    def head(self, task: str) -> Tensor:
        """Return the frozen classifier of a task, one row of weights per class."""
        if task not in self.heads:
            about = datasets.TASKS[task]
            self.heads[task] = models.zero_shot_head(self.model, about.classes, about.templates)
        return self.heads[task]

    def _predict(self, state: Mapping[str, Tensor], images: Mapping[str, Tensor]) -> Iterator[tuple[str, bytes]]:
        """Yield the classes predicted for batches of each task's images, in order; workers share all of them."""
        visual = models.with_weights(self.model, state)
        parts = [(task, batch) for task, every in images.items() for batch in torch.split(every, models.BATCH)]

        def classes(part: tuple[str, Tensor]) -> tuple[str, bytes]:
            task, images = part
            logits = models.encode(visual, images) @ self.head(task).T
            return task, logits.argmax(1).numpy().astype(CLASS).tobytes()

        return devices.ordered(classes, parts, workers())

    def _rest(self, task: str, split: SplitName, known: bytes, most: int | None) -> UInt8[Tensor, "n 3 rows cols"]:
        """Return the images of which the classes are wanted and not known."""
        return self._split(task, split).images[:most][len(known) // CLASS.itemsize :]

    def _split(self, task: str, split: SplitName) -> Split:
        if (task, split) not in self._splits:
            self._splits[task, split] = datasets.cached(self.profile, task, split)
        return self._splits[task, split]

    def _context(self, task: str, split: SplitName) -> str:
        """Return a digest of all that a prediction depends on besides the weights."""
        if (task, split) not in self._contexts:
            parts = (
                files.sha256(models.config_file(self.profile.name, self.backbone.name)),
                checkpoints.state_digest({"head": self.head(task)}),
                datasets.digest(self.profile, task, split),
            )
            self._contexts[task, split] = hashlib.sha256(" ".join(parts).encode()).hexdigest()
        return self._contexts[task, split]

    def _file(self, weights: str) -> Path:
        return paths.cache(self.profile.name) / "evaluations" / self.backbone.name / f"{weights}.json"


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


def _read(file: Path) -> dict[str, str]:
    """Return the measurements in a file, or none where it is absent or unreadable: they can be made again."""
    try:
        content: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def workers() -> int:
    """Return how many things a study works on at once."""
    return devices.default_workers(devices.choose(provenance.DEVICE))
