# SPDX-License-Identifier: MIT
"""Sampling errors against closed forms, and draws that are the same for all that is compared."""

import math

import numpy as np
import pandas as pd
import pytest

from compendium.paper import errors
from tsvlib.errors import InputError

BY = ["method"]


def hits(right) -> str:
    return np.packbits(np.asarray(right, dtype=bool)).tobytes().hex()


def frame(**methods) -> pd.DataFrame:
    """One row for each method and task; values are a sequence of right and wrong for each task."""
    rows = [(method, task, hits(right)) for method, tasks in methods.items() for task, right in tasks.items()]
    return pd.DataFrame(rows, columns=["method", "task", "hits"])


def sources(**orders) -> pd.DataFrame:
    rows = [
        (task, split, len(order), len(set(order)), " ".join(map(str, order)))
        for task, order in orders.items()
        for split in ("validation", "test")
    ]
    return pd.DataFrame(rows, columns=["task", "split", "inputs", "sources", "order"])


RIGHT = np.random.default_rng(0).random((2, 400)) < np.array([[0.8], [0.7]])
SINGLE = sources(a=range(400))


def test_the_first_column_is_what_was_measured():
    drawn = errors.accuracies(frame(m={"a": RIGHT[0]}), SINGLE, BY)
    assert drawn.shape == (1, errors.DRAWS + 1)
    assert drawn.loc[("m", "a"), 0] == RIGHT[0].mean()


def test_sources_of_one_input_each_give_the_binomial_standard_error():
    share = RIGHT[0].mean()
    found = errors.standard_error(errors.accuracies(frame(m={"a": RIGHT[0]}), SINGLE, BY)).iloc[0]
    assert found == pytest.approx(math.sqrt(share * (1 - share) / 400), rel=0.1)


def test_inputs_of_one_source_do_not_spread():
    drawn = errors.accuracies(frame(m={"a": RIGHT[0]}), sources(a=[0] * 400), BY)
    assert errors.standard_error(drawn).iloc[0] == 0


def test_inputs_that_share_sources_count_as_these():
    # Ten inputs of each of 40 sources, all right or all wrong: as exact as 40 independent inputs.
    right = np.repeat(np.arange(40) % 2 == 0, 10)
    found = errors.standard_error(errors.accuracies(frame(m={"a": right}), sources(a=np.repeat(range(40), 10)), BY))
    assert found.iloc[0] == pytest.approx(math.sqrt(0.25 / 40), rel=0.1)


def test_draws_weigh_sources_by_their_inputs():
    # The share of a draw is that of its inputs, so it stays within what was measured of the sources.
    drawn = errors.accuracies(frame(m={"a": [1, 1, 1, 0]}), sources(a=[0, 0, 0, 1]), BY)
    assert set(drawn.round(6).iloc[0]) == {1.0, 0.75, 0.0}


def test_the_same_hits_differ_by_nothing_in_every_draw():
    drawn = errors.accuracies(frame(m={"a": RIGHT[0]}, n={"a": RIGHT[0]}), SINGLE, BY)
    assert (drawn.loc["m"] - drawn.loc["n"]).abs().to_numpy().max() == 0


def test_a_paired_difference_has_the_error_of_what_differs():
    # Of 400 inputs, 40 are right by the first alone and none by the second alone.
    first = np.arange(400) < 300
    second = np.arange(400) < 260
    drawn = errors.accuracies(frame(m={"a": first}, n={"a": second}), SINGLE, BY)
    difference = drawn.loc[[("m", "a")]].to_numpy() - drawn.loc[[("n", "a")]].to_numpy()
    assert difference[0, 0] == pytest.approx(0.1)
    assert difference[0, 1:].std() == pytest.approx(math.sqrt(0.1 * 0.9 / 400), rel=0.1)


def test_draws_depend_on_task_split_and_seed_alone():
    both = frame(n={"b": RIGHT[1], "a": RIGHT[1]}, m={"b": RIGHT[0], "a": RIGHT[0]})
    alone = frame(m={"a": RIGHT[0]})
    listed = sources(b=range(400), a=range(400))
    wide = errors.accuracies(both, listed, BY).loc[("m", "a")]
    assert wide.equals(errors.accuracies(alone, SINGLE, BY).loc[("m", "a")])
    assert wide.equals(errors.accuracies(both[::-1], listed[::-1], BY).loc[("m", "a")])
    assert not wide.equals(errors.accuracies(both, listed, BY, seed=1).loc[("m", "a")])
    assert not wide.equals(errors.accuracies(both, listed, BY, split="validation").loc[("m", "a")])
    assert not wide.equals(errors.accuracies(both, listed, BY).loc[("m", "b")])


