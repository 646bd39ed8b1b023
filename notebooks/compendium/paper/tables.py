# SPDX-License-Identifier: MIT
"""From tidy rows to what figures and tables show: means over tasks, their errors, spread over seeds, cells as text."""

import pandas as pd

from compendium import profiles
from compendium.paper import errors
from compendium.paper.evidence import CELL, at
from compendium.profiles import Profile
from tsvlib.errors import InputError

TITLES = {
    "zero_shot": "Zero-shot",
    "individual": "Individual",
    "weight_averaging": "Weight averaging",
    "task_arithmetic": "Task arithmetic",
    "ties": "TIES",
    "consensus_ta": "Consensus TA",
    "fisher": "Fisher merging",
    "regmean": "RegMean",
    "adamerging_task": "AdaMerging, task-wise",
    "adamerging": "AdaMerging, layer-wise",
    "tsv_m_adapted": "TSV-M + adaptation",
    "tsv_m_alpha_1": "TSV-M, alpha = 1",
    "tsv_m": "TSV-M",
    "tsv_m_eigen": "TSV-M, eigen form",
    "low_rank": "Low rank only",
    "interference_reduction": "Interference reduction only",
    "tsv_m_split": "TSV-M, q, k, v apart",
    "tsv_m_exchanged": "TSV-M, steps exchanged",
    "tsv_m_gavish_donoho": "TSV-M, Gavish-Donoho",
    "tsv_m_marchenko_pastur": "TSV-M, Marchenko-Pastur",
    "tsv_m_energy": "TSV-M, energy",
    "dc_merge_alpha_1": "DC-Merge, alpha = 1",
    "dc_merge": "DC-Merge",
    "iso_c_alpha_1": "Iso-C, alpha = 1",
    "iso_c": "Iso-C",
    "iso_cts_alpha_1": "Iso-CTS, alpha = 1",
    "iso_cts": "Iso-CTS",
    "regmean_from_differences": "RegMean from differences",
    "swudi": "SWUDI",
    "aswudi": "ASWUDI",
    "wudi": "WUDI",
    "star": "STAR",
    "cart": "CART",
    "dare": "DARE",
    "breadcrumbs": "Model Breadcrumbs",
    "knots_ties": "KnOTS-TIES",
    "esm": "ESM",
    "svc": "SVC",
    "svc_shrinking": "SVC, shrinking only",
    "boosting": "Subspace Boosting",
    "lines": "LiNeS",
    "task_arithmetic+svc": "Task arithmetic + SVC",
    "tsv_m+svc_shrinking": "TSV-M + SVC, shrinking only",
    "task_arithmetic+boosting": "Task arithmetic + Subspace Boosting",
    "tsv_m_alpha_1+boosting": "TSV-M, alpha = 1 + Subspace Boosting",
    "task_arithmetic+lines": "Task arithmetic + LiNeS",
    "tsv_c": "TSV-C",
    "tall_mask_ties": "TALL-Mask + TIES",
    "tall_mask_ta": "TALL-Mask + TA",
    "emr": "EMR-Merging",
}
"""What readers know methods by, in the order in which tables show them: those of ``METHODS``, whose titles these are,
and what stands beside them.

Written down, because drawing and printing need no torch."""

NOT_RUN = "not run"
"""What a cell reads that was not measured."""

SETTING = ["backbone", "n_tasks", "method", "metric"]


def summary(frame: pd.DataFrame, sources: pd.DataFrame) -> pd.DataFrame:
    """Return ``mean``, sampling ``error``, ``spread`` over seeds and number of ``seeds`` of every metric by setting.

    Values are averaged over tasks first, so that the spread (sample standard deviation) is that of whole runs; one seed
    has none (NaN). Errors are those of accuracy and normalised accuracy, for which ``frame`` holds the individual
    experts; ``sources`` is the result table of that name.
    """
    per_run = frame.groupby([*SETTING, "seed"], as_index=False).value.mean()
    groups = per_run.groupby(SETTING).value
    error = errors.standard_error(drawn(frame, sources))
    return pd.DataFrame({"mean": groups.mean(), "spread": groups.std(), "seeds": groups.count(), "error": error})


