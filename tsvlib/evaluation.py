# SPDX-License-Identifier: MIT
"""Accuracy of image encoders with frozen zero-shot heads, and the choice of alpha on validation images."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from tsvlib import checkpoints, datasets, files, models, paths
from tsvlib.errors import InputError
from tsvlib.profiles import Profile

FIRST_ALPHA = 2
STRIDE = 5
GOLDEN = 0.382


class AlphaSearch(NamedTuple):
    """The chosen alpha, its validation score, and how many alphas were scored to find it."""

    alpha: float
    score: float
    evaluations: int


class Evaluator:
    """Measures encoders of one backbone on the profile's tasks; every measurement is made once and kept.

    What is kept is found again by the content of weights, head, images and model configuration, so that nothing
    stale can be returned, whatever has changed.
    """

    def __init__(self, profile: Profile, backbone: str) -> None:
        self.profile = profile
        self.backbone = profile.backbone(backbone)
        self.model = models.load_base(profile.name, backbone)
        self.base = models.encoder_state(self.model)
        self.heads: dict[str, Tensor] = {}
        self._contexts: dict[str, str] = {}

    def accuracy(self, state: Mapping[str, Tensor], task: str, split: Literal["validation", "test"]) -> float:
        """Return the share of correct top-1 predictions, in [0, 1], of the encoder with weights ``state``."""
        return self.accuracies(state, [task], split)[task]

    def accuracies(
        self, state: Mapping[str, Tensor], tasks: Iterable[str], split: Literal["validation", "test"]
    ) -> dict[str, float]:
        """Return the top-1 accuracy on each of the tasks, in their order."""
        file = self._file(checkpoints.state_digest(state))
        known = _read(file)
        keys = {task: f"{task} {split} {self._context(task)}" for task in tasks}
        missing = {key: self._measure(state, task, split) for task, key in keys.items() if key not in known}
        if missing:
            with files.replacing(file) as draft:
                draft.write_text(json.dumps(known | missing, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return {task: (known | missing)[key] for task, key in keys.items()}

    def _measure(self, state: Mapping[str, Tensor], task: str, split: Literal["validation", "test"]) -> float:
        data = datasets.cached(self.profile, task, split)
        logits = models.encode(self.model, data.images, state) @ self._head(task).T
        return int((logits.argmax(1) == data.labels).sum()) / len(data.labels)

    def _head(self, task: str) -> Tensor:
        if task not in self.heads:
            about = datasets.TASKS[task]
            self.heads[task] = models.zero_shot_head(self.model, about.classes, about.templates)
        return self.heads[task]

    def _context(self, task: str) -> str:
        """Return a digest of all that an accuracy on this task depends on besides the weights."""
        if task not in self._contexts:
            parts = (
                files.sha256(models.config_file(self.profile.name, self.backbone.name)),
                checkpoints.state_digest({"head": self._head(task)}),
                datasets.digest(self.profile, task),
            )
            self._contexts[task] = hashlib.sha256(" ".join(parts).encode()).hexdigest()
        return self._contexts[task]

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


def _read(file: Path) -> dict[str, float]:
    """Return the measurements in a file, or none where it is absent or unreadable: they can be made again."""
    try:
        content: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content
