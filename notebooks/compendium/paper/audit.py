# SPDX-License-Identifier: MIT
"""What published numbers show of themselves: test-set sizes behind accuracies, and means that can be recomputed.

An accuracy is a whole number of correct images over the number of images. Printed with enough digits, it gives that
number away.
"""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from compendium.paper import tables

EXACT = 1e-6
"""Distance from a whole number, in images, that sixteen printed digits leave after rounding."""

DECIMALS = 2


def is_multiple(accuracy: float, n_images: int) -> bool:
    """Tell whether an accuracy is a whole number of images out of ``n_images``.

    >>> is_multiple(0.75, 4), is_multiple(0.75, 3)
    (True, False)
    """
    correct = accuracy * n_images
    return abs(correct - round(correct)) < EXACT


def fitting_sizes(accuracies: Sequence[float], candidates: Collection[int]) -> list[int]:
    """Return those numbers of images, in rising order, of which all accuracies are whole shares.

    >>> fitting_sizes([0.75, 0.5], range(1, 9))
    [4, 8]
    """
    return [size for size in sorted(candidates) if all(is_multiple(value, size) for value in accuracies)]


def sizes(experts: pd.DataFrame, per_dataset: pd.DataFrame, data_sets: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return by data set the known sizes of its splits and the least size, below ``limit``, that the accuracies fit.

    The tables are those of ``compendium.published``, ``data_sets`` with ``task`` as its index.
    """
    splits = {name: rows.set_index("task").accuracy for name, rows in experts.groupby("split")}
    measured = {
        "experts, validation": splits["validation"],
        "experts, test": splits["test"],
        "merged and TSV-C, test": per_dataset.set_index("task").accuracy,
    }
    rows = {
        task: {name: fitting_sizes(list(values[task]), range(1, limit))[0] for name, values in measured.items()}
        for task in data_sets.index
    }
    known = {"validation_images": "validation split", "test_images": "test split"}
    found = data_sets[list(known)].rename(columns=known).join(pd.DataFrame(rows).T)
    return found.rename_axis("Data set")


def recomputed(per_dataset: pd.DataFrame, experts: pd.DataFrame, without: Collection[str] = ()) -> pd.DataFrame:
    """Return mean and mean normalised accuracy in percent by backbone, number of tasks and method.

    ``per_dataset`` has ``backbone, n_tasks, method, task, accuracy``; ``experts`` has ``backbone, task, accuracy``, on
    the test images. Tasks ``without`` are left out of both means; the models were still merged with them.
    """
    own = experts.rename(columns={"accuracy": "expert"})[["backbone", "task", "expert"]]
    rows = per_dataset[~per_dataset.task.isin(list(without))].merge(
        own, on=["backbone", "task"], validate="many_to_one"
    )
    rows = rows.assign(normalised=rows.accuracy / rows.expert)
    means = 100 * rows.groupby(["backbone", "n_tasks", "method"])[["accuracy", "normalised"]].mean()
    return means.rename(columns={"normalised": "normalised_accuracy"})


def mean_table(means: Mapping[str, pd.DataFrame], method: str) -> pd.DataFrame:
    """Return one method's cells, "accuracy (normalised accuracy)" in percent: a row for each of ``means``."""
    rows = {name: frame.xs(method, level="method") for name, frame in means.items()}
    cells = {
        name: {
            tables.column(backbone, n_tasks): tables.pair(accuracy, normalised)
            for (backbone, n_tasks), accuracy, normalised in frame.itertuples()
        }
        for name, frame in rows.items()
    }
    return pd.DataFrame(cells).T


def against_print(printed: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Return every printed cell that can be recomputed, with its verdict: rounded, cut off, or different.

    ``printed`` has ``backbone, n_tasks, method, metric, percent``; ``means`` is what :func:`recomputed` returns.
    """
    long = means.reset_index().melt(["backbone", "n_tasks", "method"], var_name="metric", value_name="recomputed")
    cells = printed.merge(long, on=["backbone", "n_tasks", "method", "metric"], validate="one_to_one")
    verdicts = [verdict(*pair) for pair in zip(cells.percent, cells.recomputed, strict=True)]
    return cells.assign(difference=cells.percent - cells.recomputed, verdict=verdicts)


def verdict(printed: float, exact: float) -> str:
    """Return how a number with two decimals follows from the exact one.

    >>> verdict(92.32, 92.3158), verdict(92.31, 92.3158), verdict(82.22, 82.2733)
    ('rounded', 'cut off', 'different')
    """
    unit = 10.0**-DECIMALS
    if abs(printed - exact) <= unit / 2 + EXACT:
        return "rounded"
    return "cut off" if 0 < exact - printed < unit else "different"
