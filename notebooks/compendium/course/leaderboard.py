# SPDX-License-Identifier: MIT
"""The leaderboard: entries that hold what they state, ranked by experts and images that their authors had no part in.

An entry is measured again, and its method is run again; what is ranked is what the method makes of experts of other
seeds, on test images. So a statement cannot win a place, and a model that fits what its author saw wins none either.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from compendium.course import entries, recipes
from compendium.course.entries import Entry
from compendium.paper import errors
from compendium.profiles import Profile
from compendium.study import runs, sources
from compendium.study.evaluation import Hits, packed
from compendium.study.runs import Row, Run
from tsvlib import checkpoints, progress
from tsvlib.errors import InputError
from tsvlib.methods import UPDATES
from tsvlib.taskvectors import StateDict, TaskVector

ACCURACY = 0.01
"""How far a stated accuracy may be from what is measured here: some images fall otherwise on another machine."""

UPDATE = 0.05
"""How far a model may be from what its method makes of the experts here, relative to the length of its update.

Experts that were trained on another machine differ in the last digits, and where a method has thresholds, a few of its
entries do.
"""

REFERENCES = {"task_arithmetic": 0.3, "tsv_m": 1.0}
"""Methods that are ranked beside the entries, each with the alpha that its authors recommend."""


class Ranking(NamedTuple):
    """Who was ranked, best first, and a sentence for each entry that was not."""

    places: pd.DataFrame
    refused: list[str]
    entries: list[Entry]
    """Those that have a place, in their order."""


def hidden(profile: Profile, seeds: Sequence[int]) -> Profile:
    """Return the first suite of a profile with experts of other seeds; InputError for seeds that its own have."""
    first = profile.first_suite()
    backbone, own = first.backbones[0], profile.backbones[0].seeds
    if known := sorted(set(seeds) & set(own)):
        raise InputError(f"seed {known[0]}: students have the experts of this seed; choose one that is not in {own}.")
    # A part of its own, because lists of finished experts are told apart by it.
    part = f"+hidden-{','.join(map(str, seeds))}"
    return dataclasses.replace(first, backbones=(dataclasses.replace(backbone, seeds=tuple(seeds)),), part=part)


def verified(file: Path, run: Run) -> Entry:
    """Return what an entry states, when its model is what its method makes of the experts of ``run`` and reaches that.

    Raises:
        InputError: the file is damaged, or states what is not so.
    """
    entry, state = entries.load(file)
    base = run.evaluator.base
    layout, own = ({key: tensor.shape for key, tensor in model.items()} for model in (state, base))
    if layout != own or not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise InputError(f"{file}: its model is none that {run.backbone} can take; write the entry again.")
    if checkpoints.state_digest(state) != entry.weights:
        raise InputError(f"{file}: the digest that it states is not that of its model; write the entry again.")
    found = entries.normalised_accuracy(run, state, entry.images)
    if abs(found - entry.measured) > ACCURACY:
        told = f"it states {100 * entry.measured:.1f} %, and its model has {100 * found:.1f} %"
        raise InputError(f"{file}: {told} on the same images; write the entry again.")
    _check_update(file, entry, state, run)
    return entry


def rank(files: Sequence[Path], run: Run, unseen: Profile) -> Ranking:
    """Return a ranking of entries by what their methods make of the experts of ``unseen``, in per cent.

    ``run`` is what their authors had. An entry that is refused costs nobody else a place. Errors are those of sampling
    test images (see ``paper.errors``); that of the distance to the first place is paired.
    """
    accepted, refused = _accepted(files, run)
    rows, individual = [], []
    with progress.track(len(accepted) * len(unseen.backbones[0].seeds), "merging unseen experts") as bar:
        for other in runs.of(unseen):
            individual += _rows(other, other.individual("test", other.tasks(unseen.tasks)))
            for name, alpha in REFERENCES.items():
                rows += _merged(other, name, other.merged(UPDATES[name], unseen.tasks), alpha)
            for file, entry in list(accepted.items()):
                try:
                    rows += _merged(other, str(file), _update(file, entry, other), entry.alpha)
                except InputError as error:
                    refused.append(str(error))
                    del accepted[file]
                bar.update()
    ranked = {str(file): entry for file, entry in accepted.items()}
    kept = [row for row in rows if row["entry"] in ranked or row["entry"] in REFERENCES]
    ordered = _ordered(kept, individual, unseen)
    return Ranking(_places(ordered, ranked), refused, [ranked[name] for name in ordered.index if name in ranked])


def told(ranking: Ranking, methods: int = 0) -> Iterator[str]:
    """Yield the ranking as a Markdown table, a line for each entry that was refused, and some of the first methods."""
    yield str(ranking.places.to_markdown(index=False, disable_numparse=True))
    yield from (f"Refused: {reason}" for reason in ranking.refused)
    yield from (f"\n{entry.name}:\n\n{entry.source.rstrip()}" for entry in ranking.entries[:methods])


def _accepted(files: Sequence[Path], run: Run) -> tuple[dict[Path, Entry], list[str]]:
    accepted, refused = {}, []
    with progress.track(len(files), "checking entries") as bar:
        for file in files:
            try:
                accepted[file] = verified(file, run)
            except InputError as error:
                refused.append(str(error))
            bar.update()
    return accepted, refused


def _check_update(file: Path, entry: Entry, state: StateDict, run: Run) -> None:
    """Raise InputError unless a model is base + alpha * update, up to what differs between machines."""
    base = run.evaluator.base
    again = _update(file, entry, run) * entry.alpha
    change = TaskVector({key: state[key] - base[key] for key in base})
    far = (change - again).norm() / max(again.norm(), 1e-12)
    if not far <= UPDATE:
        told = f"its model is not what its method makes of the experts here (off by {100 * far:.0f} % of the update)"
        raise InputError(f"{file}: {told}; write the entry again.")


def _update(file: Path, entry: Entry, run: Run) -> TaskVector:
    """Return what the method of an entry makes of the experts of a run, in a process apart."""
    world, tasks = run.evaluator.world, run.tasks(run.profile.tasks)
    experts = [world.expert(run.backbone, task, run.seed) for task in tasks]
    try:
        return recipes.update_apart(entry.source, world.base(run.backbone), experts)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _merged(run: Run, name: str, update: TaskVector, alpha: float) -> list[Row]:
    """Return which test images of each task base + alpha * update has right."""
    state = update.apply(run.evaluator.base, alpha)
    return _rows(run, run.evaluator.hits(state, run.tasks(run.profile.tasks), "test"), name)


def _rows(run: Run, found: Mapping[str, Hits], name: str = "") -> list[Row]:
    return [{"entry": name, "seed": run.seed, "task": task, "hits": packed(hits)} for task, hits in found.items()]


def _ordered(rows: Sequence[Row], individual: Sequence[Row], unseen: Profile) -> pd.DataFrame:
    """Return the normalised accuracy of each entry in per cent, mean over seeds, best first, with draws of images."""
    shown = pd.DataFrame(sources.rows(unseen))
    measured = errors.accuracies(pd.DataFrame(rows), shown, ["entry", "seed"])
    experts = errors.accuracies(pd.DataFrame(individual), shown, ["seed"])
    drawn = 100 * errors.over_seeds(errors.normalised(measured, experts))
    return drawn.loc[drawn[0].sort_values(ascending=False, kind="stable").index]


def _places(ordered: pd.DataFrame, accepted: dict[str, Entry]) -> pd.DataFrame:
    """Return a row for each entry and reference; ``ordered`` has theirs, with draws as columns."""
    found = [accepted.get(str(name)) for name in ordered.index]
    names = [f"{UPDATES[name].title}, alpha = {alpha:g}" for name, alpha in REFERENCES.items()]
    titles = dict(zip(REFERENCES, names, strict=True)) | {name: entry.name for name, entry in accepted.items()}
    places = pd.Series([entry is not None for entry in found]).cumsum()
    return pd.DataFrame(
        {
            "place": [str(place) if entry else "-" for place, entry in zip(places, found, strict=True)],
            "name": [titles[str(name)] for name in ordered.index],
            "unseen experts (%)": _with_errors(ordered),
            "behind the first (%)": _with_errors(ordered.iloc[0] - ordered),
            "stated (%)": [f"{100 * entry.measured:.1f}" if entry else "-" for entry in found],
            "alpha": [f"{entry.alpha:g}" if entry else "-" for entry in found],
            "method": [entry.words if entry else "for comparison" for entry in found],
            "weights": [entry.weights[:12] if entry else "-" for entry in found],
        }
    )


def _with_errors(drawn: pd.DataFrame) -> list[str]:
    return [f"{value:.1f} ± {error:.1f}" for value, error in zip(drawn[0], errors.standard_error(drawn), strict=True)]
