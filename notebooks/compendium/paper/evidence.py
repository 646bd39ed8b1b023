# SPDX-License-Identifier: MIT
"""What the claims are measured by: numbers by case, in frames whose columns are draws of the bootstrap.

The index of such a frame begins with the backbone and names the cases; where it has a level ``seed``, a case is the
mean over these. A number that no sampling of inputs can change has one column.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from compendium.paper import errors

Tables = Mapping[str, pd.DataFrame]
CELL = ["backbone", "n_tasks", "seed"]
FORMS = {
    "task_arithmetic": "none",
    "low_rank": "low_rank",
    "interference_reduction": "interference_reduction",
    "tsv_m": "both",
}
"""Which of the steps of TSV-M a method takes: a form of the table of interference, by method."""
NOTHING = 1e-4
"""Interference below this share of that of task arithmetic counts as none: it is what rounding leaves."""


class Evidence:
    """Result tables by name, ``sources`` among them, and one seed of the bootstrap that draws these."""

    def __init__(self, tables: Tables, seed: int = 0) -> None:
        self.tables = tables
        self.seed = seed

    def accuracies(
        self, frame: pd.DataFrame, by: list[str], split: str = "test", half: int | None = None
    ) -> pd.DataFrame:
        """Return drawn accuracies of the rows with hits, by ``by`` and task."""
        return errors.accuracies(frame, self.tables["sources"], by, split=split, seed=self.seed, half=half)

    @cached_property
    def merged(self) -> pd.DataFrame:
        """Normalised accuracies of merged models."""
        return errors.normalised(self._cells("merge"), self._experts)

    @cached_property
    def compressed(self) -> pd.DataFrame:
        """Normalised accuracies of compressed experts."""
        cells = self._cells("compress")
        return errors.normalised(cells, at(cells, method="individual"))

    @cached_property
    def ablated(self) -> pd.DataFrame:
        """Normalised accuracies of models that were merged with one of the two steps alone."""
        return errors.normalised(self._cells("ablation"), self._experts)

    @cached_property
    def _experts(self) -> pd.DataFrame:
        frame = self.tables["merge"]
        return self.accuracies(frame[(frame.metric == "accuracy") & (frame.method == "individual")], CELL)

    def _cells(self, name: str) -> pd.DataFrame:
        frame = self.tables[name]
        return self.accuracies(frame[frame.metric == "accuracy"], [*CELL, "method"])


Measure = Callable[[Evidence], pd.DataFrame | None]
"""Numbers by case, or None where a profile leaves out what they need."""


def lost(percent: int) -> Measure:
    """Measure by backbone how many points of mean accuracy are lost when ``percent`` of the components are kept."""

    def measure(evidence: Evidence) -> pd.DataFrame | None:
        if (pair := _curve(evidence, percent)) is None:
            return None
        whole, part = pair
        return 100 * (whole - part)

    return measure


def kept(percent: int) -> Measure:
    """Measure by backbone which share of the mean accuracy ``percent`` of the components keep, in percent."""

    def measure(evidence: Evidence) -> pd.DataFrame | None:
        if (pair := _curve(evidence, percent)) is None:
            return None
        whole, part = pair
        return 100 * part / whole

    return measure


def _curve(evidence: Evidence, percent: int) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    frame = evidence.tables["spectra"]
    if percent not in set(frame.percent):
        return None
    rows = frame[frame.percent.isin([percent, 100])]
    means = errors.over_tasks(evidence.accuracies(rows, ["backbone", "seed", "percent"]))
    return at(means, percent=100), at(means, percent=percent)


def compression(evidence: Evidence) -> pd.DataFrame:
    """Measure by cell the normalised accuracy of TSV-C in percent."""
    return 100 * at(evidence.compressed, method="tsv_c")


def lead(of: str) -> Measure:
    """Measure by cell how many points of normalised accuracy TSV-M lies above another merging method.

    Seeds that the other method did not run with are left out.
    """

    def measure(evidence: Evidence) -> pd.DataFrame:
        ours, theirs = (at(evidence.merged, method=name) for name in ("tsv_m", of))
        return 100 * (ours.reindex(theirs.index) - theirs)

    return measure


def over_each_step(evidence: Evidence) -> pd.DataFrame:
    """Measure by cell and step how many points of normalised accuracy TSV-M lies above that step alone."""
    alone = evidence.ablated
    both = at(evidence.merged, method="tsv_m").reindex(alone.droplevel("method").index)
    return 100 * (both.set_axis(alone.index) - alone)


def lost_at_one(evidence: Evidence) -> pd.DataFrame:
    """Measure by subset of tasks how many points of normalised accuracy alpha = 1 loses against the best alpha.

    The best alpha is that of one half of the inputs, its lead that of the other half, as a maximum of noisy numbers is
    too large where it was found. Halves show different sources; both ways round are averaged.
    """
    even, odd = (scores(evidence, half) for half in (0, 1))
    return (_lost_at_one(even, odd) + _lost_at_one(odd, even)) / 2


def scores(evidence: Evidence, half: int | None = None) -> pd.DataFrame:
    """Return normalised validation accuracies by backbone, seed, subset and alpha, of all inputs or of a half."""
    frame = evidence.tables["alpha"]
    key = ["backbone", "seed", "subset"]
    merged, experts = (frame[frame.method == name] for name in ("tsv_m", "individual"))
    drawn = evidence.accuracies(merged, [*key, "alpha"], "validation", half)
    return errors.normalised(drawn, evidence.accuracies(experts, key, "validation", half))


def _lost_at_one(chosen: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    first, second = chosen.to_numpy(), judged.reindex(chosen.index).to_numpy()
    is_one = chosen.index.get_level_values("alpha") == 1.0
    draws = np.arange(chosen.shape[1])
    groups = chosen.groupby(level=["backbone", "seed", "subset"]).indices
    rows = {
        subset: 100 * (second[places[first[places].argmax(axis=0)], draws] - second[places[is_one[places]]][0])
        for subset, places in groups.items()
    }
    return _by_case(rows, ["backbone", "seed", "subset"])


def model_sizes(evidence: Evidence) -> pd.DataFrame:
    """Measure by cell how many whole models all TSV-C experts together take."""
    frame = evidence.tables["compress"]
    taken = frame[frame.metric == "bytes"].set_index([*CELL, "method"]).value
    ours, whole = (at(taken.to_frame(0), method=name) for name in ("tsv_c", "individual"))
    return ours / whole.div(whole.index.get_level_values("n_tasks"), axis=0)


def adaptation_gain(evidence: Evidence) -> pd.DataFrame:
    """Measure by cell how many points of mean accuracy adaptation adds to TSV-M as it was before."""
    frame = evidence.tables["test_time"]
    rows = frame[(frame.method == "tsv_m_adapted") & frame.metric.isin(["accuracy", "accuracy_before"])]
    means = errors.over_tasks(evidence.accuracies(rows, [*CELL, "metric"]))
    return 100 * (at(means, metric="accuracy") - at(means, metric="accuracy_before"))


def with_depth(evidence: Evidence) -> pd.DataFrame:
    """Measure by backbone and suite the rank correlation of a layer's number and its interference over all seeds."""
    frame = _entrywise(evidence)
    inside = frame[(frame.layer >= 0) & (frame.form == "none")]
    sums = inside.groupby([*CELL, "layer"]).value.sum().groupby(level=["backbone", "n_tasks", "layer"]).mean()
    found = {
        cell: rank_correlation(layers.index.get_level_values("layer").to_series(), layers.to_frame(0))
        for cell, layers in sums.groupby(level=["backbone", "n_tasks"])
    }
    return _by_case(found, ["backbone", "n_tasks"])


