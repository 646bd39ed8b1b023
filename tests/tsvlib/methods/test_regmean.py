# SPDX-License-Identifier: MIT
"""RegMean is the paper's regression on inputs, and sensible where inputs say nothing."""

from collections.abc import Mapping, Sequence

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
from tsvlib.methods.regmean import OFF_DIAGONAL, regmean
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import MatrixRule

Array = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(12, 5), (5, 12), (7, 7), (1, 6), (6, 1)])


def gram(samples: int, inputs: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return XᵀX of inputs whose sizes differ a thousandfold, as real ones do."""
    x = oracles.matrix(samples, inputs, seed) * torch.logspace(0, 3, inputs, dtype=torch.float64)
    found: Tensor = (x.T @ x).to(dtype)
    return found


def merged(
    vectors: Sequence[Mapping[str, Tensor]],
    grams: Sequence[Mapping[str, Tensor]],
    off_diagonal: float = OFF_DIAGONAL,
    computing: Computing | None = None,
) -> dict[str, Tensor]:
    suite = MemorySuite(vectors)
    function = regmean(grams, off_diagonal)(suite)
    return {key: merging.update(function, suite, key, computing or Computing()) for key in suite.shapes}


def of_one_layer(deltas: Sequence[Tensor], grams: Sequence[Tensor], off_diagonal: float = OFF_DIAGONAL) -> Tensor:
    return merged([{"w": delta} for delta in deltas], [{"w": one} for one in grams], off_diagonal)["w"]


def jin(weights: list[Array], grams: list[Array], alpha: float) -> Array:
    """Transcribe RegMean of whole weights, which the paper writes with inputs in rows."""
    reduced = [alpha * g + (1 - alpha) * np.diag(np.diag(g)) for g in grams]
    merged: Array = np.linalg.inv(sum(reduced)) @ sum(g @ w.T for g, w in zip(reduced, weights, strict=True))
    return merged.T


def close(found: Tensor, expected: Array, tolerance: float = 1e-6) -> bool:
    return bool(np.linalg.norm(found.double().numpy() - expected) <= tolerance * np.linalg.norm(expected))


@given(shape=shapes, n_tasks=st.integers(2, 4), alpha=st.sampled_from([0.0, 0.1, 0.9, 1.0]), seed=seeds)
@settings(max_examples=60)
def test_regmean_is_its_papers_formula(shape: tuple[int, int], n_tasks: int, alpha: float, seed: int) -> None:
    deltas = [oracles.matrix(*shape, seed + task).float() for task in range(n_tasks)]
    deltas[-1] = torch.zeros(shape)
    # Fewer samples than inputs are enough for the paper's scale, not for the whole of each Gram matrix.
    samples = 4 * shape[1] if alpha == 1 else 3
    grams = [gram(samples, shape[1], seed + 10 + task) for task in range(n_tasks)]
    base = oracles.matrix(*shape, seed + 20).numpy()
    weights = [base + delta.double().numpy() for delta in deltas]
    expected = jin(weights, [one.double().numpy() for one in grams], alpha) - base
    assert close(of_one_layer(deltas, grams, alpha), expected)


def test_regmean_by_hand() -> None:
    grams = [torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]])]
    deltas = [torch.tensor([[1.0, 1.0]]), torch.tensor([[5.0, 5.0]])]
    torch.testing.assert_close(of_one_layer(deltas, grams), torch.tensor([[4.0, 2.0]]))
    # Of correlated inputs, what is off the diagonal counts by its scale.
    grams = [torch.tensor([[2.0, 2.0], [2.0, 2.0]]), torch.tensor([[2.0, 0.0], [0.0, 2.0]])]
    deltas = [torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.0]])]
    torch.testing.assert_close(of_one_layer(deltas, grams, 1.0), torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(of_one_layer(deltas, grams, 0.0), torch.tensor([[1.5, 0.0]]))


@given(shape=shapes, seed=seeds)
@settings(max_examples=20)
def test_no_other_update_does_better_on_the_inputs(shape: tuple[int, int], seed: int) -> None:
    deltas = [oracles.matrix(*shape, seed + task) for task in range(3)]
    grams = [gram(4 * shape[1], shape[1], seed + 10 + task, torch.float64) for task in range(3)]
    found = of_one_layer(deltas, grams, 1.0)
    pulls = [(found - delta) @ one for delta, one in zip(deltas, grams, strict=True)]
    assert torch.stack(pulls).sum(0).norm() <= 1e-9 * max(pull.norm() for pull in pulls)


def test_inputs_that_no_task_has_are_averaged() -> None:
    deltas = [oracles.matrix(4, 5, task).float() for task in range(3)]
    grams = [gram(20, 5, 10 + task) for task in range(3)]
    for one in grams:
        one[2], one[:, 2] = 0, 0
    mean = torch.stack(deltas).double().mean(0).numpy()
    alive = [0, 1, 3, 4]
    for alpha in (0.9, 1.0):
        found = of_one_layer(deltas, grams, alpha)
        assert close(found[:, 2], mean[:, 2])
        rest = [one.double().numpy()[np.ix_(alive, alive)] for one in grams]
        expected = jin([delta.double().numpy()[:, alive] for delta in deltas], rest, alpha)
        assert close(found[:, alive], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_samples_say_nothing_beyond_their_span(dtype: torch.dtype) -> None:
    deltas = [oracles.matrix(4, 30, task).to(dtype) for task in range(3)]
    grams = [gram(4, 30, 10 + task, torch.float64) for task in range(3)]
    total = torch.stack(grams).sum(0)
    ridge = 1e-7 * total.diagonal().diag()
    pulls = sum(delta.double() @ (one + ridge) for delta, one in zip(deltas, grams, strict=True))
    expected = torch.linalg.solve(total + 3 * ridge, pulls, left=False)
    found = of_one_layer(deltas, [one.to(dtype) for one in grams], 1.0)
    assert close(found, expected.numpy(), 1e-3)
    same = of_one_layer([deltas[0]] * 3, [one.to(dtype) for one in grams], 1.0)
    torch.testing.assert_close(same, deltas[0], rtol=1e-4, atol=1e-5)


def test_what_has_no_gram_matrix_is_averaged() -> None:
    sizes = {"w": (4, 3), "embedding": (9, 3), "text_projection": (3, 3), "bias": (4,), "scale": ()}
    vectors = oracles.task_vectors(sizes, 3, 0, torch.float32)
    found = merged(vectors, [{"w": gram(12, 3, 10 + task)} for task in range(3)])
    for key in sizes.keys() - {"w"}:
        torch.testing.assert_close(found[key], sum(vector[key] for vector in vectors) / 3)
    assert (found["w"] - sum(vector["w"] for vector in vectors) / 3).norm() > 0.01


def test_q_k_and_v_share_one_gram_matrix_split_or_not() -> None:
    key = "attn.in_proj_weight"
    vectors = oracles.task_vectors({key: (12, 5)}, 3, 0, torch.float32)
    vectors[1][key][4:8] = 0
    grams = [{key: gram(3, 5, 10 + task)} for task in range(3)]
    split = merged(vectors, grams, computing=Computing(MatrixRule(split_qkv=True)))
    torch.testing.assert_close(split[key], merged(vectors, grams)[key])


def test_layers_that_nobody_changed_stay() -> None:
    assert not of_one_layer([torch.zeros(3, 4)] * 2, [gram(8, 4, 0)] * 2).any()


@given(order=st.permutations(range(4)), seed=seeds)
@settings(max_examples=20)
def test_the_order_of_tasks_changes_nothing(order: list[int], seed: int) -> None:
    deltas = [oracles.matrix(5, 8, seed + task).float() for task in range(4)]
    deltas[2] = torch.zeros(5, 8)
    grams = [gram(6, 8, seed + 10 + task) for task in range(4)]
    found = of_one_layer([deltas[task] for task in order], [grams[task] for task in order])
    assert close(found, of_one_layer(deltas, grams).double().numpy())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_changes_scale_and_gram_matrices_have_no_unit(scale: float) -> None:
    deltas = [oracles.matrix(5, 8, task).float() for task in range(3)]
    grams = [gram(6, 8, 10 + task) for task in range(3)]
    for alpha in (0.9, 1.0):
        expected = of_one_layer(deltas, grams, alpha).double().numpy()
        assert close(of_one_layer([scale * delta for delta in deltas], grams, alpha) / scale, expected)
        assert close(of_one_layer(deltas, [scale * one for one in grams], alpha), expected, 1e-4)


@pytest.mark.parametrize(
    ("grams", "message"),
    [
        ([{"w": torch.eye(3)}], "Gram matrix of 1 experts, and 2 are merged"),
        ([{}, {}], "no Gram matrix of any tensor"),
        ([{"w": torch.eye(3)}, {}], "no Gram matrix of `w` of expert 2; give it for all or none"),
        ([{"w.weight": torch.eye(3)}] * 2, "expert 1 has Gram matrix of `w.weight`, but no such tensor"),
        ([{"w": torch.eye(4)}] * 2, r"`w` of expert 1 has shape \(4, 4\) instead of \(3, 3\)"),
        ([{"w": torch.eye(3)}, {"w": torch.full((3, 3), torch.inf)}], "`w` of expert 2 holds NaN or Inf"),
        ([{"w": torch.eye(3)}, {"w": torch.eye(3).cumsum(1)}], "`w` of expert 2 is not symmetric"),
        ([{"w": torch.eye(3)}, {"w": -torch.eye(3)}], "`w` of expert 2 is not symmetric or has a negative diagonal"),
        ([{"w": 2 * torch.eye(3) - 1}] * 2, "what is given for `w` is no Gram matrix"),
        ([{"w": torch.eye(3), "bias": torch.eye(3)}] * 2, "`bias` is no matrix, so a Gram matrix does not apply"),
    ],
)
def test_gram_matrices_that_are_missing_or_unfit_are_told(grams: list[dict[str, Tensor]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        merged([{"w": torch.ones(4, 3), "bias": torch.ones(3)}] * 2, grams)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, torch.nan])
def test_unfit_scales_are_told(alpha: float) -> None:
    with pytest.raises(InputError, match="no scale of what is off the diagonal"):
        regmean([], alpha)
