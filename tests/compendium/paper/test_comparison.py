# SPDX-License-Identifier: MIT
"""Worlds side by side: shares of gaps are what they say, with errors that follow the sources."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from compendium import profiles, published
from compendium.paper import comparison, errors

INPUTS = 400
TASKS = ("one", "two")
ACCURACY = {"zero_shot": 0.4, "individual": 0.9, "task_arithmetic": 0.5, "tsv_m": 0.8}


def hits(accuracy: float) -> str:
    return np.packbits(np.arange(INPUTS) < round(accuracy * INPUTS)).tobytes().hex()


def sources(each: int) -> pd.DataFrame:
    """Every source shows as many inputs, which are spread over the split."""
    order = " ".join(str(number % (INPUTS // each)) for number in range(INPUTS))
    names = " ".join(f"{number:08x}" for number in range(INPUTS // each))
    rows = [(task, split, INPUTS, INPUTS // each, order, names) for task in TASKS for split in ("validation", "test")]
    return pd.DataFrame(rows, columns=["task", "split", "inputs", "sources", "order", "names"])


def merge(by_method: dict[str, float]) -> pd.DataFrame:
    rows = [("b", 2, 0, name, task, a, hits(a), "accuracy") for name, a in by_method.items() for task in TASKS]
    return pd.DataFrame(rows, columns=["backbone", "n_tasks", "seed", "method", "task", "value", "hits", "metric"])


def test_a_gap_is_closed_by_the_share_of_it_that_a_method_gains() -> None:
    found = comparison.gaps({"merge": merge(ACCURACY), "sources": sources(1)})
    assert found.loc["b", 2, "tsv_m"][0] == pytest.approx(80.0)
    assert found.loc["b", 2, "task_arithmetic"][0] == pytest.approx(20.0)
    assert set(found.index.get_level_values("method")) == {"tsv_m", "task_arithmetic"}


def test_errors_of_gaps_follow_the_sources() -> None:
    many, few = (
        errors.standard_error(comparison.gaps({"merge": merge(ACCURACY), "sources": sources(each)})).max()
        for each in (1, 20)
    )
    assert 0 < many < 10
    # Inputs of a source are spread evenly over right and wrong ones, so blocks of them vary less, not more.
    assert few < many


def test_the_papers_gaps_follow_from_its_tables() -> None:
    found = comparison.published_gaps()[0]
    cells = published.load("merging").query("metric == 'accuracy'").set_index(["backbone", "n_tasks", "method"]).percent
    experts = published.load("compression").query("method == 'individual' and metric == 'accuracy'")
    whole = experts.set_index(["backbone", "n_tasks"]).percent
    place = ("ViT-B-32", 8)
    expected = (cells[(*place, "tsv_m")] - cells[(*place, "zero_shot")]) / (whole[place] - cells[(*place, "zero_shot")])
    assert found[(*place, "tsv_m")] == pytest.approx(100 * expected)
    assert found.between(0, 100).all()


def test_curves_end_in_all_that_experts_have() -> None:
    rows = [("b", 0, task, percent, hits(a)) for task in TASKS for percent, a in ((10, 0.72), (100, 0.9))]
    spectra = pd.DataFrame(rows, columns=["backbone", "seed", "task", "percent", "hits"])
    found = comparison.curves({"spectra": spectra, "sources": sources(1)})
    assert found.loc["b", 10][0] == pytest.approx(80.0)
    np.testing.assert_allclose(found.loc["b", 100], 100.0)


def test_reasons_are_shares_and_distances_of_kept_vectors_alone() -> None:
    world = dataclasses.replace(
        profiles.load("smoke"), name="w", suites=(2, 3), backbones=(profiles.Backbone("b", "B", "ViT-B-32", (0,)),)
    )
    merged = merge(ACCURACY)
    low = [("b", 2, side, matrix, "low", error, 2.0) for side, error in (("u", 3.0), ("v", 5.0)) for matrix in "pq"]
    full = [("b", 2, side, "p", "full", 7.0, 7.0) for side in "uv"]
    columns = ["backbone", "n_tasks", "vectors", "matrix", "rank", "error", "chance"]
    spectra = [("b", 0, task, percent, hits(a)) for task in TASKS for percent, a in ((3, 0.45), (100, 0.9))]
    found = {
        "merge": pd.concat([merged, merged.assign(n_tasks=3)]),
        "sources": sources(1),
        "procrustes": pd.DataFrame([*low, *full], columns=columns),
        "spectra": pd.DataFrame(spectra, columns=["backbone", "seed", "task", "percent", "hits"]),
    }
    row = comparison.reasons({"w": found}, [world]).loc["w", "B"]
    assert row["TSV-M closes, 3 tasks (%)"] == pytest.approx(80.0)
    assert row["task arithmetic closes, 2 tasks (%)"] == pytest.approx(20.0)
    assert row["left vectors from orthogonal (x random)"] == pytest.approx(1.5)
    assert row["right vectors from orthogonal (x random)"] == pytest.approx(2.5)
    assert row["3 % of the components keep (%)"] == pytest.approx(50.0)
