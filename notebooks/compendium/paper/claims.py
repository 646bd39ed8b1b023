# SPDX-License-Identifier: MIT
"""The paper's claims, each with the rule by which results here decide whether it holds.

A claim is a statement about cases: runs, cells of a table, matrices. It *holds* if it is true in all of them, *holds in
part* if in at least half, and otherwise *does not hold here*. The rules for the low-rank curve, TSV-C, storage and task
arithmetic came after the first numbers; they take the paper's own thresholds, or the margin of one point that is
ours, and the factor of 1.2 for storage is ours too. All others were written before their numbers existed.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import pandas as pd

Tables = Mapping[str, pd.DataFrame]
NOT_RUN = "not run"
RUN = ["backbone", "seed"]
CELL = ["backbone", "n_tasks", "seed"]


class Measured(NamedTuple):
    """One number per case, whether the claim is true of it, and how to print such numbers."""

    values: pd.Series
    true: pd.Series
    pattern: str


class Judged(NamedTuple):
    """Our rule for a claim, and what measures it: None where a profile leaves that out."""

    rule: str
    measure: Callable[[Tables], Measured | None]


def low_rank(percent: int, points: float) -> Callable[[Tables], Measured | None]:
    """Measure by run how many points of mean accuracy are lost when ``percent`` of the components are kept."""

    def measure(tables: Tables) -> Measured | None:
        means = tables["spectra"].pivot_table(index=RUN, columns="percent", values="accuracy")
        if percent not in means:
            return None
        lost = 100 * (means[100] - means[percent])
        return Measured(lost, lost <= points, "{:.1f} points")

    return measure


def kept(percent: int, share: float) -> Callable[[Tables], Measured | None]:
    """Measure by run which share of the mean accuracy ``percent`` of the components keep."""

    def measure(tables: Tables) -> Measured | None:
        means = tables["spectra"].pivot_table(index=RUN, columns="percent", values="accuracy")
        if percent not in means:
            return None
        ratio = means[percent] / means[100]
        return Measured(100 * ratio, ratio >= share, "{:.1f} %")

    return measure


def compressed(tables: Tables) -> Measured:
    """Measure by cell and seed the normalised accuracy of TSV-C."""
    values = _normalised(tables["compress"]).tsv_c
    return Measured(100 * values, values >= 0.99, "{:.1f} %")


def ahead(of: str) -> Callable[[Tables], Measured]:
    """Measure by cell and seed how far TSV-M lies above another merging method in normalised accuracy.

    Seeds that the other method did not run with are left out.
    """

    def measure(tables: Tables) -> Measured:
        values = _normalised(tables["merge"])
        lead = (100 * (values.tsv_m - values[of])).dropna()
        return Measured(lead, lead > 1, "{:.1f} points")

    return measure


def complementary(tables: Tables) -> Measured:
    """Measure by cell how far TSV-M lies above the better of its two steps alone in normalised accuracy."""
    alone = _normalised(tables["ablation"])[["low_rank", "interference_reduction"]].max(axis=1)
    lead = 100 * (_normalised(tables["merge"]).tsv_m.reindex(alone.index) - alone)
    return Measured(lead, lead > 1, "{:.1f} points")


def alpha_of_one(tables: Tables) -> Measured:
    """Measure by subset of tasks how many points of normalised accuracy alpha = 1 loses against the best alpha."""
    scores = tables["alpha"].pivot_table(index=[*RUN, "subset"], columns="alpha", values="score")
    lost = (100 * (scores.max(axis=1) - scores[1.0])).round(6)
    return Measured(lost, lost <= 0.96, "{:.1f} points")


def storage(tables: Tables) -> Measured:
    """Measure by run how much more all TSV-C experts of the largest suite take than those of the smallest."""
    frame = tables["compress"]
    taken = frame[(frame.metric == "bytes") & (frame.method == "tsv_c")]
    by_suite = taken.pivot_table(index=RUN, columns="n_tasks", values="value")
    growth = by_suite.iloc[:, -1] / by_suite.iloc[:, 0]
    return Measured(growth, growth <= 1.2, "{:.2f} times")


def depth(tables: Tables) -> Measured:
    """Measure by run the interference of the last layer relative to the first, in the largest suite."""
    frame = _entrywise(tables["interference"], "full")
    inside = frame[(frame.layer >= 0) & (frame.n_tasks == frame.n_tasks.max())]
    layers = inside.pivot_table(index=RUN, columns="layer", values="value", aggfunc="sum")
    first, last = layers.iloc[:, 0], layers.ffill(axis=1).iloc[:, -1]
    return Measured(last / first, last < first, "{:.2f} times")


def against_accuracy(tables: Tables) -> Measured:
    """Measure by run the rank correlation of interference and normalised accuracy over methods and suites.

    Task arithmetic adds whole task matrices up, TSV-M truncated ones; each is taken with the interference of these.
    """
    sums = {
        method: _entrywise(tables["interference"], rank).groupby(CELL).value.sum()
        for method, rank in (("task_arithmetic", "full"), ("tsv_m", "low"))
    }
    merged = tables["merge"][tables["merge"].metric == "normalised_accuracy"].set_index(["method", *CELL]).value
    both = pd.DataFrame({"interference": pd.concat(sums, names=["method"]), "accuracy": merged}).dropna()
    ranks = both.groupby(level=RUN).rank()
    found = ranks.groupby(level=RUN).apply(lambda run: run.interference.corr(run.accuracy))
    return Measured(found, found < 0, "{:.2f}")


def closer(tables: Tables) -> Measured:
    """Measure by matrix the Procrustes error of truncated factors relative to whole ones."""
    key = [*RUN, "layer", "matrix", "vectors"]
    errors = tables["procrustes"].pivot_table(index=key, columns="rank", values="error")
    ratio = errors.low / errors.full
    return Measured(ratio, ratio <= 1, "{:.2f} times")


AHEAD = "more than one point of normalised accuracy, in every cell and seed"
RULES = {
    "low_rank_3": Judged("mean over tasks at most 1.5 points lower, in every run", low_rank(3, 1.5)),
    "low_rank_10": Judged("mean over tasks at least 99 % of that of whole experts, in every run", kept(10, 0.99)),
    "compression": Judged("normalised accuracy at least 99 %, in every cell and seed", compressed),
    "storage": Judged("experts of the largest suite at most 1.2 times those of the smallest, in every run", storage),
    "task_arithmetic": Judged(AHEAD, ahead("task_arithmetic")),
    "consensus_ta": Judged(AHEAD, ahead("consensus_ta")),
    "complementary": Judged("both above each alone by more than one point, in every cell", complementary),
    "alpha": Judged("at most 0.96 points below the best alpha (the paper's largest loss), in every row", alpha_of_one),
    "interference_accuracy": Judged(
        "rank correlation over methods and suites below zero, in every run", against_accuracy
    ),
    "depth": Judged("last layer below the first in the largest suite, in every run", depth),
    "orthogonality": Judged("error of truncated factors at most that of whole ones, in every matrix", closer),
}
"""By the name of a claim in ``data/published/claims.csv``; claims without a rule were not run."""


def verdict(true: pd.Series) -> str:
    """Return what follows from the cases.

    >>> [verdict(pd.Series(cases)) for cases in ([True, True], [True, False], [False, False, True])]
    ['holds', 'holds in part', 'does not hold here']
    """
    share = float(true.mean())
    return "holds" if share == 1 else "holds in part" if share >= 0.5 else "does not hold here"


def told(name: str, tables: Tables) -> str:
    """Return the verdict on a claim in a sentence: in how many cases it is true, between which values, by which rule.

    Tables that its rule does not ask for may be missing. KeyError for a claim without a rule.
    """
    judged = RULES[name]
    if not (found := judged.measure(tables)):
        return NOT_RUN
    least, most = (found.pattern.format(value) for value in (found.values.min(), found.values.max()))
    return f"{verdict(found.true)}, in {_count(found)}: {least} to {most}. Rule: {judged.rule}."


def ledger(claims: pd.DataFrame, tables: Tables, labels: Mapping[str, str]) -> pd.DataFrame:
    """Return all claims with published number, rule, what was found here and the verdict, as text.

    ``claims`` is the published table of that name, ``tables`` are results by name, ``labels`` names backbones as
    readers know them. What was found is the mean over the cases of each backbone, with the standard deviation over
    seeds where there are several, and in how many cases the claim is true.
    """
    rows = [_row(claim, tables, labels) for claim in claims.to_dict("records")]
    return pd.DataFrame(rows).set_index("Claim")


def _row(claim: Mapping[Hashable, str], tables: Tables, labels: Mapping[str, str]) -> dict[str, str]:
    row = {"Claim": f"{claim['words']} ({claim['item']})", "Paper": claim["number"]}
    judged = RULES.get(claim["name"])
    found = judged.measure(tables) if judged else None
    if not judged or not found:
        return row | {"Here": NOT_RUN, "True in": NOT_RUN, "Verdict": NOT_RUN, "Rule": NOT_RUN}
    means = found.values.groupby(level=RUN).mean().groupby(level="backbone")
    spreads = means.std()
    cells = [
        f"{label} {found.pattern.format(means.mean()[backbone])}"
        + (f" ± {spreads[backbone]:.2g}" if spreads[backbone] > 0 else "")
        for backbone, label in labels.items()
    ]
    return row | {
        "Here": "; ".join(cells),
        "True in": _count(found),
        "Verdict": verdict(found.true),
        "Rule": judged.rule,
    }


def _count(found: Measured) -> str:
    return f"{int(found.true.sum())} of {len(found.true)}"


def _entrywise(frame: pd.DataFrame, rank: str) -> pd.DataFrame:
    return frame[(frame.metric == "entrywise") & (frame["rank"] == rank)]


def _normalised(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame.metric == "normalised_accuracy"]
    return rows.pivot_table(index=CELL, columns="method", values="value")
