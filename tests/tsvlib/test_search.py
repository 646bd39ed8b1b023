# SPDX-License-Identifier: MIT
"""The search of alpha agrees with the full grid wherever scores have one peak, and takes few of them."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tsvlib
from tsvlib.errors import InputError
from tsvlib.methods import UPDATES
from tsvlib.search import AlphaSearch, best_alpha

GRID = tuple(map(float, range(30)))


def counted(score: Callable[[float], float]) -> tuple[Callable[[float], float], list[float]]:
    asked: list[float] = []

    def ask(alpha: float) -> float:
        asked.append(alpha)
        return score(alpha)

    return ask, asked


@given(st.integers(0, 29), st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_single_peak_is_found_as_by_the_full_grid(peak: int, rise: float, fall: float) -> None:
    score, asked = counted(lambda alpha: rise * (alpha - peak) if alpha < peak else fall * (peak - alpha))
    found = best_alpha(score, GRID)
    assert found == AlphaSearch(max(GRID, key=score), 0.0, found.evaluations)
    assert found.evaluations == len(set(asked[: found.evaluations])) <= 10


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=30, max_size=30))
def test_any_scores_take_at_most_ten_evaluations_and_give_a_local_best(scores: list[float]) -> None:
    score, asked = counted(lambda alpha: scores[int(alpha)])
    found = best_alpha(score, GRID)
    assert found.evaluations == len(asked) <= 10
    assert found.score == scores[int(found.alpha)] == max(scores[int(alpha)] for alpha in asked)


@given(st.integers(0, 9), st.lists(st.floats(0, 0.1), min_size=30, max_size=30))
def test_noise_around_chance_at_large_alphas_does_not_mislead(peak: int, noise: list[float]) -> None:
    scores = [1 - abs(alpha - peak) / 10 if alpha < 12 else noise[int(alpha)] for alpha in GRID]
    assert best_alpha(lambda alpha: scores[int(alpha)], GRID).alpha == peak


@given(st.integers(0, 4), st.lists(st.floats(0, 0.1), min_size=30, max_size=30))
def test_a_model_that_only_small_alphas_leave_above_chance_is_found(peak: int, noise: list[float]) -> None:
    scores = [1 - abs(alpha - peak) / 10 if alpha < 7 else noise[int(alpha)] for alpha in GRID]
    assert best_alpha(lambda alpha: scores[int(alpha)], GRID).alpha == peak


@pytest.mark.parametrize("size", [2, 3, 5, 11])
def test_short_grids_are_searched_whole(size: int) -> None:
    for peak in range(size):
        assert best_alpha(lambda alpha, peak=peak: -abs(alpha - peak), GRID[:size]).alpha == peak


@pytest.mark.parametrize("name", UPDATES)
def test_the_grid_of_every_method_is_searched_within_ten_evaluations(name: str) -> None:
    grid = UPDATES[name].alphas
    for peak in grid:
        found = best_alpha(lambda alpha, peak=peak: -abs(alpha - peak), grid)
        assert found.alpha == peak
        assert found.evaluations <= 10


def test_a_single_alpha_is_not_scored() -> None:
    found = best_alpha(lambda _: pytest.fail("nothing to choose"), (1.0,))
    assert (found.alpha, found.evaluations) == (1.0, 0)
    assert math.isnan(found.score)


@pytest.mark.parametrize("grid", [(), (1.0, 1.0), (2.0, 1.0), (1.0, math.nan), (math.nan, 1.0)])
def test_a_grid_rises(grid: Sequence[float]) -> None:
    with pytest.raises(InputError, match="the alphas to choose from do not rise"):
        best_alpha(lambda alpha: alpha, grid)


def test_a_score_that_is_no_number_is_told() -> None:
    with pytest.raises(InputError, match=r"the score of alpha 7 is no number"):
        best_alpha(lambda alpha: math.nan, GRID)


def test_ones_own_score_chooses_among_models_in_the_types_of_the_base() -> None:
    base = {"w": torch.zeros(4, 3).bfloat16(), "steps": torch.tensor(3)}
    wanted = 1.7 * torch.ones(4, 3)
    update = tsvlib.TaskVector(w=torch.ones(4, 3), steps=torch.zeros(()))
    seen: list[dict[str, torch.Tensor]] = []

    def score(state: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(state)
        return -(state["w"].float() - wanted).norm()

    found = tsvlib.search_alpha(update, base, score)
    assert found.alpha == pytest.approx(1.7)
    assert found.evaluations == len(seen) <= 10
    assert all(state["w"].dtype == torch.bfloat16 and torch.equal(state["steps"], base["steps"]) for state in seen)
    assert tsvlib.search_alpha(dict(update), base, score, [1.0, 1.5, 3.0]).alpha == 1.5
