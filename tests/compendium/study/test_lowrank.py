# SPDX-License-Identifier: MIT
"""The low-rank curve rounds to the nearest number of components, says which, and ends in the expert itself."""

from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compendium import profiles
from compendium.study import lowrank, runs
from compendium.study.lowrank import Nearest
from compendium.worlds.protocol import suite
from tsvlib.compression import Rank, compress
from tsvlib.errors import InputError

SMOKE = profiles.load("smoke")


@given(st.integers(1, 2000), st.integers(1, 100))
def test_a_share_is_the_nearest_count_and_never_none(most: int, percent: int) -> None:
    kept = Nearest(fraction=percent / 100).count(most)
    exact = Fraction(percent * most, 100)
    assert 1 <= kept <= most
    assert kept == 1 or abs(kept - exact) <= Fraction(1, 2)
    # Of two that are as near, the larger.
    assert kept - exact != Fraction(-1, 2)


@pytest.mark.parametrize(("most", "percent", "kept"), [(256, 3, 8), (320, 3, 10), (256, 10, 26), (320, 10, 32)])
def test_counts_of_the_mini_models(most: int, percent: int, kept: int) -> None:
    assert Nearest(fraction=percent / 100).count(most) == kept
    assert Rank(fraction=percent / 100).count(most) <= kept


def test_a_curve_measures_what_it_states(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    run, (task,) = next(runs.of(SMOKE)), suite(SMOKE, 1)
    frame = pd.DataFrame(lowrank.curve(run, task, SMOKE.fractions))
    assert set(frame.columns) == set(lowrank.COLUMNS)
    rows = frame.set_index("percent")
    assert sorted(rows.index) == [10, 50, 100]
    assert rows.components.to_dict() == {
        10: "3 of 32, 2 of 16, 1 of 10",
        50: "16 of 32, 8 of 16, 5 of 10",
        100: "32 of 32, 16 of 16, 10 of 10",
    }
    direct = compress(run.task_vector(task), Nearest(fraction=0.1))
    assert sorted({len(direct.tensors[name]) for name in direct.tensors if name.endswith(":s")}) == [1, 2, 3]
    state = direct.expand().apply(run.evaluator.base)
    assert (rows.bytes[10], rows.accuracy[10]) == (direct.stored_bytes, run.evaluator.accuracy(state, task, "test"))
    assert rows.accuracy[100] == run.evaluator.accuracy(run.expert(task), task, "test")
    assert rows.bytes[100] == run.task_vector(task).stored_bytes


@pytest.mark.parametrize(
    ("text", "added"), [("", []), ("4, 15", [0.04, 0.15]), ("10 99,99", [0.99]), (" 1,", [0.01])], ids=repr
)
def test_further_shares_stand_among_those_of_the_profile_once(text: str, added: list[float]) -> None:
    assert lowrank.fractions(SMOKE, text) == tuple(sorted([*SMOKE.fractions, *added]))


@pytest.mark.parametrize("text", ["0", "100", "2.5", "-3", "ten", "4;5"])
def test_what_is_no_whole_percent_is_told(text: str) -> None:
    with pytest.raises(InputError, match="is no share of components; give whole percents from 1 to 99"):
        lowrank.fractions(SMOKE, f"5, {text}")
