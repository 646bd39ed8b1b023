# SPDX-License-Identifier: MIT
"""Sampling errors against closed forms, and draws that are the same for all that is compared."""

import hashlib
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
    """Orders of sources by task; each task and split has sources of its own."""
    rows = [
        (task, split, len(order), len(set(order)), " ".join(map(str, order)), named(f"{task}/{split}", len(set(order))))
        for task, order in orders.items()
        for split in ("validation", "test")
    ]
    return pd.DataFrame(rows, columns=["task", "split", "inputs", "sources", "order", "names"])


def named(prefix: str, count: int) -> str:
    return " ".join(hashlib.sha256(f"{prefix}/{number}".encode()).hexdigest()[:8] for number in range(count))


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


def test_a_source_weighs_as_much_as_its_inputs():
    drawn = errors.accuracies(frame(m={"a": [1, 1, 1, 0]}), sources(a=[0, 0, 0, 1]), BY).iloc[0]
    first, second = (errors.weights(name, 0) for name in named("a/test", 2).split())
    shares = 3 * first / (3 * first + second)
    expected = np.clip(0.75 + math.sqrt(3) * (shares - 0.75), 0, 1)
    np.testing.assert_allclose(drawn, expected)


@pytest.mark.parametrize("count", [2, 3, 6, 24])
def test_few_sources_give_the_unbiased_standard_error(count: int):
    # Ten inputs of each source, of which as many are right as its number, in tenths of a few.
    right = [place < 4 + source % 3 for source in range(count) for place in range(10)]
    listed = sources(**{f"t{i}": np.repeat(range(count), 10) for i in range(20)})
    rows = frame(m={f"t{i}": right for i in range(20)})
    found = errors.standard_error(errors.accuracies(rows, listed, BY))
    means = np.array([0.4 + 0.1 * (source % 3) for source in range(count)])
    assert found.pow(2).mean() == pytest.approx(means.var(ddof=1) / count, rel=0.1)


def test_tasks_that_share_a_source_move_together():
    listed = sources(a=range(40), b=range(40))
    shared = listed.assign(names=listed.names[listed.task == "a"].iloc[1])
    rows = frame(m={"a": RIGHT[0][:40], "b": RIGHT[0][:40]})
    apart, together = (errors.over_tasks(errors.accuracies(rows, these, BY)) for these in (listed, shared))
    assert errors.standard_error(together)["m"] == pytest.approx(
        math.sqrt(2) * errors.standard_error(apart)["m"], rel=0.1
    )


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


def test_draws_depend_on_sources_and_seed_alone():
    both = frame(n={"b": RIGHT[1], "a": RIGHT[1]}, m={"b": RIGHT[0], "a": RIGHT[0]})
    alone = frame(m={"a": RIGHT[0]})
    listed = sources(b=range(400), a=range(400))
    wide = errors.accuracies(both, listed, BY).loc[("m", "a")]
    assert wide.equals(errors.accuracies(alone, SINGLE, BY).loc[("m", "a")])
    assert wide.equals(errors.accuracies(both[::-1], listed[::-1], BY).loc[("m", "a")])
    assert not wide.equals(errors.accuracies(both, listed, BY, seed=1).loc[("m", "a")])
    assert not wide.equals(errors.accuracies(both, listed, BY, split="validation").loc[("m", "a")])
    assert not wide.equals(errors.accuracies(both, listed, BY).loc[("m", "b")])


def test_halves_show_different_sources():
    order = np.repeat(range(40), 10)
    drawn = [errors.accuracies(frame(m={"a": RIGHT[0]}), sources(a=order), BY, half=half).iloc[0] for half in (0, 1)]
    for half, found in enumerate(drawn):
        assert found[0] == RIGHT[0][order % 2 == half].mean()
    assert abs(np.corrcoef(drawn[0][1:], drawn[1][1:])[0, 1]) < 0.1


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


def test_an_expert_without_a_right_input_leaves_its_task_out():
    drawn = errors.accuracies(
        frame(m={"a": [1, 1], "b": [1, 0]}, e={"a": [0, 0], "b": [1, 0]}), sources(a=[0, 1], b=[0, 1]), BY
    )
    assert (errors.normalised(drawn.loc[["m"]], drawn.loc["e"]).loc["m"].dropna() == 1).all()


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
    assert errors.visible(pd.Series([1.0])) == pytest.approx(1.645 + 0.842, abs=1e-3)
    assert errors.visible(pd.Series([1.0, 0.5])) == pytest.approx(1.960 + 0.842, abs=1e-3)
    assert errors.visible(pd.Series([0.0, 0.0])) == 0