def with_accuracy(evidence: Evidence) -> pd.DataFrame:
    """Measure by backbone the rank correlation of interference left and normalised accuracy over forms.

    The forms are those of TSV-M with none, one and both of its steps. It is taken within each suite, since both change
    with the number of tasks whatever the form, and averaged over these.
    """
    accuracy, left = by_form(evidence), interference_left(evidence)
    found = {}
    for backbone, seed in accuracy.droplevel(["n_tasks", "form"]).index.unique():
        here = at(accuracy, backbone=backbone, seed=seed)
        there = at(left, backbone=backbone, seed=seed)[0].reindex(here.index)
        found[backbone, seed] = pd.concat(
            [rank_correlation(there[suite.index], suite) for _, suite in here.groupby(level="n_tasks")], axis=1
        ).mean(axis=1)
    return _by_case(found, ["backbone", "seed"])


def by_form(evidence: Evidence) -> pd.DataFrame:
    """Return normalised accuracies by cell and form, of the seeds that were merged in all forms."""
    alone, merged = evidence.ablated, evidence.merged
    whole = merged[merged.droplevel("method").index.isin(alone.droplevel("method").index)]
    methods = pd.concat([alone, whole])
    methods = methods[methods.index.get_level_values("method").isin(list(FORMS))]
    return methods.rename(index=FORMS, level="method").rename_axis(index={"method": "form"})


def interference_left(evidence: Evidence) -> pd.DataFrame:
    """Return by cell and form the interference that is left in what is added up, over all matrices."""
    sums = _entrywise(evidence).groupby([*CELL, "form"]).value.sum().to_frame(0)
    none = at(sums, form="none").reindex(sums.droplevel("form").index).set_axis(sums.index)
    return sums.where(sums >= NOTHING * none, 0.0)


def to_chance(evidence: Evidence) -> pd.DataFrame:
    """Measure by matrix and side the Procrustes error of truncated factors relative to that of random ones."""
    frame = evidence.tables["procrustes"]
    key = ["backbone", "layer", "matrix", "vectors"]
    errors_of = frame[frame["rank"] == "low"].groupby(key)[["error", "chance"]].mean()
    return (errors_of.error / errors_of.chance).to_frame(0)


def at(drawn: pd.DataFrame, **places: Hashable) -> pd.DataFrame:
    """Return the rows with the given values of levels, without these levels."""
    wanted = np.logical_and.reduce([drawn.index.get_level_values(level) == value for level, value in places.items()])
    return drawn[wanted].droplevel(list(places))


def rank_correlation(first: pd.Series, second: pd.DataFrame) -> pd.Series:
    """Return Spearman's rank correlation of a series with every column, 0 where either is constant."""
    a = first.rank().to_numpy()
    b = second.rank().to_numpy()
    a, b = a - a.mean(), b - b.mean(axis=0)
    length = np.sqrt((a @ a) * (b * b).sum(axis=0))
    return pd.Series((a @ b) / np.where(length > 0, length, np.inf), index=second.columns)


def _by_case(found: Mapping[Any, Any], levels: list[str]) -> pd.DataFrame:
    """Return drawn numbers as a row for each case, of which there may be none."""
    return pd.DataFrame(found).T.rename_axis(levels) if found else errors.none(levels)


def _entrywise(evidence: Evidence) -> pd.DataFrame:
    frame = evidence.tables["interference"]
    return frame[frame.metric == "entrywise"]
