# SPDX-License-Identifier: MIT
"""From tidy rows to what figures and tables show: means over tasks, spread over seeds, cells as text."""

import pandas as pd

from compendium.profiles import Profile

TITLES = {
    "zero_shot": "Zero-shot",
    "individual": "Individual",
    "weight_averaging": "Weight averaging",
    "task_arithmetic": "Task arithmetic",
    "ties": "TIES",
    "iso_c": "Iso-C",
    "consensus_ta": "Consensus TA",
    "tsv_m": "TSV-M",
    "tsv_m_eigen": "TSV-M, eigen form",
    "low_rank": "Low rank only",
    "interference_reduction": "Interference reduction only",
    "adamerging": "AdaMerging",
    "tsv_m_adapted": "TSV-M + adaptation",
    "tsv_c": "TSV-C",
    "tall_mask_ties": "TALL-Mask + TIES",
}
"""What readers know methods by: those of ``METHODS``, whose titles these are, and what stands beside them.

Written down, because drawing and printing need no torch."""

SETTING = ["backbone", "n_tasks", "method", "metric"]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``mean``, ``spread`` (sample standard deviation) and number of ``seeds`` of every metric by setting.

    Values are averaged over tasks first, so that the spread is that of whole runs. One seed has no spread (NaN).
    """
    per_run = frame.groupby([*SETTING, "seed"], as_index=False).value.mean()
    groups = per_run.groupby(SETTING).value
    return pd.DataFrame({"mean": groups.mean(), "spread": groups.std(), "seeds": groups.count()})


def means(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean of one metric: a row for every backbone and suite, a column for every method."""
    mean = summary(frame)["mean"].xs(metric, level="metric")
    return mean.reset_index().pivot_table(index=["backbone", "n_tasks"], columns="method", values="mean")


def cell(rows: pd.DataFrame, setting: tuple[str, int, str]) -> str:
    """Return one table cell: accuracy in percent, ± its spread over seeds, normalised accuracy in parentheses.

    ``rows`` is a :func:`summary`, ``setting`` a backbone, a number of tasks and a method. What was not measured
    reads "not run"; what no seed can change, as the zero-shot model, shows no spread.
    """
    if (*setting, "accuracy") not in rows.index:
        return "not run"
    accuracy, normalised = (rows.xs((*setting, metric)).to_dict() for metric in ("accuracy", "normalised_accuracy"))
    spread = f" ± {100 * accuracy['spread']:.1f}" if accuracy["seeds"] > 1 and accuracy["spread"] > 1e-9 else ""
    return pair(100 * accuracy["mean"], 100 * normalised["mean"], 1, spread)


def pair(accuracy: float, normalised: float, decimals: int = 2, spread: str = "") -> str:
    """Return accuracy, its spread if there is one, and normalised accuracy in parentheses; both are in percent.

    >>> pair(85.857, 92.31), pair(70.04, 60.0, 1, " ± 0.2")
    ('85.86 (92.31)', '70.0 ± 0.2 (60.0)')
    """
    return f"{accuracy:.{decimals}f}{spread} ({normalised:.{decimals}f})"


def accuracy_table(frame: pd.DataFrame, profile: Profile, methods: dict[str, str]) -> pd.DataFrame:
    """Return the cells of all backbones and suites: one row per method, by title, one column per setting."""
    rows = summary(frame)
    return pd.DataFrame(
        {
            column(backbone.label, n_tasks): [cell(rows, (backbone.name, n_tasks, name)) for name in methods]
            for backbone in profile.backbones
            for n_tasks in profile.suites
        },
        index=pd.Index(methods.values(), name="Method"),
    )


def published_table(frame: pd.DataFrame, profile: Profile, methods: dict[str, str], source: str) -> pd.DataFrame:
    """Return published cells in the columns of :func:`accuracy_table`, with ``source`` behind the titles of rows.

    A column shows the published backbone that the profile's stands for, with as many tasks, and ``frame`` is a
    published table with accuracies as printed. Where it has none, cells read "not published".
    """
    percent = frame.pivot_table(index=["backbone", "n_tasks", "method"], columns="metric", values="percent")
    cells = {
        place: pair(accuracy, normalised)
        for place, accuracy, normalised in percent[["accuracy", "normalised_accuracy"]].itertuples()
    }
    return pd.DataFrame(
        {
            column(backbone.label, n_tasks): [
                cells.get((backbone.counterpart, n_tasks, name), "not published") for name in methods
            ]
            for backbone in profile.backbones
            for n_tasks in profile.suites
        },
        index=pd.Index([f"{title}, {source}" for title in methods.values()], name="Method"),
    )


def best(frame: pd.DataFrame, profile: Profile, methods: dict[str, str]) -> list[tuple[str, str]]:
    """Return (row, column) of the most accurate of ``methods`` in every setting that was run."""
    winners = means(frame, "accuracy")[list(methods)].idxmax(axis=1).to_dict()
    return [
        (methods[str(winners[backbone.name, n_tasks])], column(backbone.label, n_tasks))
        for backbone in profile.backbones
        for n_tasks in profile.suites
        if (backbone.name, n_tasks) in winners
    ]


def column(label: str, n_tasks: int) -> str:
    """Return the heading of a setting."""
    return f"{label}, {n_tasks} tasks"
