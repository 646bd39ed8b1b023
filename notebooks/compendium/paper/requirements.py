# SPDX-License-Identifier: MIT
"""What each method requires beyond the checkpoints: Table 1, as declared here and as published.

A way to merge declares it where it is registered. What else can be done with experts declares it in ``OTHERS``.
"""

from collections.abc import Hashable, Mapping

import pandas as pd

from tsvlib.methods import METHODS
from tsvlib.methods.base import Needs

OTHERS = {
    "tsv_c": Needs(storage=True),
    "tsv_m_adapted": Needs(training=True, inputs=True),
}
"""By the names of ``tables.TITLES``: what compresses experts, and what trains coefficients of TSV-M."""

COLUMNS = {
    "training": "Extra training",
    "storage": "Extra storage",
    "inputs": "Validation inputs",
    "labels": "Validation labels",
}
WORDS = {True: "yes", False: "no"}


def declared() -> dict[str, Needs]:
    """Return what every method that can be run here requires, by its name."""
    return {name: row.needs for name, row in METHODS.items()} | OTHERS


def stored(compress: pd.DataFrame, backbone: str, n_tasks: int) -> dict[str, float]:
    """Return the bytes that every method stores for a suite, by its name, as the result table ``compress`` has them.

    Whatever makes one model of all tasks stores one task vector. KeyError for a method that stores more, and of which
    the table has no bytes.
    """
    rows = compress[(compress.metric == "bytes") & (compress.backbone == backbone) & (compress.n_tasks == n_tasks)]
    sizes = rows.groupby("method").value.first()
    return {
        name: float(sizes[name] if needs.storage else sizes["individual"] / n_tasks)
        for name, needs in declared().items()
    }


def table(published: pd.DataFrame, titles: Mapping[str, str], sizes: Mapping[str, float]) -> pd.DataFrame:
    """Return Table 1: the published methods in their order, then those of this library alone, by title.

    ``published`` is the published table ``requirements``. Cells say what this library declares, followed by what the
    paper says where that differs; of methods that only the paper has, what the paper says. ``titles`` are ours, and
    ``sizes`` are those of :func:`stored`.
    """
    ours = declared()
    theirs = {row["method"]: row for row in published.to_dict("records")}
    names = dict.fromkeys([*theirs, *ours])
    rows = [_row(name, ours.get(name), theirs.get(name), titles) | _size(sizes.get(name)) for name in names]
    return pd.DataFrame(rows).set_index("Method")


def _size(size: float | None) -> dict[str, str]:
    return {"Stored (MB)": "not measured" if size is None else f"{size / 1e6:.2f}"}


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