def test_parts_look_at_their_places_with_the_same_draws():
    drawn = {
        place: errors.accuracies(frame(m={"a": RIGHT[0]}), SINGLE, BY, part=slice(place, None, 2)).iloc[0]
        for place in (0, 1)
    }
    assert drawn[0][0] == RIGHT[0][::2].mean()
    counts = errors.weights("a", "test", 400, 0).astype(float)
    expected = (counts[:, 1::2] @ RIGHT[0][1::2]) / counts[:, 1::2].sum(axis=1)
    np.testing.assert_allclose(drawn[1], expected)


def test_rows_without_hits_are_left_out():
    more = pd.concat([frame(m={"a": RIGHT[0]}), pd.DataFrame({"method": ["m"], "task": ["all"], "hits": [None]})])
    assert list(errors.accuracies(more, SINGLE, BY).index) == [("m", "a")]


@pytest.mark.parametrize(
    ("listed", "words"), [(sources(b=range(400)), "no row for task 'a'"), (sources(a=range(300)), "not of 300 inputs")]
)
def test_hits_that_fit_no_sources_are_told(listed, words):
    with pytest.raises(InputError, match=words):
        errors.accuracies(frame(m={"a": RIGHT[0]}), listed, BY)


def test_inputs_may_be_no_multiple_of_eight():
    drawn = errors.accuracies(frame(m={"a": [1, 0, 1]}), sources(a=[0, 1, 2]), BY)
    assert drawn.iloc[0, 0] == pytest.approx(2 / 3)


def test_normalised_accuracy_is_the_mean_over_tasks_of_shares_of_the_expert():
    listed = sources(a=range(400), b=range(400))
    half = RIGHT & (np.arange(400) % 2 == 0)
    drawn = errors.accuracies(
        frame(m={"a": half[0], "b": RIGHT[1]}, individual={"a": RIGHT[0], "b": RIGHT[1]}), listed, BY
    )
    found = errors.normalised(drawn, drawn.loc["individual"])
    assert (found.loc["individual"] == 1).all()
    assert found.loc["m", 0] == pytest.approx((half[0].mean() / RIGHT[0].mean() + 1) / 2)
    # What both have right in the second task cancels, draw by draw.
    expected = (drawn.loc[("m", "a")] / drawn.loc[("individual", "a")]).iloc[1:].std() / 2
    assert errors.standard_error(found)["m"] == pytest.approx(expected)


def test_a_draw_without_a_right_input_of_the_expert_leaves_the_task_out():
    drawn = errors.accuracies(frame(m={"a": [1, 1]}, e={"a": [1, 0]}), sources(a=[0, 1]), BY)
    found = errors.normalised(drawn.loc[["m"]], drawn.loc["e"]).loc["m"]
    assert set(found.dropna()) == {1.0, 2.0}
    assert found.isna().any()


def test_seeds_are_averaged_draw_by_draw():
    drawn = errors.accuracies(frame(m={"a": RIGHT[0]}, n={"a": RIGHT[1]}), SINGLE, BY)
    as_seeds = drawn.rename_axis(index={"method": "seed"})
    assert errors.over_seeds(as_seeds).loc["a"].equals(drawn.groupby(level="task").mean().loc["a"])
    assert errors.over_seeds(drawn) is drawn


def test_a_number_without_draws_has_no_error():
    assert errors.standard_error(pd.DataFrame({0: [3.0]})).tolist() == [0]


def test_few_source_tasks_are_those_below_twenty():
    listed = sources(b=[*range(19), 0], a=[0], c=range(20))
    assert errors.few(listed) == ["a", "b"]


def test_chances_are_normal_or_exact():
    margins, spread = pd.Series([1.645, -1.0, 0.0, 2.0, -2.0]), pd.Series([1.0, 1.0, 0.0, 0.0, 0.0])
    assert errors.chances(margins, spread).round(3).tolist() == [0.05, 0.841, 0.0, 0.0, 1.0]
    assert errors.chances(margins, spread, strict=True)[2] == 1


def test_holm_steps_down_and_stops_at_the_first_that_fails():
    values = pd.Series({"a": 0.03, "b": 0.001, "c": 0.04, "d": 0.01})
    assert errors.holm(values).to_dict() == {"a": False, "b": True, "c": False, "d": True}
    assert errors.holm(pd.Series([0.05])).tolist() == [True]


def test_the_smallest_visible_effect_grows_with_cases_and_errors():
    assert errors.visible(pd.Series([1.0])) == pytest.approx(1.645, abs=1e-3)
    assert errors.visible(pd.Series([1.0, 0.5])) == pytest.approx(1.960, abs=1e-3)
    assert errors.visible(pd.Series([0.0, 0.0])) == 0
