# SPDX-License-Identifier: MIT
"""TALL masks of the update of task arithmetic (Wang et al. 2024): the sum of all task vectors, and a mask per task."""

import numpy as np
import numpy.typing as npt
import oracles
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tsvlib.methods import masks
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import StateDict

Array = npt.NDArray[np.float64]
SHAPES = {"in_proj_weight": (18, 7), "proj": (6, 9), "bias": (5,), "scale": ()}
NAMES = ["a", "b", "c"]
LAMBDAS = [0.2, 0.6, 0.4]


def packed(vectors: list[dict[str, Tensor]]) -> masks.Masked:
    suite = MemorySuite(vectors)
    names, lambdas = NAMES[: len(vectors)], LAMBDAS[: len(vectors)]
    return masks.pack(suite, names, masks.shared_update(suite, masks.ARITHMETIC), lambdas)


def flat(vector: StateDict) -> Array:
    return torch.cat([vector[key].reshape(-1) for key in SHAPES]).double().numpy()


@given(st.integers(0, 2**32 - 1))
def test_experts_are_the_sum_where_their_masks_say_so(seed: int) -> None:
    vectors = oracles.task_vectors(SHAPES, 3, seed, torch.float32)
    vectors[1]["proj"].zero_()
    whole = np.stack([flat(vector) for vector in vectors])
    total = whole.sum(0)
    found = packed(vectors)
    for name, own, value in zip(NAMES, whole, LAMBDAS, strict=True):
        near, far = np.abs(own), value * np.abs(total - own)
        # Wherever the two are not equal but for rounding.
        sure = np.abs(near - far) > 1e-5 * (near + far)
        assert sure.mean() > 0.95
        expected = np.where(near >= far, total, 0.0)
        np.testing.assert_allclose(flat(found.expert(name))[sure], expected[sure], rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    found = packed([{"w": torch.tensor([4.0, 1.0, 0.0])}, {"w": torch.tensor([1.0, -8.0, 0.5])}])
    assert found.expert("a")["w"].tolist() == [5.0, 0.0, 0.0]
    assert found.expert("b")["w"].tolist() == [0.0, -7.0, 0.5]
