# SPDX-License-Identifier: MIT
"""Which methods lead, by how much, and at what cost: all methods compared with one of them on the same inputs."""

from itertools import product

import pandas as pd

from compendium.paper import errors, tables
from compendium.paper.evidence import at
from compendium.profiles import Profile

REFERENCE = "tsv_m_alpha_1"
"""TSV-M as the paper recommends it, which all others are compared with."""

BOUNDS = ("zero_shot", "individual")
"""Between which merged models lie; they take no part."""

AHEAD, BEHIND = " +", " -"
"""At the end of cells that are surely ahead of the reference, or behind it."""

COSTS = ("seconds", "bytes", "inputs")


def named(frame: pd.DataFrame) -> dict[str, str]:
    """Return the titles of all methods of a result table by their names, in the order of tables."""
    there = set(frame.method)
    return {name: title for name, title in tables.TITLES.items() if name in there}


def against(frame: pd.DataFrame, sources: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Return by setting and method how far it lies above a reference in mean normalised accuracy, on paired draws.

    The columns are ``lead`` and its ``error`` in points, and whether it is surely ``ahead`` or surely ``behind``, after
    Holm's correction for all of these questions together.
    """
    rows = at(tables.drawn(frame, sources), metric="normalised_accuracy")
    own = at(rows, method=reference)
    others = rows.drop(index=[reference, *BOUNDS], level="method")
    leads = others - own.loc[list(others.droplevel("method").index)].set_axis(others.index)
    error = errors.standard_error(leads)
    sides = {"ahead": leads[0], "behind": -leads[0]}
    asked = pd.concat({side: errors.chances(margin, error, strict=True) for side, margin in sides.items()})
    surely = errors.holm(asked)
    return pd.DataFrame({"lead": 100 * leads[0], "error": 100 * error} | {side: surely[side] for side in sides})


def accuracy_table(frame: pd.DataFrame, sources: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Return the cells of all methods and settings, those that are surely ahead or behind with their marks."""
    titles, found = named(frame), against(frame, sources)
    table = tables.accuracy_table(frame, sources, profile, titles)
    marks = dict.fromkeys(found.index[found.ahead], AHEAD) | dict.fromkeys(found.index[found.behind], BEHIND)
    for backbone, n_tasks in product(profile.backbones, profile.suites):
        column = tables.column(backbone.label, n_tasks)
        ends = [marks.get((backbone.name, n_tasks, name), "") for name in titles]
        table[column] = [f"{cell}{end}" for cell, end in zip(table[column], ends, strict=True)]
    return table


def told(found: pd.DataFrame) -> str:
    """Return a sentence for a caption: how often methods are surely ahead or behind, in how many comparisons."""
    return (
        f"Of {len(found)} comparisons with {tables.TITLES[REFERENCE]} on the same inputs (Holm at "
        f"{100 * errors.LEVEL:.0f} % over both sides), {int(found.ahead.sum())} are surely ahead and "
        f"{int(found.behind.sum())} surely behind; the others, sampling could explain."
    )


def costs(frame: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Return what each method takes: a row for every backbone, suite and method, NaN where it was not measured.

    The columns are ``seconds``, ``bytes``, ``inputs``, ``labels``, the chosen ``alpha``, and the normalised accuracy
    that it has for that, in percent. ``frame`` is the result table ``beyond``, ``times`` that of seconds.
    """
    rows = pd.concat([frame[frame.task == "all"], times])
    found = rows.pivot_table(index=["backbone", "n_tasks", "method"], columns="metric", values="value")
    found["accuracy"] = 100 * found.normalised_accuracy
    wanted = [*COSTS, "labels", "alpha", "accuracy"]
    return found.reindex(columns=wanted)[found.bytes.notna()]


def cost_table(found: pd.DataFrame, profile: Profile, backbone: str, n_tasks: int) -> pd.DataFrame:
    """Return what methods take in one setting as text, and their seconds with every backbone."""
    every = set(found.index.get_level_values("method"))
    rows = at(found, backbone=backbone, n_tasks=n_tasks).reindex([name for name in tables.TITLES if name in every])
    cells = {
        "Inputs": [_cell(value, "{:.0f}") for value in rows.inputs],
        "Labels": [_cell(value, "{:.0f}") for value in rows.labels],
        "Alpha": [_cell(value, "{:.2f}") for value in rows.alpha.fillna(1).where(rows.bytes.notna())],
        "Stored (MB)": [_cell(value / 1e6, "{:.2f}") for value in rows.bytes],
    }
    for each in profile.backbones:
        seconds = found.seconds.reindex([(each.name, n_tasks, name) for name in rows.index])
        cells[f"Seconds, {each.label}"] = [_cell(value, "{:.2f}") for value in seconds]
    return pd.DataFrame(cells, index=pd.Index([tables.TITLES[name] for name in rows.index], name="Method"))


def frontier(found: pd.DataFrame, cost: str) -> list[str]:
    """Return the methods of one setting of which no other is more accurate for the same cost or less, cheapest first.

    >>> found = pd.DataFrame({"bytes": [1, 1, 2, 3], "accuracy": [5.0, 6.0, 6.0, 7.0]}, index=["a", "b", "c", "d"])
    >>> frontier(found, "bytes")
    ['b', 'd']
    """
    rising = found.dropna(subset=[cost, "accuracy"]).sort_values([cost, "accuracy"], ascending=[True, False])
    best = rising.accuracy.cummax().shift(fill_value=float("-inf"))
    return list(rising.index[rising.accuracy > best])


def _cell(value: float, shape: str) -> str:
    return tables.NOT_RUN if pd.isna(value) else shape.format(value)
