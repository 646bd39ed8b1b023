# SPDX-License-Identifier: MIT
"""Where single or half precision would not do, more is used: hard cases stay as exact as easy ones."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import checkpoints, linalg, taskvectors
from tsvlib.linalg import Factors
from tsvlib.suites import CheckpointSuite

seeds = st.integers(0, 2**32 - 1)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    q: Tensor = torch.linalg.qr(random(rows, columns, seed=seed)).Q
    return q


def errors(delta: Tensor, k: int) -> tuple[float, float]:
    """Return how far the k leading components are off, ours and those of the SVD in the type of ``delta``."""
    best = linalg.truncate(linalg.svd(delta.double()), k).product()

    def error(found: Factors) -> float:
        return float((Factors(*(part.double() for part in found)).product() - best).norm())

    return error(linalg.leading(delta, k)), error(linalg.truncate(linalg.svd(delta), k))


def test_matrices_of_which_few_rows_changed_are_decomposed_exactly() -> None:
    # Beyond the rank of such a matrix, images of further directions are combinations of the others.
    found = []
    for seed in range(20):
        delta = torch.zeros(60, 40)
        delta[:12] = random(12, 40, seed=seed).float() * torch.logspace(0, -3, 12)[:, None]
        found.append(errors(delta, 5))
    ours, lapacks = zip(*found, strict=True)
    assert max(ours) <= max(lapacks)


def test_a_component_that_is_hardly_larger_than_the_next_is_told_from_it() -> None:
    # Squares of small and near singular values differ by little more than the rounding of the largest one's.
    near = [0.05 * 1.001**-step for step in range(8)]
    s = torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6, *near, *([0.01] * 27)], dtype=torch.float64)
    found = []
    for seed in range(8):
        delta = ((orthonormal(60, 40, seed) * s) @ orthonormal(40, 40, seed + 100).T).float()
        found.append(errors(delta, 9))
    ours, lapacks = zip(*found, strict=True)
    assert sum(ours) <= sum(lapacks)


@given(st.integers(1, 6), st.sampled_from([2.0**-40, 1.0, 2.0**40]), seeds)
def test_the_numerical_rank_does_not_depend_on_the_scale(k: int, scale: float, seed: int) -> None:
    product = random(9, k, seed=seed) @ random(k, 7, seed=seed + 1)
    assert linalg.numerical_rank(linalg.svd(scale * product)) == k


@settings(max_examples=30)
@given(st.sampled_from([0.0, 1e-9, 1e-10]), st.integers(2, 6), seeds)
def test_whitened_directions_have_length_one_or_none(distance: float, columns: int, seed: int) -> None:
    x = orthonormal(20, columns, seed)
    x[:, 1] = x[:, 0] + distance * x[:, 1]
    lengths = torch.linalg.svdvals(linalg.whiten(x @ orthonormal(columns, columns, seed + 1)))
    expected = torch.tensor([1.0] * (columns - 1) + [0.0], dtype=torch.float64)
    torch.testing.assert_close(lengths, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_checkpoints_in_half_precision_are_subtracted_in_single(tmp_path: Path, dtype: torch.dtype) -> None:
    base = {"w": random(9, 7, seed=0).to(dtype), "b": torch.tensor([1.0, -60000.0]).to(dtype)}
    expert = {"w": random(9, 7, seed=1).to(dtype), "b": torch.tensor([1e-4, 60000.0]).to(dtype)}
    for name, state in (("base", base), ("expert", expert)):
        checkpoints.save(tmp_path / f"{name}.safetensors", state, {})
    opened = [checkpoints.open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "expert")]
    suite, exact = CheckpointSuite(opened[0], opened[1:]), taskvectors.task_vector(base, expert)
    for key in base:
        ((number, change),) = suite.changes(key)
        assert number == 0
        assert change.dtype == torch.float32
        assert torch.equal(change, exact[key])
        assert torch.equal(change.double(), (expert[key].double() - base[key].double()).float().double())
