# SPDX-License-Identifier: MIT
"""CART adds to the mean what the low-rank parts of centred task matrices add up to."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import merging
from tsvlib.computing import Computing
from tsvlib.errors import InputError
from tsvlib.methods import cart
from tsvlib.methods.base import Method, layerwise
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

Array = npt.NDArray[np.float64]
CART = Method("cart", "CART", layerwise(cart.cart), (1.0,))
SHAPES = {"tall": (40, 26), "wide": (9, 20), "square": (12, 12), "bias": (5,), "text_projection": (6, 6)}
MATRICES = ("tall", "wide", "square")


def choi(deltas: Sequence[Array], share: float, scale: float) -> Array:
    """Transcribe CART for one task matrix."""
    mean = np.mean(deltas, axis=0)
    total = np.zeros_like(mean)
    for delta in deltas:
        u, s, vh = np.linalg.svd(delta - mean, full_matrices=False)
        k = max(1, math.floor(share * len(s)))
        total += u[:, :k] @ np.diag(s[:k]) @ vh[:k]
    merged: Array = mean + scale * total
    return merged


def merged(deltas: Sequence[Tensor], share: float = cart.SHARE, scale: float = cart.LAMBDA) -> Tensor:
    suite = MemorySuite([{"w": delta} for delta in deltas])
    return merging.update(cart.centred(share, scale)(suite), suite, "w")


def assert_near(found: Tensor, expected: Array) -> None:
    assert np.linalg.norm(found.double().numpy() - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("n_tasks", [2, 3, 5])
def test_cart_is_its_papers_formula_on_matrices_and_the_mean_elsewhere(n_tasks: int) -> None:
    vectors = oracles.task_vectors(SHAPES, n_tasks, n_tasks, torch.float32)
    for vector in vectors[1:]:
        vector["square"] = vector["square"][:, :2] @ vector["square"][:2]
    for vector in vectors[2:]:
        vector["wide"].zero_()
    found = merging.merged_update(vectors, CART)
    for key in SHAPES:
        deltas = [vector[key].double().numpy() for vector in vectors]
        assert found[key].dtype == torch.float32
        assert_near(found[key], choi(deltas, 0.08, 1.0) if key in MATRICES else np.mean(deltas, axis=0))


@pytest.mark.parametrize(("share", "scale"), [(0.04, 1.7), (0.25, 0.5), (0.25, 0.0), (0.9, 1.0)])
def test_another_share_and_lambda(share: float, scale: float) -> None:
    deltas = [oracles.matrix(30, 26, seed).float() for seed in range(4)]
    expected = choi([delta.double().numpy() for delta in deltas], share, scale)
    assert_near(merged(deltas, share, scale), expected)


def test_cart_by_hand() -> None:
    # The mean is (2, 3); centred, the tasks are (4, -3), (-2, 6) and (-2, -3), also the one that changed nothing.
    deltas = [torch.diag(torch.tensor(values)) for values in ([6.0, 0.0], [0.0, 9.0], [0.0, 0.0])]
    torch.testing.assert_close(merged(deltas), torch.diag(torch.tensor([6.0, 6.0])))
    torch.testing.assert_close(merged(deltas, scale=0.5), torch.diag(torch.tensor([4.0, 4.5])))


def test_without_truncation_and_for_two_or_equal_tasks_it_is_weight_averaging() -> None:
    deltas = [oracles.matrix(8, 6, seed).float() for seed in range(4)]
    torch.testing.assert_close(merged(deltas, share=1.0), torch.stack(deltas).mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(merged(deltas[:2]), torch.stack(deltas[:2]).mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(merged([deltas[0]] * 3), deltas[0])
    assert not merged([torch.zeros(3, 4)] * 2).any()
    # What an experimenter would see if the centred matrices were added whole.
    assert (merged(deltas) - torch.stack(deltas).mean(0)).norm() > 0.1 * torch.stack(deltas).mean(0).norm()


@settings(max_examples=10)
@given(order=st.permutations(range(4)), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_tasks_does_not_matter(order: list[int], seed: int) -> None:
    deltas = [oracles.matrix(8, 6, seed + task) for task in range(4)]
    torch.testing.assert_close(merged([deltas[task] for task in order]), merged(deltas), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-30, -2.0, 1e30])
def test_cart_is_homogeneous(scale: float) -> None:
    deltas = [oracles.matrix(8, 6, seed).float() for seed in range(3)]
    found = merged([scale * delta for delta in deltas])
    torch.testing.assert_close(found / scale, merged(deltas), rtol=1e-5, atol=1e-5)


def test_parts_of_a_tensor_are_matrices_of_their_own() -> None:
    vectors = [{"in_proj_weight": oracles.matrix(18, 5, seed).float()} for seed in range(3)]
    suite, rule = MemorySuite(vectors), Computing(MatrixRule(split_qkv=True))
    found = merging.update(cart.cart, suite, "in_proj_weight", rule)
    for part, rows in enumerate(found.chunk(3)):
        deltas = [vector["in_proj_weight"].chunk(3)[part].double().numpy() for vector in vectors]
        assert_near(rows, choi(deltas, 0.08, 1.0))


@pytest.mark.parametrize("share", [0.0, 1.5, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="no fraction of components"):
        cart.centred(share)


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_a_lambda_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(InputError, match=f"{scale} is no lambda of CART"):
        cart.centred(scale=scale)
