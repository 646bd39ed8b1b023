# SPDX-License-Identifier: MIT
"""Who led when the paper was published, and who leads since: published numbers, all from the same experts."""

import pandas as pd

from compendium import published

OURS = "tsv_m"
SETTING = ["backbone", "n_tasks"]
NO_MERGE = ["zero_shot", "individual"]
REQUIREMENTS = ["training", "storage", "inputs", "labels"]


def then() -> pd.DataFrame:
    """Return by setting of Table 2 which of the paper's other merging methods was best, and how far TSV-M led it.

    Columns: ``method``, and ``lead`` in points of normalised accuracy.
    """
    return _ahead(_normalised("merging").drop(columns=[OURS, *NO_MERGE], errors="ignore"), -1)


def since() -> pd.DataFrame:
    """Return by setting which method that came later was best, and how far it leads TSV-M, as ``then`` does.

    Only methods count that need nothing beyond the checkpoints, as their authors say.
    """
    needs = published.load("successor_requirements").set_index("method")
    free = needs.index[(needs[REQUIREMENTS] == "no").all(axis=1)]
    table = _normalised("successors")
    return _ahead(table[table.columns.intersection(free)], 1)


def by_inputs() -> pd.DataFrame:
    """Return the same of ESM, which sees a few unlabelled images."""
    return _ahead(_normalised("successors")[["esm"]], 1)


def told() -> str:
    """Return who led and who leads, in sentences."""
    titles = published.load("successor_requirements").set_index("method").title.to_dict()
    first, later, shown = then(), since(), by_inputs()
    best = ", ".join(f"{titles[name]} in {count}" for name, count in later.method.value_counts().items())
    return (
        f"When it was published, TSV-M led the other merging methods of Table 2 in {_where(first)} points of "
        "normalised accuracy. Of the methods that came since and need nothing beyond the checkpoints either, the best "
        f"now leads TSV-M in {_where(later)} points ({best}). ESM, which sees at most 32 unlabelled images of each "
        f"task, does so in {_where(shown)} points. All of these numbers are from the same experts."
    )


def _normalised(name: str) -> pd.DataFrame:
    """Return published normalised accuracies in percent: a row for each setting, a column for each method."""
    frame = published.load(name)
    rows = frame[frame.metric == "normalised_accuracy"]
    found: pd.DataFrame = rows.pivot_table(index=SETTING, columns="method", values="percent")
    return found


def _ahead(others: pd.DataFrame, sign: int) -> pd.DataFrame:
    ours = _normalised("merging")[OURS].reindex(others.index)
    lead = sign * (others.max(axis=1) - ours)
    return pd.DataFrame({"method": others.idxmax(axis=1), "lead": lead.round(1)})


def _where(found: pd.DataFrame) -> str:
    """Return in how many settings somebody is ahead, and by how much."""
    ahead = found.lead[found.lead > 0]
    settings = f"all {len(found)}" if len(ahead) == len(found) else f"{len(ahead)} of {len(found)}"
    return f"{settings} settings, by {ahead.min():.1f} to {ahead.max():.1f}"