def drawn(frame: pd.DataFrame, sources: pd.DataFrame) -> pd.DataFrame:
    """Return mean accuracy and mean normalised accuracy of every setting, a column for each draw of the bootstrap."""
    cells = errors.accuracies(frame[frame.metric == "accuracy"], sources, [*CELL, "method"])
    by_metric = {
        "accuracy": errors.over_tasks(cells),
        "normalised_accuracy": errors.normalised(cells, at(cells, method="individual")),
    }
    return errors.over_seeds(pd.concat(by_metric, names=["metric"])).reorder_levels(SETTING).sort_index()


def sampling(sources: pd.DataFrame, split: str = "test") -> str:
    """Return what the errors of a table rest on, in sentences for its caption."""
    rows = sources[sources.split == split]
    per_task, shown = (_range(rows[column]) for column in ("inputs", "sources"))
    few = errors.few(sources, split)
    those = f"; fewer than {errors.FEW} sources: {', '.join(few)}" if few else ""
    return (
        f"Errors are standard errors by {errors.DRAWS:,} bootstrap draws of the sources "
        f"that the {split} inputs show: {per_task} inputs of {shown} sources for each of {len(rows)} tasks{those}."
    )


def means(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean of one metric: a row for every backbone and suite, a column for every method."""
    rows = frame[frame.metric == metric]
    per_run = rows.groupby(["backbone", "n_tasks", "method", "seed"], as_index=False).value.mean()
    found: pd.DataFrame = per_run.pivot_table(index=["backbone", "n_tasks"], columns="method", values="value")
    return found


def chosen_alpha(rows: pd.DataFrame, method: str) -> float:
    """Return the alpha that validation inputs chose for a method, in rows of one run; InputError where they did not."""
    found = rows[(rows.method == method) & (rows.metric == "alpha")].value
    if len(found) != 1:
        known = ", ".join(rows[rows.metric == "alpha"].method.unique())
        raise InputError(f"no alpha was chosen for {method!r}; take one of {known}, or say which alpha.")
    return float(found.iloc[0])


def cell(rows: pd.DataFrame, setting: tuple[str, int, str]) -> str:
    """Return one table cell: accuracy in percent, in parentheses normalised accuracy, each ± its sampling error.

    The spread of accuracy over seeds follows in brackets. ``rows`` is a :func:`summary`, ``setting`` a backbone, a
    number of tasks and a method. What was not measured reads ``NOT_RUN``; what no seed can change, as the zero-shot
    model, shows no spread, and what no sample can, as the normalised accuracy of experts, no error.
    """
    if (*setting, "accuracy") not in rows.index:
        return NOT_RUN
    accuracy, normalised = (rows.xs((*setting, metric)).to_dict() for metric in ("accuracy", "normalised_accuracy"))
    shares = (_percent(found["mean"], found["error"]) for found in (accuracy, normalised))
    several = accuracy["seeds"] > 1 and accuracy["spread"] > errors.ROUNDING
    return "{} ({})".format(*shares) + (f" [{100 * accuracy['spread']:.1f}]" if several else "")


CELLS = (
    "mean test accuracy in percent, in parentheses the mean normalised accuracy, each ± its standard error; in "
    "brackets the sample standard deviation of accuracy over seeds of fine-tuning, where there are several"
)
"""What a :func:`cell` shows, for captions."""


def pair(accuracy: float, normalised: float, decimals: int = 2) -> str:
    """Return accuracy and normalised accuracy in parentheses; both are in percent.

    >>> pair(85.857, 92.31), pair(70.04, 60.0, 1)
    ('85.86 (92.31)', '70.0 (60.0)')
    """
    return f"{accuracy:.{decimals}f} ({normalised:.{decimals}f})"


def accuracy_table(
    frame: pd.DataFrame, sources: pd.DataFrame, profile: Profile, methods: dict[str, str]
) -> pd.DataFrame:
    """Return the cells of all backbones and suites: one row per method, by title, one column per setting.

    Where ``profile`` is a part of one, there are columns for all of that.
    """
    rows, whole = summary(frame, sources), profiles.whole(profile)
    return pd.DataFrame(
        {
            column(backbone.label, n_tasks): [cell(rows, (backbone.name, n_tasks, name)) for name in methods]
            for backbone in whole.backbones
            for n_tasks in whole.suites
        },
        index=pd.Index(methods.values(), name="Method"),
    )


def published_table(
    frame: pd.DataFrame, profile: Profile, methods: dict[str, str], source: str, decimals: int = 2
) -> pd.DataFrame:
    """Return published cells in the columns of :func:`accuracy_table`, with ``source`` behind the titles of rows.

    A column shows the published backbone that the profile's stands for, with as many tasks, and ``frame`` is a
    published table with accuracies as printed, with as many decimals. Where it has none, cells read "not published".
    """
    whole = profiles.whole(profile)
    percent = frame.pivot_table(index=["backbone", "n_tasks", "method"], columns="metric", values="percent")
    cells = {
        place: pair(accuracy, normalised, decimals)
        for place, accuracy, normalised in percent[["accuracy", "normalised_accuracy"]].itertuples()
    }
    return pd.DataFrame(
        {
            column(backbone.label, n_tasks): [
                cells.get((backbone.counterpart, n_tasks, name), "not published") for name in methods
            ]
            for backbone in whole.backbones
            for n_tasks in whole.suites
        },
        index=pd.Index([f"{title}, {source}" for title in methods.values()], name="Method"),
    )


def best(frame: pd.DataFrame, profile: Profile, methods: dict[str, str]) -> list[tuple[str, str]]:
    """Return (row, column) of the most accurate of ``methods`` in every setting that was run."""
    measured = means(frame, "accuracy").reindex(columns=list(methods)).dropna(how="all")
    winners = measured.idxmax(axis=1).to_dict()
    return [
        (methods[str(winners[backbone.name, n_tasks])], column(backbone.label, n_tasks))
        for backbone in profile.backbones
        for n_tasks in profile.suites
        if (backbone.name, n_tasks) in winners
    ]


def behind_the_best(
    frame: pd.DataFrame, sources: pd.DataFrame, methods: dict[str, str], metric: str = "accuracy"
) -> pd.DataFrame:
    """Return by setting and method how far each of ``methods`` lies behind the best of them, compared on paired draws.

    The columns are ``behind`` and its ``error`` in points, and whether it is ``surely`` behind after Holm's correction
    for the number of rows.
    """
    rows = at(drawn(frame, sources), metric=metric)
    rows = rows[rows.index.get_level_values("method").isin(list(methods))]
    best_of = rows[0].groupby(level=["backbone", "n_tasks"]).idxmax()
    others = rows.drop(index=list(best_of))
    leads = rows.loc[[best_of[place] for place in others.droplevel("method").index]].set_axis(others.index) - others
    error = errors.standard_error(leads)
    surely = errors.holm(errors.chances(leads[0], error, strict=True))
    return pd.DataFrame({"behind": 100 * leads[0], "error": 100 * error, "surely": surely})


def unsure(found: pd.DataFrame, profile: Profile) -> str:
    """Return a sentence for a caption: which rows of :func:`behind_the_best` are not surely behind."""
    near = [
        f"{TITLES[name]} ({column(profile.backbone(backbone).label, n_tasks)})"
        for backbone, n_tasks, name in found.index[~found.surely]
    ]
    return (
        f"Of {len(found)} paired comparisons with the best (Holm at {100 * errors.LEVEL:.0f} %), those that sampling "
        f"could explain: {'; '.join(near) or 'none'}."
    )


def column(label: str, n_tasks: int) -> str:
    """Return the heading of a setting."""
    return f"{label}, {n_tasks} tasks"


def columns(profile: Profile) -> list[str]:
    """Return the headings of all settings of a profile, or of a part of it."""
    return [column(backbone.label, n_tasks) for backbone in profile.backbones for n_tasks in profile.suites]


def _percent(mean: float, error: float) -> str:
    return f"{100 * mean:.1f}" + (f" ± {100 * error:.1f}" if error > errors.ROUNDING else "")


def _range(numbers: pd.Series) -> str:
    ends = (f"{numbers.min():,}", f"{numbers.max():,}")
    return " to ".join(dict.fromkeys(ends))
