# SPDX-License-Identifier: MIT
"""The maps of Figure 3 are the Gram matrices of the tasks' singular vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from compendium import profiles
from compendium.study import runs, similarity
from compendium.worlds.protocol import suite
from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.suites import MemorySuite

SMOKE = profiles.load("smoke")
KEY = "visual.transformer.resblocks.0.attn.in_proj_weight"


def test_maps_are_inner_products_of_the_leading_vectors(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    run = next(runs.of(SMOKE))
    rows = similarity.maps(run, 2, KEY, 3)
    assert {row["first"]: row["task"] for row in rows} == dict(enumerate(np.repeat(suite(SMOKE, 2), 3)))
    exact = [linalg.signed(linalg.svd(run.task_vector(task)[KEY].double())) for task in suite(SMOKE, 2)]
    for name, side in (("u", [each.u for each in exact]), ("v", [each.vh.T for each in exact])):
        vectors = torch.cat([block[:, :3] for block in side], dim=1)
        found = {(row["first"], row["second"]): row["similarity"] for row in rows if row["vectors"] == name}
        assert found.keys() == {(i, j) for i in range(6) for j in range(i, 6)}
        expected = (vectors.T @ vectors).numpy()
        assert np.array([expected[pair] for pair in found]) == pytest.approx(np.array(list(found.values())), abs=2e-3)


def test_a_task_that_left_the_matrix_alone_has_no_vectors(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    run = next(runs.of(SMOKE))
    first, second = suite(SMOKE, 2)
    vectors = {task: dict(run.task_vector(task)) for task in (first, second)}
    vectors[first][KEY] = torch.zeros_like(vectors[first][KEY])
    monkeypatch.setattr(runs.Run, "suite_on_disk", lambda _, tasks: MemorySuite([vectors[task] for task in tasks]))
    assert run.first_matrix() == KEY
    assert {row["task"] for row in similarity.maps(run, 2, KEY, 3)} == {second}
    vectors[second][KEY] = torch.zeros_like(vectors[second][KEY])
    assert run.first_matrix() != KEY


@pytest.mark.parametrize(
    ("key", "k", "told"),
    [
        ("nonsense", 3, r"no expert changed a task matrix 'nonsense'; choose one of visual\."),
        ("visual.conv1.weight", 3, "no expert changed a task matrix 'visual.conv1.weight'"),
        (KEY, 33, "it has 32 components; compare at least one and no more, not 33"),
        (KEY, 0, "at least one and no more, not 0"),
    ],
)
def test_what_cannot_be_compared_is_told(
    trained: Path, monkeypatch: pytest.MonkeyPatch, key: str, k: int, told: str
) -> None:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    with pytest.raises(InputError, match=told):
        similarity.maps(next(runs.of(SMOKE)), 2, key, k)
