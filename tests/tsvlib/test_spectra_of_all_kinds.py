# SPDX-License-Identifier: MIT
"""Decompositions and merges of matrices that partial solvers stumble over: low rank, repeated and clustered values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import algorithm_1, orthonormal
from torch import Tensor

from tsvlib import devices, linalg, merging
from tsvlib.errors import InputError
from tsvlib.methods import UPDATES
from tsvlib.taskvectors import StateDict

seeds = st.integers(0, 2**32 - 1)
Spectrum = Callable[[int, int], Tensor]
"""Singular values of n components, of which r are wanted to matter."""

KINDS: dict[str, Spectrum] = {
    "all equal": lambda n, r: torch.ones(n),
    "low rank, falling": lambda n, r: torch.cat([torch.linspace(1, 0.1, r), torch.zeros(n - r)]),
    "low rank, equal": lambda n, r: torch.cat([torch.ones(r), torch.zeros(n - r)]),
    "two levels": lambda n, r: torch.cat([torch.full((r,), 3.0), torch.ones(n - r)]),
    "equal above a falling rest": lambda n, r: torch.cat([torch.ones(r), 0.5 * torch.arange(1, n - r + 1) ** -0.7]),
    "a cluster of a millionth": lambda n, r: 1 + 1e-6 * torch.arange(n, 0, -1) / n,
    "a cluster of a thousandth": lambda n, r: 1 + 1e-3 * torch.arange(n, 0, -1) / n,
    "stairs of r": lambda n, r: torch.arange(n - 1, -1, -1).div(r, rounding_mode="floor") + 1.0,
    "falling": lambda n, r: torch.arange(1, n + 1) ** -0.7,
    "steep": lambda n, r: 10.0 ** (-torch.arange(n) / 8),
}


def matrix(kind: str, n: int, longer: int, r: int, seed: int) -> Tensor:
    """Return a float32 matrix with n columns whose singular values are of that kind."""
    s = KINDS[kind](n, r).double()
    return ((orthonormal(n + longer, n, seed) * s) @ orthonormal(n, n, seed + 1).mT).float()


def check(delta: Tensor, k: int) -> None:
    """Assert what makes k components the leading ones, to single precision, wherever directions are not unique."""
    u, s, vh = linalg.leading(delta, k)
    exact = torch.linalg.svdvals(delta.double())
    eye = torch.eye(k, dtype=torch.float64)
    assert (u.double().mT @ u.double() - eye).abs().max() <= 2e-5
    assert (vh.double() @ vh.double().mT - eye).abs().max() <= 2e-5
    assert (s.double() - exact[:k]).abs().max() <= 1e-5 * exact[0]
    rest = delta.double() - (u.double() * s.double()) @ vh.double()
    assert float(rest.norm() - exact[k:].norm()) <= 2e-5 * float(exact.norm())


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(2, 160), longer=st.integers(0, 60), share=st.floats(0.01, 1.0), rank=st.floats(0, 1), seed=seeds)
@settings(max_examples=12)
def test_the_leading_components_are_those_of_the_whole(
    kind: str, n: int, longer: int, share: float, rank: float, seed: int
) -> None:
    delta = matrix(kind, n, longer, max(1, min(n - 1, round(rank * n))), seed)
    check(delta, max(1, round(share * n)))
    check(delta.mT, max(1, round(share * n)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "r", "k"), [(256, 16, 32), (256, 17, 1), (576, 16, 72)])
def test_the_same_of_large_matrices(kind: str, n: int, r: int, k: int) -> None:
    check(matrix(kind, n, 64, r, seed=n), k)


@pytest.mark.parametrize("k", [1, 3, 64])
def test_a_matrix_of_signs_is_decomposed(k: int) -> None:
    signs = torch.ones(1, 1)
    while len(signs) < 256:
        signs = torch.kron(signs, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    check(signs, k)
    check(signs[:255, :255], k)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_matrix_gives_the_same_bits(kind: str) -> None:
    delta = matrix(kind, 96, 32, 12, seed=5)
    once = linalg.leading(delta, 12)
    padded = torch.zeros(129, 97)
    padded[1:, 1:] = delta
    for other in (delta.clone(), delta.mT.contiguous().mT, padded[1:, 1:]):
        assert all(map(torch.equal, once, linalg.leading(other, 12)))


@pytest.mark.parametrize("shape", [(513, 257), (257, 513)])
def test_threads_change_no_bit(shape: tuple[int, int]) -> None:
    delta, threads = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.append(linalg.leading(delta, 32))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    [inside] = devices.ordered(lambda x: linalg.leading(x, 32), [delta], 2)
    assert all(torch.equal(a, b) for other in (*found, inside) for a, b in zip(found[0], other, strict=True))


@given(st.integers(-140, 110), st.sampled_from(list(KINDS)), seeds)
@settings(max_examples=30)
def test_scale_changes_nothing_but_the_singular_values(power: int, kind: str, seed: int) -> None:
    delta = matrix(kind, 24, 9, 5, seed)
    shifted = torch.ldexp(torch.ldexp(delta, torch.tensor(power // 2)), torch.tensor(power - power // 2))
    found, exact = linalg.leading(shifted, 6), torch.linalg.svdvals(shifted.double())[:6]
    # Numbers near the smallest ones of float32 are only so exact.
    assert (found.s.double() - exact).abs().max() <= 1e-5 * exact[0] + 2**-144
    for vectors in (found.u.mT, found.vh):
        assert (vectors @ vectors.mT - torch.eye(6)).abs().max() <= 2e-5


@pytest.mark.parametrize("function", [linalg.orthogonalise, linalg.whiten])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_polar_factor_has_no_scale(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    x = torch.randn(20, 6, dtype=dtype, generator=torch.Generator().manual_seed(3))
    for scale in (1e-30, 1e30) if dtype == torch.float32 else (1e-200, 1e200):
        torch.testing.assert_close(function(x * scale), function(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    half = torch.randn(150, 130, generator=torch.Generator().manual_seed(0)).to(dtype)
    for found in (linalg.svd(half), linalg.leading(half, 130)):
        assert {part.dtype for part in found} == {torch.float32}
        assert linalg.numerical_rank(found) == 130
        torch.testing.assert_close(found.product(), half.float(), rtol=0, atol=1e-4)
    for function in (linalg.orthogonalise, linalg.whiten):
        torch.testing.assert_close(function(half), function(half.float()), rtol=0, atol=0)


SMOOTH = sorted(UPDATES.keys() - {"dare"})
"""All but DARE, whose masks follow the digests of experts: those of other numbers, or of another type, are others."""


def merge(name: str, task_vectors: list[StateDict]) -> Tensor:
    return merging.merged_update(task_vectors, UPDATES[name])["w"]


@pytest.mark.parametrize("name", ["tsv_m", "tsv_m_eigen"])
@given(n=st.integers(8, 60), longer=st.integers(0, 30), r=st.integers(1, 7), n_tasks=st.integers(2, 4), seed=seeds)
@settings(max_examples=25)
def test_experts_of_low_rank_are_merged_as_the_algorithm_says(
    name: str, n: int, longer: int, r: int, n_tasks: int, seed: int
) -> None:
    deltas = [matrix("low rank, falling", n, longer, r, seed + 2 * task) for task in range(n_tasks)]
    # Directions that only rounding fills are left out, as in the library.
    floor = (n + longer) * torch.finfo(torch.float32).eps
    expected = algorithm_1([delta.double().numpy() for delta in deltas], floor)
    found = merge(name, [{"w": delta} for delta in deltas]).double().numpy()
    # Random directions of few dimensions may nearly meet; the error is that of inverting their overlap.
    assert np.linalg.norm(found - expected) <= 2e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_method_stumbles_and_repetition_changes_no_bit(name: str, kind: str) -> None:
    task_vectors: list[StateDict] = [{"w": matrix(kind, 48, 16, 6, seed=10 * task)} for task in range(4)]
    found = merge(name, task_vectors)
    assert found.isfinite().all()
    assert torch.equal(found, merge(name, task_vectors))
    exact = merge(name, [{"w": vector["w"].double()} for vector in task_vectors])
    # Where leading directions are not unique, only sizes can be compared; and float64 takes for directions what float32
    # knows as rounding of an exact low rank.
    if not (name in {"interference_reduction", "tsv_m_exchanged"} and kind.startswith("low rank")):
        assert found.norm() == pytest.approx(float(exact.norm()), rel=0.35)


@pytest.mark.parametrize("count", [2, 40])
def test_experts_that_moved_as_rotations_do_are_merged(count: int) -> None:
    deltas = [0.01 * orthonormal(128, 128, task).float() for task in range(count)]
    update = merge("tsv_m", [{"w": delta} for delta in deltas]).double()
    kept = count * (128 // count)
    assert torch.linalg.svdvals(update)[:kept] == pytest.approx([0.01] * kept, rel=1e-3)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("power", [-120, -60, 60, 99])
def test_methods_scale_with_their_input(name: str, power: int) -> None:
    task_vectors = [{"w": matrix("falling", 30, 8, 3, seed=task)} for task in range(3)]
    half = torch.tensor(power // 2), torch.tensor(power - power // 2)
    shifted = [{"w": torch.ldexp(torch.ldexp(vector["w"], half[0]), half[1])} for vector in task_vectors]
    exact = merge(name, [{"w": vector["w"].double()} for vector in shifted])
    found = merge(name, shifted).double()
    assert (found - exact).norm() <= 1e-4 * exact.norm()


@pytest.mark.parametrize(
    "name", [name for name in SMOOTH if name not in {"ties", "consensus_ta", "knots_ties", "wudi"}]
)
def test_numbers_below_the_normal_ones_of_float32_are_merged(name: str) -> None:
    # Not where thresholds decide, which lie too close to other numbers of so few digits, nor where steps have a size.
    task_vectors = [{"w": matrix("falling", 30, 8, 3, seed=task) * 2.0**-70 * 2.0**-67} for task in range(3)]
    exact = merge(name, [{"w": vector["w"].double()} for vector in task_vectors])
    assert (merge(name, task_vectors).double() - exact).norm() <= 30 * 2**-149


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_task_vectors_are_merged_in_float32(name: str, dtype: torch.dtype) -> None:
    vectors = [{"w": matrix("falling", 160, 8, 3, seed=task).to(dtype)} for task in range(3)]
    found, exact = merge(name, vectors), merge(name, [{"w": vector["w"].double()} for vector in vectors])
    assert found.dtype == torch.float32
    assert (found - exact).norm() <= 1e-4 * exact.norm()


@pytest.mark.parametrize("name", SMOOTH)
def test_float64_task_vectors_are_merged_in_float64(name: str) -> None:
    one, two = (matrix("falling", 30, 8, 3, seed=task).double() for task in range(2))
    found = merge(name, [{"w": one}, {"w": two}])
    near = merge(name, [{"w": one * (1 + 1e-12)}, {"w": two * (1 + 1e-12)}])
    assert found.dtype == torch.float64
    assert 0 < (near - found).norm() <= 1e-9 * found.norm()


@pytest.mark.parametrize("name", UPDATES)
def test_parameters_are_taken_for_their_values(name: str) -> None:
    vectors = [{"w": matrix("falling", 30, 8, 3, seed=task)} for task in range(3)]
    grown: list[StateDict] = [{"w": torch.nn.Parameter(vector["w"])} for vector in vectors]
    found = merge(name, grown)
    assert not found.requires_grad
    assert torch.equal(found, merge(name, vectors))


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_task_vectors_that_are_not_finite_are_refused(name: str, value: float) -> None:
    broken = matrix("falling", 30, 8, 3, seed=1)
    broken[7, 3] = value
    with pytest.raises(InputError, match="`w` of task vector 2 holds NaN or Inf"):
        merge(name, [{"w": matrix("falling", 30, 8, 3, seed=0)}, {"w": broken}])


@pytest.mark.parametrize(
    "name", sorted(UPDATES.keys() - {"ties", "cart", "regmean_from_differences", "swudi", "aswudi"})
)
def test_updates_beyond_all_numbers_are_refused(name: str) -> None:
    # What is left out makes of equal experts just one of them, as do means of two.
    exploded = [{"w": torch.full((6, 6), 2e38)}, {"w": torch.full((6, 6), 2e38)}]
    with pytest.raises(InputError, match="`w`: the weights have exploded, and what follows is beyond what float32"):
        merge(name, exploded)


@pytest.mark.parametrize("condition", [1e2, 1e5])
def test_iso_c_is_as_exact_for_weak_directions_as_for_strong_ones(condition: float) -> None:
    s = torch.logspace(0, -float(np.log10(condition)), 64, dtype=torch.float64)
    half = ((orthonormal(64, 64, 1) * s) @ orthonormal(64, 64, 2)).float() / 2
    u, exact, vh = torch.linalg.svd(2 * half.double())
    expected = exact.mean() * (u @ vh)
    assert (merge("iso_c", [{"w": half}, {"w": half}]) - expected).norm() <= 1e-6 * expected.norm()
