# SPDX-License-Identifier: MIT
"""Methods are compared with one of them on the same inputs, and with what they cost."""

import numpy as np
import pandas as pd
import pytest

from compendium import profiles
from compendium.paper import leads, tables

SMOKE = profiles.load("smoke")
INPUTS = 400
SOURCES = pd.DataFrame(
    [
        (task, INPUTS, INPUTS, " ".join(map(str, range(INPUTS))), " ".join(f"{first + i:08x}" for i in range(INPUTS)))
        for task, first in (("first", 0), ("second", INPUTS))
    ],
    columns=["task", "inputs", "sources", "order", "names"],
).assign(split="test")
SHARES = {"individual": 1.0, "zero_shot": 0.3, "tsv_m_alpha_1": 0.6, "dc_merge": 0.8, "star": 0.4, "wudi": 0.605}
BYTES = {"tsv_m_alpha_1": 1e6, "dc_merge": 1e6, "star": 1e6, "wudi": 1e6, "emr": 3e6}


def frame(shares: dict[str, float] = SHARES) -> pd.DataFrame:
    """Of the two tasks, methods have these shares of inputs right, the first ones."""
    rows = []
    for method, share in shares.items():
        key = ("smoke-b32", 2, method, 0)
        hits = np.packbits(np.arange(INPUTS) < round(share * INPUTS)).tobytes().hex()
        rows += [(*key, task, "accuracy", share, hits) for task in SOURCES.task]
        rows.append((*key, "all", "normalised_accuracy", share, ""))
        taken = {"bytes": BYTES.get(method), "inputs": 5.0, "labels": 0.0}
        rows += [(*key, "all", metric, value, "") for metric, value in taken.items() if method in BYTES]
    rows.append(("smoke-b32", 2, "dc_merge", 0, "all", "alpha", 1.3, ""))
    return pd.DataFrame(rows, columns=["backbone", "n_tasks", "method", "seed", "task", "metric", "value", "hits"])


def test_leads_are_over_the_reference_and_bounds_take_no_part() -> None:
    found = leads.against(frame(), SOURCES).loc["smoke-b32", 2]
    assert found.lead.round(6).to_dict() == {"dc_merge": 20.0, "star": -20.0, "wudi": 0.5}
    assert found.ahead.to_dict() == {"dc_merge": True, "star": False, "wudi": False}
    assert found.behind.to_dict() == {"dc_merge": False, "star": True, "wudi": False}


def test_errors_are_paired() -> None:
    found = leads.against(frame(), SOURCES).loc["smoke-b32", 2]
    # On each task a fifth of the inputs tells the two apart, and the other inputs are right or wrong for both.
    expected = 100 * np.sqrt(0.2 * 0.8 / INPUTS / 2)
    assert found.error["dc_merge"] == pytest.approx(expected, rel=0.1)
    assert found.error["wudi"] == pytest.approx(100 * np.sqrt(0.005 * 0.995 / INPUTS / 2), rel=0.15)


def test_both_sides_of_all_comparisons_share_one_correction() -> None:
    few, many = ({name: SHARES[name] for name in ("individual", "zero_shot", "tsv_m_alpha_1")} for _ in range(2))
    # Some two and a half standard errors: enough for one question, and not for the two sides of nine.
    lead = 0.6 + 3 / INPUTS
    few["wudi"] = lead
    many |= dict.fromkeys(("wudi", "star", "cart", "dare", "swudi", "aswudi", "emr", "esm", "iso_c"), lead)
    assert leads.against(frame(few), SOURCES).ahead.all()
    assert not leads.against(frame(many), SOURCES).ahead.any()


def test_cells_end_in_their_marks() -> None:
    table = leads.accuracy_table(frame(), SOURCES, SMOKE)
    (cells,) = (table[tables.column("smoke B/32", 2)],)
    assert cells["DC-Merge"].endswith(") +")
    assert cells["STAR"].endswith(") -")
    assert cells["WUDI"].endswith(")")
    assert cells["TSV-M, alpha = 1"].endswith(")")
    assert (table[tables.column("smoke L/14", 3)] == tables.NOT_RUN).all()
    assert list(table.index) == [title for name, title in tables.TITLES.items() if name in SHARES]
    assert "Of 3 comparisons with TSV-M, alpha = 1" in leads.told(leads.against(frame(), SOURCES))
    assert "1 are surely ahead and 1 surely behind" in leads.told(leads.against(frame(), SOURCES))


def times() -> pd.DataFrame:
    rows = [("smoke-b32", 2, name, "seconds", seconds) for seconds, name in enumerate(BYTES, start=1)]
    return pd.DataFrame(rows, columns=["backbone", "n_tasks", "method", "metric", "value"])


def test_costs_stand_beside_what_they_buy() -> None:
    costs = leads.costs(frame(), times()).loc["smoke-b32", 2]
    assert list(costs.columns) == [*leads.COSTS, "labels", "alpha", "accuracy"]
    assert "individual" not in costs.index
    assert costs.loc["dc_merge"].to_dict() == {
        "seconds": 2.0, "bytes": 1e6, "inputs": 5.0, "labels": 0.0, "alpha": 1.3, "accuracy": 80.0
    }  # fmt: skip
    assert np.isnan(costs.alpha["star"])


def test_a_table_of_costs_says_what_was_not_run() -> None:
    found = leads.costs(frame(), times())
    other = found.rename(index={"smoke-b32": "smoke-l14"}, level="backbone").drop(index="star", level="method")
    table = leads.cost_table(pd.concat([found, other]), SMOKE, "smoke-l14", 2)
    assert table.loc["DC-Merge"].tolist() == ["5", "0", "1.30", "1.00", "2.00", "2.00"]
    assert table.loc["TSV-M, alpha = 1", "Alpha"] == "1.00"
    assert table.loc["STAR"].tolist() == [*[tables.NOT_RUN] * 4, "3.00", tables.NOT_RUN]
    assert list(table.columns)[-2:] == ["Seconds, smoke B/32", "Seconds, smoke L/14"]


def test_the_frontier_leaves_out_what_is_dearer_and_no_better() -> None:
    found = leads.costs(frame(), times()).loc["smoke-b32", 2]
    assert leads.frontier(found, "seconds") == ["tsv_m_alpha_1", "dc_merge"]
    assert leads.frontier(found, "bytes") == ["dc_merge"]
