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
