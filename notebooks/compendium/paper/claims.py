# SPDX-License-Identifier: MIT
"""The paper's claims, each with the rule by which results here decide whether it holds.

A claim is a statement about cases: backbones, cells of a table, matrices. In each case it has a margin, positive where
the claim is true, and the margin has a standard error by the bootstrap of ``errors``, or is exact where no input was
sampled. One-sided p-values are those of the normal distribution, corrected by Holm for the number of cases at 5 %. The
claim *holds* if it is significantly true in every case; it *does not hold here* if it is significantly false in at
least one; otherwise it is *undecided at this size*, and so is what not all seeds of the bootstrap agree on. What no
seed of fine-tuning can change counts once for each backbone: where there are several, a case is the mean over them.

All rules were written down in this form before any number of the world that they judge existed, though with those of
an earlier world in view. Which of them were different then stands in the CHANGELOG, with the reason and the verdicts.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Literal, NamedTuple

import pandas as pd

from compendium.paper import errors, evidence
from compendium.paper.evidence import Evidence, Measure, Tables
from compendium.paper.tables import NOT_RUN

HOLDS, FAILS, UNDECIDED = "holds", "does not hold here", "undecided at this size"


class Rule(NamedTuple):
    """What has to be so in every case: words, what measures it, on which side of a limit, and how numbers print."""

    words: str
    measure: Measure
    side: Literal["at most", "at least", "above", "below"]
    limit: float
    unit: str
    decimals: int

    @property
    def strict(self) -> bool:
        """Tell whether the limit itself is on the wrong side."""
        return self.side in ("above", "below")


POINTS, PERCENT, NORMALISED = "points", "%", "points of normalised accuracy"
AHEAD = "TSV-M more than one point of normalised accuracy ahead, in every backbone and suite"
RULES = {
    "low_rank_3": Rule(
        "mean over tasks at most 1.5 points lower with 3 % of the components, to the nearest, in every backbone",
        evidence.lost(3), "at most", 1.5, POINTS, 2,
    ),
    "low_rank_10": Rule(
        "mean over tasks at least 99 % of that of whole experts with 10 % of the components, to the nearest, in every "
        "backbone",
        evidence.kept(10), "at least", 99, PERCENT, 2,
    ),
    "compression": Rule(
        "normalised accuracy of TSV-C at least 99 %, in every backbone and suite",
        evidence.compression, "at least", 99, PERCENT, 2,
    ),
    "storage": Rule(
        "TSV-C experts of all tasks together at most twice the whole encoder, in every backbone and suite",
        evidence.model_sizes, "at most", 2, "models", 2,
    ),
    "task_arithmetic": Rule(AHEAD, evidence.lead("task_arithmetic"), "above", 1, NORMALISED, 1),
    "consensus_ta": Rule(AHEAD, evidence.lead("consensus_ta"), "above", 1, NORMALISED, 1),
    "complementary": Rule(
        "both steps together more than one point of normalised accuracy above each alone, in every backbone and suite",
        evidence.over_each_step, "above", 1, NORMALISED, 1,
    ),
    "alpha": Rule(
        "alpha = 1 at most 0.96 points of normalised accuracy (the paper's largest loss) below the best alpha, chosen "
        "on one half of the inputs and compared on the other, in every backbone and subset",
        evidence.lost_at_one, "at most", 0.96, NORMALISED, 2,
    ),
    "interference_accuracy": Rule(
        "rank correlation of the interference left and normalised accuracy below zero, over the forms none, low rank, "
        "interference reduction and both within a suite, as a mean over suites, in every backbone",
        evidence.with_accuracy, "below", 0, "", 2,
    ),
    "depth": Rule(
        "rank correlation of a layer's number and its interference (all components, mean over seeds) below zero, in "
        "every backbone and suite",
        evidence.with_depth, "below", 0, "", 2,
    ),
    "orthogonality": Rule(
        "Procrustes error of truncated factors at most that of random orthonormal blocks of the same shape, in every "
        "matrix and on both sides",
        evidence.to_chance, "at most", 1, "times chance", 2,
    ),
    "test_time": Rule(
        "mean accuracy of TSV-M higher after adaptation than before it, from the same coefficients",
        evidence.adaptation_gain, "above", 0, POINTS, 2,
    ),
}  # fmt: skip
"""By the name of a claim in ``data/published/claims.csv``; claims without a rule were not run."""


class Judgement(NamedTuple):
    """The verdict on a claim, and what it rests on."""

    rule: Rule
    cases: pd.DataFrame
    """By case: ``number``, its standard ``error`` and its ``spread`` over seeds of fine-tuning, its ``margin``, and
    whether the claim is ``true`` of it, ``surely`` so, or surely not (``refuted``)."""
    backbones: pd.DataFrame
    """``number``, ``error`` and ``spread`` of the mean over the cases of each backbone."""
    verdict: str
    exact: bool
    """Whether no sampling of inputs can change a number."""

    @property
    def visible(self) -> float:
        """Return the smallest effect that would have been seen in every case, in four samples out of five."""
        return errors.visible(self.cases.error)


def verdict(cases: pd.DataFrame) -> str:
    """Return what follows from cases that are ``surely`` true or ``refuted``.

    >>> flags = [([True, True], [False, False]), ([True, False], [False, True]), ([True, False], [False, False])]
    >>> [verdict(pd.DataFrame({"surely": yes, "refuted": no})) for yes, no in flags]
    ['holds', 'does not hold here', 'undecided at this size']
    """
    if cases.surely.all():
        return HOLDS
    return FAILS if cases.refuted.any() else UNDECIDED


def judge(names: Iterable[str], tables: Tables) -> dict[str, Judgement]:
    """Return the judgement on each claim that a profile has the numbers for, by all seeds of the bootstrap.

    Cases without a number, as those of a backbone that was not run, are none; a claim that has no other is left out.
    Tables that no rule asks for may be missing. What is shown is of the first seed. KeyError for a claim without rule.
    """
    rules = {name: RULES[name] for name in names}
    found: dict[str, list[Judgement]] = {name: [] for name in rules}
    for seed in errors.SEEDS:
        drawn = Evidence(tables, seed)
        for name, rule in rules.items():
            numbers = rule.measure(drawn)
            if numbers is not None and len(there := numbers[numbers[0].notna()]):
                found[name].append(_judged(rule, there))
    return {name: _agreed(by_seed) for name, by_seed in found.items() if by_seed}


def told(name: str, tables: Tables) -> str:
    """Return the verdict on a claim in a sentence: in how many cases it is true, between which values, by which rule.

    Tables that its rule does not ask for may be missing. KeyError for a claim without a rule.
    """
    if not (judged := judge([name], tables).get(name)):
        return NOT_RUN
    rule, cases = judged.rule, judged.cases
    extremes = " to ".join(f"{value:.{rule.decimals}f}" for value in (cases.number.min(), cases.number.max()))
    error = "" if judged.exact else f", standard error at most {cases.error.max():.{rule.decimals}f}"
    return (
        f"{judged.verdict}; true in {_count(judged)}: {_with_unit(extremes, rule)}{error}. "
        f"Smallest visible effect: {_visible(judged)}. Rule: {_words(judged)}."
    )


def ledger(claims: pd.DataFrame, tables: Tables, labels: Mapping[str, str]) -> pd.DataFrame:
    """Return all claims with published number, what was found here, the verdict and the rule, as text.

    ``claims`` is the published table of that name, ``tables`` are results by name, ``labels`` names backbones as
    readers know them.
    """
    judged = judge([name for name in claims.name if name in RULES], tables)
    rows = [_row(claim, judged.get(claim["name"]), labels) for claim in claims.to_dict("records")]
    return pd.DataFrame(rows).set_index("Claim")


def _judged(rule: Rule, drawn: pd.DataFrame) -> Judgement:
    cases = _numbers(drawn)
    sign = 1 if rule.side in ("at least", "above") else -1
    margin = (sign * (cases.number - rule.limit)).round(9)
    cases = cases.assign(
        margin=margin,
        true=(margin > 0) if rule.strict else (margin >= 0),
        surely=errors.holm(errors.chances(margin, cases.error, strict=rule.strict)),
        refuted=errors.holm(errors.chances(-margin, cases.error, strict=not rule.strict)),
    )
    of_runs = [level for level in ("backbone", "seed") if level in drawn.index.names]
    return Judgement(rule, cases, _numbers(drawn.groupby(level=of_runs).mean()), verdict(cases), drawn.shape[1] == 1)


def _numbers(drawn: pd.DataFrame) -> pd.DataFrame:
    """Return number, standard error and spread over seeds of every case."""
    pooled = errors.over_seeds(drawn)
    found = pd.DataFrame({"number": pooled[0], "error": errors.standard_error(pooled), "spread": float("nan")})
    if "seed" in drawn.index.names:
        found["spread"] = drawn[0].groupby(level=pooled.index.names).std()
    return found


def _agreed(by_seed: list[Judgement]) -> Judgement:
    first = by_seed[0]
    return first if len({judged.verdict for judged in by_seed}) == 1 else first._replace(verdict=UNDECIDED)


def _row(claim: Mapping[Hashable, str], judged: Judgement | None, labels: Mapping[str, str]) -> dict[str, str]:
    row = {"Claim": f"{claim['words']} ({claim['item']})", "Paper": claim["number"]}
    if not judged:
        return row | dict.fromkeys(("Here", "True in", "Smallest visible", "Verdict", "Rule"), NOT_RUN)
    there = judged.backbones.index
    cells = [f"{label} {_cell(judged, name)}" for name, label in labels.items() if name in there]
    others = [f"{label} {NOT_RUN}" for name, label in labels.items() if name not in there]
    return row | {
        "Here": "; ".join([_with_unit("; ".join(cells), judged.rule), *others]),
        "True in": _count(judged),
        "Smallest visible": _visible(judged),
        "Verdict": judged.verdict,
        "Rule": _words(judged),
    }


def _cell(judged: Judgement, backbone: str) -> str:
    """Return the mean over the cases of a backbone ± its error, or the range of these where they are exact."""
    digits = judged.rule.decimals
    if judged.exact:
        here = judged.cases.number[judged.cases.index.get_level_values("backbone") == backbone]
        ends = [f"{value:.{digits}f}" for value in (here.min(), here.max())]
        return " to ".join(dict.fromkeys(ends))
    row = judged.backbones.loc[backbone]
    seeds = f" (seeds {row.spread:.{digits}f})" if row.spread > errors.ROUNDING else ""
    return f"{row.number:.{digits}f} ± {row.error:.{digits}f}{seeds}"


def _count(judged: Judgement) -> str:
    cases = judged.cases
    counted = f"{int(cases.true.sum())} of {len(cases)}"
    if judged.exact:
        return counted
    return f"{counted}, significantly in {int(cases.surely.sum())}, significantly false in {int(cases.refuted.sum())}"


def _visible(judged: Judgement) -> str:
    if judged.exact:
        return "any (exact)"
    return _with_unit(f"{judged.visible:.{judged.rule.decimals}f}", judged.rule)


def _words(judged: Judgement) -> str:
    corrected = "exact" if judged.exact else f"Holm over {len(judged.cases)}"
    return f"{judged.rule.words} ({corrected})"


def _with_unit(text: str, rule: Rule) -> str:
    return f"{text} {rule.unit}".rstrip()
