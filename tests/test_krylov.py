# SPDX-License-Identifier: MIT
"""The block Lanczos process against LAPACK in float64: right where it answers, silent where it could be wrong."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import krylov, linalg

N = krylov.SMALLEST


def _symmetric(values: Tensor, seed: int = 0) -> Tensor:
    """Return a float32 matrix with these eigenvalues, in directions of its own."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=generator))
    return ((q * values.double()) @ q.mT).float()


def _decaying(power: float, floor: float = 0.0, n: int = N) -> Tensor:
    return torch.arange(1, n + 1, dtype=torch.float64).pow(-power) + floor


def _check(symmetric: Tensor, k: int, values: Tensor, vectors: Tensor) -> None:
    """Assert that these are the k largest eigenpairs to single precision of the largest one."""
    exact = torch.linalg.eigvalsh(symmetric.double())
    largest = float(exact[-1])
    assert (values.double() - exact[-k:]).abs().max() <= 1e-5 * largest
    assert (symmetric.double() @ vectors.double() - vectors.double() * values.double()).norm(dim=0).max() <= (
        1e-5 * largest
    )
    assert (vectors.mT @ vectors - torch.eye(k)).abs().max() <= 1e-4


@pytest.mark.parametrize("k", [1, 17, 64])
def test_decaying_spectra_are_decomposed(k: int) -> None:
    symmetric = _symmetric(_decaying(1.4))
    found = krylov.leading_eigenpairs(symmetric, k)
    assert found is not None
    _check(symmetric, k, *found)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.0, 3.0), st.floats(0.0, 0.1), st.integers(1, 80), st.integers(0, 9))
def test_an_answer_is_right_whatever_the_spectrum(power: float, floor: float, k: int, seed: int) -> None:
    symmetric = _symmetric(_decaying(power, floor), seed)
    if (found := krylov.leading_eigenpairs(symmetric, k)) is not None:
        _check(symmetric, k, *found)


@pytest.mark.parametrize("copies", [krylov.BLOCK, krylov.BLOCK + 1, 17, 60])
@pytest.mark.parametrize("rest", ["zero", "decaying", "equal"])
def test_an_eigenvalue_of_many_vectors_is_not_missed(copies: int, rest: str) -> None:
    tails = {"zero": torch.zeros(N), "decaying": _decaying(1.4) / 2, "equal": torch.full((N,), 0.5)}
    values = tails[rest].clone().double()
    values[:copies] = 1.0
    for k in (20, 70):
        if (found := krylov.leading_eigenpairs(_symmetric(values), k)) is not None:
            _check(_symmetric(values), k, *found)


def test_what_hides_from_the_first_block_is_noticed() -> None:
    values = torch.tensor([3.0, 2.0, 1.0, *[0.0] * (N - 3)])
    symmetric, known = torch.diag(values), torch.eye(N)[:, [1, 2]]
    generator = torch.Generator().manual_seed(0)
    assert krylov._hides_larger(symmetric.numpy(), 1.0, known.numpy(), generator)
    assert not krylov._hides_larger(symmetric.numpy(), 1.0, torch.eye(N)[:, :3].numpy(), generator)


@pytest.mark.parametrize("length", [1.0, 1e-2, 1e-5, 0.0])
def test_the_next_block_is_orthonormal_however_little_is_left_of_one_vector(length: float) -> None:
    block, generator = krylov.BLOCK, torch.Generator().manual_seed(0)
    directions, _ = torch.linalg.qr(torch.randn(N, 3 * block, generator=generator))
    known, fresh = directions.mT.split([2 * block, block])
    fresh[-1] = fresh[:-1].mean(dim=0) + length * fresh[-1]
    image = torch.randn(block, 2 * block, generator=generator) @ known + fresh
    found, link = (torch.from_numpy(part) for part in krylov._next(image.numpy(), known.numpy()))
    assert (found @ known.mT).abs().max() <= 1e-5
    assert (found @ found.mT - torch.eye(block)).abs().max() <= 1e-5
    assert (link.mT @ found - fresh).abs().max() <= 1e-5


@pytest.mark.parametrize(("n", "k"), [(N - 1, 5), (N, N // 4)])
def test_small_matrices_and_many_eigenvectors_are_left_to_others(n: int, k: int) -> None:
    assert krylov.leading_eigenpairs(_symmetric(_decaying(1.4, n=n)), k) is None


def test_a_spectrum_that_does_not_fall_is_left_to_others() -> None:
    nearly_equal = 1 + 0.01 * torch.rand(N, generator=torch.Generator().manual_seed(0))
    assert krylov.leading_eigenpairs(_symmetric(nearly_equal), 40) is None


def test_the_same_matrix_gives_the_same_bits() -> None:
    symmetric = _symmetric(_decaying(1.0, 0.001))
    one, two = (krylov.leading_eigenpairs(symmetric, 32) for _ in range(2))
    assert one is not None
    assert two is not None
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("wide", [False, True])
def test_large_matrices_are_decomposed_this_way_and_well(wide: bool) -> None:
    strengths = _decaying(0.7, 0.005)
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(n, N, dtype=torch.float64, generator=generator) for n in (2 * N, N))
    delta = (torch.linalg.qr(left)[0] * strengths) @ torch.linalg.qr(right)[0].mT
    delta = (delta.mT if wide else delta).float()
    found = linalg.leading(delta, N // 8).product().double()
    exact = linalg.truncate(linalg.svd(delta.double()), N // 8).product()
    assert (found - exact).norm() <= 5e-6 * exact.norm()
