# SPDX-License-Identifier: MIT
"""The tour merges as the library does, at the rank of the paper and at any other."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import algorithm_1

from compendium import profiles
from compendium.study import runs
from compendium.study.tour import Tour, kept, tsv_m
from tsvlib import linalg
from tsvlib.compression import Rank
from tsvlib.errors import InputError
from tsvlib.layers import layers_of
from tsvlib.methods import UPDATES
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import TaskVector

SMOKE = profiles.load("smoke")
KEY = "visual.transformer.resblocks.0.attn.in_proj_weight"


@pytest.fixture
def tour(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Tour:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    run = next(runs.of(SMOKE))
    return Tour(dataclasses.replace(run, profile=run.profile.first_suite()), 2)


def test_one_over_the_number_of_tasks_is_tsv_m_to_the_bit(tour: Tour) -> None:
    expected = tour.run.merged(UPDATES["tsv_m"], 2)
    found = tour.update(Rank(fraction=1 / 2))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("text", ["1", "1/4", "energy=0.5"])
def test_another_rank_is_algorithm_1_with_as_many_components(text: str) -> None:
    random, rank = np.random.default_rng(0), Rank.parse(text)
    # Steep enough that half of the energy lies in few components.
    deltas = [random.normal(size=(12, 8)) * 0.5 ** np.arange(8) for _ in range(2)]
    suite = MemorySuite([TaskVector(w=torch.tensor(delta)) for delta in deltas])
    (layer,) = layers_of(suite, "w")
    counts = {len(kept(linalg.svd(torch.tensor(delta)), rank).s) for delta in deltas}
    assert counts == {{"1": 1, "1/4": 2, "energy=0.5": 1}[text]}
    padded = [np.pad(delta, ((0, 4), (0, 0))) for delta in deltas]
    few = [u[:, : max(counts)] * s[: max(counts)] @ vh[: max(counts)] for u, s, vh in map(_thin, padded)]
    # Of matrices of that rank, more components than there are would add nothing.
    expected = algorithm_1(few, floor=1e-9)[:12]
    merge = tsv_m(rank).bind(suite)
    assert np.abs(merge(layer).numpy() - expected).max() < 1e-9


def _thin(delta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.linalg.svd(delta, full_matrices=False)


def test_a_look_is_at_the_components_that_were_merged(tour: Tour) -> None:
    look = tour.look(KEY, Rank(fraction=1 / 4), 0.5)
    assert (look.most, [len(one.s) for one in look.before]) == (32, [8, 8])
    exact = linalg.svd(tour.run.task_vector(tour.tasks[0]).matrix(KEY).double())
    assert torch.allclose(look.before[0].product().double(), linalg.truncate(exact, 8).product(), atol=1e-5)
    u = torch.cat([one.u for one in look.after], dim=1)
    assert torch.allclose(u.mT @ u, torch.eye(16), atol=1e-5)
    merged = tour.update(Rank(fraction=1 / 4))
    together = sum(one.product() for one in look.after)
    assert torch.allclose(together, merged[KEY], atol=1e-5 * float(merged[KEY].abs().max()))
    state = merged.apply(tour.run.evaluator.base, 0.5)
    assert look.accuracies["tsv_m"] == tour.run.evaluator.accuracies(state, tour.tasks, "validation")
    assert list(look.accuracies) == ["zero_shot", "individual", "tsv_m"]
    expert = tour.run.evaluator.accuracy(tour.run.expert(tour.tasks[1]), tour.tasks[1], "validation")
    assert look.accuracies["individual"][tour.tasks[1]] == expert


def test_a_rank_is_merged_once(tour: Tour) -> None:
    assert tour.update(Rank.parse("1/4")) is tour.update(Rank(fraction=0.25))


def test_a_layer_that_there_is_not_is_told_with_those_that_there_are(tour: Tour) -> None:
    with pytest.raises(InputError, match=r"no task matrix 'nonsense'; choose one of visual\."):
        tour.look("nonsense", Rank(fraction=1 / 2), 1.0)


def test_sliders_offer_all_layers_and_ranks_up_to_all(tour: Tour) -> None:
    assert set(tour.layers.values()) == set(tour.run.task_vector(tour.tasks[0]).matrices)
    assert tour.layers["0: attn.in_proj_weight"] == KEY
    fractions = [rank.fraction for rank in tour.ranks.values()]
    assert fractions == [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0]
    eight = dataclasses.replace(tour, n_tasks=8)
    shares = [Fraction(1, 64), Fraction(1, 32), Fraction(1, 16), Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), 1]
    assert list(eight.ranks) == [f"{share} of all" for share in shares]
