# SPDX-License-Identifier: MIT
"""Claims are judged by their rules: each holds on results made to fit it, and fails on results made to break it."""

import pandas as pd
import pytest

from compendium import published
from compendium.paper import claims

LABELS = {"b": "B", "l": "L"}
RUNS = [("b", 0), ("b", 1), ("l", 0)]


def results(good):
    """Return result tables in which every claim is true, or none is."""
    measured = [
        ("tsv_c", "normalised_accuracy", 0.995 if good else 0.98),
        ("tsv_m", "normalised_accuracy", 0.9 if good else 0.8),
        ("task_arithmetic", "normalised_accuracy", 0.8),
        ("consensus_ta", "normalised_accuracy", 0.85),
    ]
    cells = [(b, n, s, m, k, v + s / 1000) for b, s in RUNS for n in (2, 3) for m, k, v in measured]
    taken = [(b, n, s, "tsv_c", "bytes", 100.0 if good else 100.0 * n) for b, s in RUNS for n in (2, 3)]
    frame = pd.DataFrame(cells + taken, columns=["backbone", "n_tasks", "seed", "method", "metric", "value"])
    shares = {3: 0.886, 10: 0.899, 100: 0.9} if good else {3: 0.8, 10: 0.85, 100: 0.9}
    spectra = [(b, s, p, a + s / 1000) for b, s in RUNS for p, a in shares.items()]
    values = {-1: 50.0, 0: 10.0, 1: 5.0} if good else {-1: 1.0, 0: 10.0, 1: 15.0}
    low = {2: 1.0, 3: 2.0} if good else {2: 90.0, 3: 99.0}
    layers = [(b, s, n, 0, "low", "entrywise", value) for b, s in RUNS for n, value in low.items()]
    layers += [(b, s, 2, 0, "full", "entrywise", 9.0) for b, s in RUNS]
    layers += [(b, s, 3, layer, "full", "entrywise", value) for b, s in RUNS for layer, value in values.items()]
    steps = [
        (b, n, s, method, "normalised_accuracy", value)
        for b, s in RUNS
        for n in (2, 3)
        for method, value in (("low_rank", 0.7), ("interference_reduction", 0.85 if good else 0.795))
    ]
    alphas = {0.9: 0.9, 1.0: 0.9 if good else 0.89, 1.1: 0.85}
    rows = [(b, s, subset, alpha, score) for b, s in RUNS for subset in (0, 3) for alpha, score in alphas.items()]
    ranks = {"full": 4.0, "low": 2.0 if good else 5.0}
    errors = [(b, s, 0, "proj", side, r, e) for b, s in RUNS for side in "uv" for r, e in ranks.items()]
    return {
        "merge": frame,
        "ablation": pd.DataFrame(steps, columns=frame.columns),
        "alpha": pd.DataFrame(rows, columns=["backbone", "seed", "subset", "alpha", "score"]),
        "compress": frame,
        "spectra": pd.DataFrame(spectra, columns=["backbone", "seed", "percent", "accuracy"]),
        "interference": pd.DataFrame(
            layers, columns=["backbone", "seed", "n_tasks", "layer", "rank", "metric", "value"]
        ),
        "procrustes": pd.DataFrame(errors, columns=["backbone", "seed", "layer", "matrix", "vectors", "rank", "error"]),
    }


@pytest.mark.parametrize("name", claims.RULES)
@pytest.mark.parametrize("good", [True, False])
def test_each_rule_can_say_yes_and_no(name, good):
    found = claims.RULES[name].measure(results(good))
    assert claims.verdict(found.true) == ("holds" if good else "does not hold here")


def test_rules_judge_published_claims_and_the_others_were_not_run():
    listed = published.load("claims")
    assert set(claims.RULES) <= set(listed.name)
    ledger = claims.ledger(listed, results(good=True), LABELS)
    assert len(ledger) == len(listed)
    assert (ledger.Verdict == "not run").sum() == len(listed) - len(claims.RULES)
    assert (ledger.Paper != "").all()


def test_cells_show_means_and_spread_over_seeds_and_count_cases():
    tables = results(good=True)
    tables["spectra"].loc[tables["spectra"].backbone == "l", "accuracy"] = 0.5
    row = claims.ledger(published.load("claims"), tables, LABELS).iloc[0]
    assert row.Here == "B 1.4 points; L 0.0 points"
    tables["spectra"].loc[(tables["spectra"].seed == 1) & (tables["spectra"].percent == 3), "accuracy"] = 0.861
    row = claims.ledger(published.load("claims"), tables, LABELS).iloc[0]
    assert row.Here == "B 2.7 points ± 1.8; L 0.0 points"
    assert (row["True in"], row.Verdict) == ("2 of 3", "holds in part")


def test_a_share_that_was_not_measured_is_not_run():
    tables = results(good=True)
    tables["spectra"] = tables["spectra"][tables["spectra"].percent != 3]
    assert claims.ledger(published.load("claims"), tables, LABELS).iloc[0].Verdict == "not run"


def test_steps_complement_each_other_only_where_tsv_m_is_ahead_of_the_better_one():
    tables = results(good=True)
    first = tables["ablation"].query("seed == 0")
    found = claims.complementary(tables | {"ablation": first})
    assert list(found.values.round(6)) == [5.0] * 4
    better = first.assign(value=first.value.where(first.method != "low_rank", 0.895))
    assert not claims.complementary(tables | {"ablation": better}).true.any()


def test_alpha_of_one_may_lose_what_it_loses_in_the_paper_and_no_more():
    shown = published.load("alpha").assign(score=lambda frame: frame.percent / 100, seed=0)
    found = claims.alpha_of_one({"alpha": shown})
    assert (found.values.max(), claims.verdict(found.true)) == (0.96, "holds")
    worse = shown.assign(score=shown.score.where(shown.alpha != 1, shown.score - 0.001))
    assert not claims.alpha_of_one({"alpha": worse}).true.all()


def test_a_verdict_is_told_with_its_cases_values_and_rule():
    told = claims.told("low_rank_10", {"spectra": results(good=True)["spectra"]})
    assert told == f"holds, in 3 of 3: 99.9 % to 99.9 %. Rule: {claims.RULES['low_rank_10'].rule}."
    frame = results(good=True)["merge"]
    frame.loc[(frame.method == "tsv_m") & (frame.backbone == "l"), "value"] = 0.845
    told = claims.told("consensus_ta", {"merge": frame})
    assert told.startswith("holds in part, in 4 of 6: -0.5 points to 5.0 points.")


def test_what_a_profile_leaves_out_is_told_as_not_run():
    frame = results(good=True)["spectra"]
    assert claims.told("low_rank_10", {"spectra": frame[frame.percent != 10]}) == "not run"


def test_seeds_that_another_method_did_not_run_with_do_not_count():
    frame = results(good=True)["merge"]
    frame = frame[(frame.method != "task_arithmetic") | (frame.seed == 0)]
    assert len(claims.ahead("task_arithmetic")({"merge": frame}).true) == 4
