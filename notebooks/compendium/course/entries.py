# SPDX-License-Identifier: MIT
"""Entries of the leaderboard: one file with a merged model, the method that made it, and what its author measured."""

import dataclasses
import math
import re
from pathlib import Path

from torch import Tensor

from compendium import profiles
from compendium.course import recipes
from compendium.study import evaluation
from compendium.study.runs import Run
from tsvlib import checkpoints
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

FOLDER = Path("leaderboard")
"""Where entries are written, beside the notebook."""

LONGEST = 4000
"""Characters of a method: enough for an idea, and too few for weights that were trained."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is stated of a merged model."""

    name: str
    words: str
    """The method in a sentence."""
    source: str
    """The text of the function that makes the update of a matrix."""
    alpha: float
    images: int
    """On how many validation images of each task it was measured."""
    measured: float
    """Normalised accuracy on these."""
    weights: str
    """SHA-256 of the merged model: names, shapes and bytes of its tensors."""


def enter(
    run: Run, function: object, name: str, words: str, *, alpha: float | int, images: int, folder: Path = FOLDER
) -> Path:
    """Merge the experts of a run by a method of one's own, measure that, write both down, and return the file.

    InputError when the method is not defined by its own text alone or fails, or when a statement is not as it should.
    """
    base, tasks = run.evaluator.base, run.tasks(run.profile.tasks)
    stated = Entry(name, words, recipes.source_of(function), float(alpha), images, 0.0, "")
    _check(stated, "this entry")
    update = recipes.update(recipes.method_of(stated.source), base, [run.expert(task) for task in tasks])
    state = update.apply(base, stated.alpha)
    entry = dataclasses.replace(
        stated, measured=normalised_accuracy(run, state, images), weights=checkpoints.state_digest(state)
    )
    file = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'entry'}.safetensors"
    checkpoints.save(file, state, dataclasses.asdict(entry))
    return file


def load(file: Path) -> tuple[Entry, dict[str, Tensor]]:
    """Return what an entry states and its model; InputError where the file is no entry, or not as it was written."""
    remedy = "write the entry again"
    state = checkpoints.load(file, remedy)
    entry: Entry = profiles.built(Entry, checkpoints.recipe(file, remedy), file)
    _check(entry, str(file))
    return entry, state


def normalised_accuracy(run: Run, state: StateDict, images: int) -> float:
    """Return the normalised accuracy of a model on the first validation images of every task."""
    tasks = run.tasks(run.profile.tasks)
    individual = evaluation.shares(run.individual("validation", tasks, images))
    return evaluation.normalised_accuracy(run.evaluator.accuracies(state, tasks, "validation", images), individual)


def _check(entry: Entry, where: str) -> None:
    """Raise InputError for a statement that cannot be, or that a table cannot show."""
    problems = {
        "'name' has 1 to 40 letters, digits, spaces, dots, hyphens and apostrophes": not re.fullmatch(
            r"(?=\S)[\w .'’-]{1,40}", entry.name
        ),
        "'words' is a sentence in a line, of at most 200 characters, without a vertical bar": not (
            entry.words.isprintable() and re.fullmatch(r"(?=.*\S)[^|]{1,200}", entry.words)
        ),
        f"'source' has at most {LONGEST} characters": len(entry.source) > LONGEST,
        "'alpha' lies above 0 and is at most 10": not 0 < entry.alpha <= 10,
        "'images' is at least 1": entry.images < 1,
        "'measured' is a number": not math.isfinite(entry.measured),
    }
    for problem, present in problems.items():
        if present:
            raise InputError(f"{where}: {problem}; correct it.")
