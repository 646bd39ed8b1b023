# SPDX-License-Identifier: MIT
"""Which method to use, by what one has: the best that was measured, for the README.

What a method takes is read from the measured table: the inputs that it was shown, those whose labels it was told, and
the bytes that it keeps. Of the methods that take no more than one has, the best on average over backbones is named for
each suite, and every other that sampling could put level with it (paired draws, corrected by Holm).
"""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from compendium import paths
from compendium.paper import errors, results
from compendium.paper.evidence import CELL, at
from compendium.paper.tables import NOT_RUN, TITLES

WORLDS = ("mini", "minilm")
TABLE = "beyond"
ONE_MODEL = "weight_averaging"
"""Whose bytes are those of one model."""

SPARE = 1.01
"""How many times as many bytes are still one model: whole numbers among the weights may take more or less room."""

MOST = 4
"""How many are named beside the best."""

HAVING: Mapping[str, frozenset[str]] = {
    "nothing but the checkpoints": frozenset(),
    "unlabelled inputs of each task": frozenset({"inputs"}),
    "labelled inputs of each task": frozenset({"inputs", "labels"}),
    "room for more than one model": frozenset({"more"}),
    "all of these": frozenset({"inputs", "labels", "more"}),
}
"""What a method may take, by what one has."""

ADAPTERS = "LoRA adapters alone"


class World(NamedTuple):
    """The measured tables of a world: all methods, the merges of Table 2 with their experts, and the sources."""

    methods: pd.DataFrame
    merged: pd.DataFrame
    sources: pd.DataFrame


def table() -> str:
    """Return the best methods of every world in this checkout as Markdown, by what one has."""
    return markdown({name: measured(name) for name in WORLDS})


def measured(name: str) -> World | None:
    """Return the tables of a world, or None where the methods were not run."""
    folder = paths.ROOT / "data" / "results" / name
    if not (folder / f"{TABLE}.csv").is_file():
        return None
    return World(*(results.read(folder / f"{each}.csv") for each in (TABLE, "merge", "sources")))


def markdown(worlds: Mapping[str, World | None]) -> str:
    """Return the table: a row for what one has, a column for each world."""
    found = {name: _best(world) if world else {} for name, world in worlds.items()}
    rows = [[words, *(each.get(words, NOT_RUN) for each in found.values())] for words in (*HAVING, ADAPTERS)]
    lines = [["You have", *worlds], ["---"] * (1 + len(worlds)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _best(world: World) -> dict[str, str]:
    """Return by what one has the best methods of each suite; nothing for what no method was measured with."""
    drawn, takes = _pooled(world), taken(world.methods)
    found = {}
    for words, had in HAVING.items():
        fitting = [name for name, row in takes.iterrows() if had.issuperset(row.index[row])]
        rows = drawn[drawn.index.get_level_values("method").isin(fitting)]
        suites = sorted(rows.index.get_level_values("n_tasks").unique())
        if suites:
            found[words] = "; ".join(f"{n_tasks} tasks: {_told(at(rows, n_tasks=n_tasks))}" for n_tasks in suites)
    return found


def taken(frame: pd.DataFrame) -> pd.DataFrame:
    """Return by method whether it takes ``inputs``, ``labels`` and ``more`` bytes than one model, in any setting.

    Of what nobody counted the bytes, as the zero-shot model and the experts, nothing is returned.
    """
    values = frame.pivot_table(index=["backbone", "n_tasks", "method"], columns="metric", values="value")
    values = values[values.bytes.notna()]
    one = values.bytes.xs(ONE_MODEL, level="method").reindex(values.droplevel("method").index).to_numpy()
    flags = pd.DataFrame({"inputs": values.inputs > 0, "labels": values.labels > 0, "more": values.bytes > SPARE * one})
    return flags.groupby(level="method").any()


def _pooled(world: World) -> pd.DataFrame:
    """Return drawn normalised accuracies by suite and method, as means over backbones, of what ran on all of them."""
    merged = world.merged
    experts = merged[(merged.method == "individual") & (merged.metric == "accuracy")]
    of_experts = errors.accuracies(experts, world.sources, CELL)
    rows = world.methods[world.methods.metric == "accuracy"]
    cells = errors.over_seeds(errors.normalised(errors.accuracies(rows, world.sources, [*CELL, "method"]), of_experts))
    groups = cells.groupby(level=["n_tasks", "method"])
    whole = groups.size() == cells.index.get_level_values("backbone").nunique()
    pooled: pd.DataFrame = groups.mean()[whole]
    return pooled


def _told(rows: pd.DataFrame) -> str:
    """Return the best of some methods with its number, and those that sampling could put level with it."""
    best = str(rows[0].idxmax())
    others = rows.drop(index=best)
    leads = rows.loc[best] - others
    surely = errors.holm(errors.chances(leads[0], errors.standard_error(leads), strict=True))
    number, error = float(rows[0][best]), float(errors.standard_error(rows)[best])
    level = [str(name) for name in leads[0][~surely].sort_values(kind="stable").index]
    names = [TITLES[name] for name in level[:MOST]] + ([f"{len(level) - MOST} more"] if len(level) > MOST else [])
    also = f" (level: {', '.join(names)})" if names else ""
    return f"{TITLES[best]} {100 * number:.1f} ± {100 * error:.1f}{also}"
