# SPDX-License-Identifier: MIT
"""What each method requires beyond the checkpoints: Table 1, as declared here and as published.

A merging method declares it where it is registered. What is no merging function declares it in ``OTHERS``.
"""

from collections.abc import Hashable, Mapping

import pandas as pd

from tsvlib.methods import METHODS
from tsvlib.methods.base import Needs

OTHERS = {
    "tsv_c": Needs(storage=True),
    "tall_mask_ties": Needs(storage=True, inputs=True, labels=True),
    "adamerging": Needs(training=True, inputs=True),
    "tsv_m_adapted": Needs(training=True, inputs=True),
}
"""By the names of ``tables.TITLES``: methods that compress experts, or that train what merges them."""

COLUMNS = {
    "training": "Extra training",
    "storage": "Extra storage",
    "inputs": "Validation inputs",
    "labels": "Validation labels",
}
WORDS = {True: "yes", False: "no"}


def declared() -> dict[str, Needs]:
    """Return what every method that can be run here requires, by its name."""
    return {name: method.needs for name, method in METHODS.items()} | OTHERS


def table(published: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Return Table 1: the published methods in their order, then those of this library alone, by title.

    ``published`` is the published table ``requirements``. Cells say what this library declares, followed by what the
    paper says where that differs; of methods that only the paper has, what the paper says. ``titles`` are ours.
    """
    ours = declared()
    theirs = {row["method"]: row for row in published.to_dict("records")}
    rows = [_row(name, ours.get(name), theirs.get(name), titles) for name in dict.fromkeys([*theirs, *ours])]
    return pd.DataFrame(rows).set_index("Method")


def _row(
    name: str, ours: Needs | None, theirs: Mapping[Hashable, str] | None, titles: Mapping[str, str]
) -> dict[str, str]:
    cells = {}
    for field, heading in COLUMNS.items():
        words = [WORDS[getattr(ours, field)]] if ours else []
        words += [theirs[field]] if theirs else []
        cells[heading] = words[0] if len(set(words)) == 1 else f"{words[0]} (paper: {words[1]})"
    title = titles[name] if ours else theirs["title"] if theirs else name
    origin = {"In Table 1": WORDS[theirs is not None], "Here": "yes" if ours else "not run here, as published"}
    return {"Method": title} | cells | origin
