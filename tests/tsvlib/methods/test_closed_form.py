# SPDX-License-Identifier: MIT
"""Closed-form WUDI and RegMean from differences: the papers' formulas, in all inputs and in the span of factors."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

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
from tsvlib.layers import Layer
from tsvlib.methods import closed_form
from tsvlib.methods.base import Merge
from tsvlib.store import Spectra
from tsvlib.suites import MemorySuite

Array = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(12, 5), (7, 7), (5, 12), (3, 20), (1, 6), (6, 1)])
EPS = float(np.finfo(np.float32).eps)
FILTERS: dict[str, closed_form.Filter] = {
    "regmean": closed_form.arrived,
    "swudi": closed_form.exponential(),
    "aswudi": closed_form.participating,
}
METHODS = {
    "regmean": closed_form.regmean_from_differences,
    "swudi": closed_form.swudi,
    "aswudi": closed_form.aswudi,
}


def merged(function: Merge, deltas: Sequence[Tensor], computing: Computing | None = None) -> Tensor:
    return merging.update(function, MemorySuite([{"w": x} for x in deltas]), "w", computing or Computing())


def bound(name: str, deltas: Sequence[Tensor], fraction: float, computing: Computing | None = None) -> Tensor:
    suite = MemorySuite([{"w": x} for x in deltas])
    function = closed_form.closed_form(FILTERS[name], normalised=name != "regmean", fraction=fraction)(suite)
    return merging.update(function, suite, "w", computing or Computing())


def drawn(shape: tuple[int, int], n_tasks: int, seed: int) -> list[Tensor]:
    """Return task matrices of different sizes, the last of which is zero."""
    deltas = [10**task * oracles.matrix(*shape, seed + task).float() for task in range(n_tasks)]
    return [*deltas, torch.zeros(shape)]


def low_rank(shape: tuple[int, int], n_tasks: int, rank: int) -> list[Tensor]:
    sides = [
        (oracles.matrix(shape[0], rank, task), oracles.matrix(rank, shape[1], 10 + task)) for task in range(n_tasks)
    ]
    return [(u @ v).float() for u, v in sides]


def solved(deltas: Sequence[Tensor], f: Callable[[Array, int], Array], normalised: bool) -> Array:
    """Transcribe W = W_0 (I - V diag(f) Vᵀ) + D V diag(f / λ) Vᵀ; f sees the eigenvalues from the largest down."""
    every = [delta.double().numpy() for delta in deltas if delta.any()]
    weights = [1 / np.sum(x**2) if normalised else 1.0 for x in every]
    c = np.sum([w * x.T @ x for w, x in zip(weights, every, strict=True)], axis=0)
    d = np.sum([w * x @ x.T @ x for w, x in zip(weights, every, strict=True)], axis=0)
    values, v = np.linalg.eigh(c)
    values, v = np.maximum(values[::-1], 1e-300), v[:, ::-1]
    share = f(values, len(values))
    start = np.sum(every, axis=0)
    found: Array = start - start @ (v * share) @ v.T + d @ (v * (share / values)) @ v.T
    return found


def above(values: Array, shape: tuple[int, int]) -> Array:
    """Return where eigenvalues are more than rounding of task matrices in float32."""
    found: Array = np.sqrt(values) > max(shape) * EPS * np.sqrt(values[0])
    return found


def filter_of(name: str, shape: tuple[int, int]) -> Callable[[Array, int], Array]:
    def f(values: Array, n: int) -> Array:
        if name == "regmean":
            return above(values, shape).astype(float)
        if name == "swudi":
            flow: Array = (np.arange(n) < math.ceil(0.65 * n)) * (1 - np.exp(-1300 * values))
            return flow
        roots = np.sqrt(values * above(values, shape))
        taking_part = roots.sum() ** 2 / (roots**2).sum()
        # Rounding decides on no direction.
        found: Array = (np.arange(n) < math.ceil(taking_part - 1e-5)).astype(float)
        return found

    return f


def close(found: Tensor, expected: Array | Tensor, tolerance: float = 1e-6) -> bool:
    wanted = np.asarray(expected, dtype=np.float64)
    return bool(np.linalg.norm(found.double().numpy() - wanted) <= tolerance * np.linalg.norm(wanted))


@pytest.mark.parametrize("name", METHODS)
@given(shape=shapes, n_tasks=st.integers(2, 4), seed=seeds)
@settings(max_examples=40)
def test_the_closed_forms_are_their_papers_formulas(name: str, shape: tuple[int, int], n_tasks: int, seed: int) -> None:
    deltas = drawn(shape, n_tasks, seed)
    expected = solved(deltas, filter_of(name, shape), normalised=name != "regmean")
    assert close(merged(METHODS[name], deltas), expected, 1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_of_tasks_that_do_not_meet_the_sum_is_best(name: str) -> None:
    deltas = [torch.diag(torch.tensor(diagonal)) for diagonal in ([3.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 5.0])]
    torch.testing.assert_close(merged(METHODS[name], deltas), torch.diag(torch.tensor([3.0, -2.0, 5.0])))


def test_of_tasks_along_one_input_by_hand() -> None:
    deltas = [torch.tensor([[2.0, 0.0]]), torch.tensor([[4.0, 0.0]])]
    # Σ Δ³ / Σ Δ², and (2 + 4) / (1 + 1).
    torch.testing.assert_close(merged(closed_form.regmean_from_differences, deltas), torch.tensor([[3.6, 0.0]]))
    torch.testing.assert_close(merged(closed_form.swudi, deltas), torch.tensor([[3.0, 0.0]]))
    torch.testing.assert_close(merged(closed_form.aswudi, deltas), torch.tensor([[3.0, 0.0]]))
    # With λ = 2, half of the way from 6 to 3 is behind when exp(-2 t) = 1/2.
    choose = closed_form.exponential(time=math.log(2) / 2, share=1.0)
    half = closed_form.closed_form(choose, normalised=True)(MemorySuite([{"w": x} for x in deltas]))
    torch.testing.assert_close(merged(half, deltas), torch.tensor([[4.5, 0.0]]))


def test_the_exponential_filter_is_the_flow_down_the_gradient() -> None:
    deltas = [oracles.matrix(4, 5, task) for task in range(3)]
    units = [delta / delta.norm() for delta in deltas]
    w, time, steps = torch.stack(deltas).sum(0), 2.0, 4000
    for _ in range(steps):
        slope = sum((w - delta) @ unit.T @ unit for delta, unit in zip(deltas, units, strict=True))
        w = w - time / steps * slope
    choose = closed_form.exponential(time, 1.0)
    flow = closed_form.closed_form(choose, normalised=True)(MemorySuite([{"w": x} for x in deltas]))
    assert close(merged(flow, deltas), w, 1e-3)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (4, 30)])
def test_directions_that_only_rounding_fills_do_not_become_weighty(name: str, shape: tuple[int, int]) -> None:
    deltas = low_rank(shape, 3, 2)
    found = merged(METHODS[name], deltas)
    assert close(found, solved(deltas, filter_of(name, shape), normalised=name != "regmean"), 1e-5)
    # All of it lies in the span of the six directions that there are.
    tail = torch.linalg.svdvals(found.double())[6:]
    assert tail.norm() <= 1e-5 * found.double().norm()


def test_experts_of_the_same_strength_along_one_input_each_all_take_part() -> None:
    axes = oracles.orthonormal(6, 4, 0).T
    deltas = [10**task * torch.outer(oracles.matrix(5, 1, task)[:, 0], axis).float() for task, axis in enumerate(axes)]
    # (1 + 1 + 1 + 1)² / 4 may come out a little above 4, whose next whole number is 5.
    assert close(merged(closed_form.aswudi, deltas), torch.stack(deltas).sum(0), 1e-6)


def test_equal_eigenvalues_are_taken_all_or_none() -> None:
    # SWUDI goes along three of four directions; which of four equal ones these are would be chance.
    axes = oracles.orthonormal(4, 4, 0)
    sides = oracles.matrix(5, 8, 1)
    deltas = [torch.outer(sides[:, task], axes[task % 4]) for task in range(8)]
    assert close(merged(closed_form.swudi, deltas), torch.stack(deltas).sum(0) / 2)


@pytest.mark.parametrize("name", METHODS)
@given(order=st.permutations(range(4)), shape=shapes, seed=seeds)
@settings(max_examples=15)
def test_the_order_of_tasks_changes_nothing(name: str, order: list[int], shape: tuple[int, int], seed: int) -> None:
    deltas = drawn(shape, 3, seed)
    assert close(merged(METHODS[name], [deltas[task] for task in order]), merged(METHODS[name], deltas), 1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(9, 6), (2, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_closed_forms_scale_with_the_changes(name: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    deltas = [delta.to(dtype) for delta in drawn(shape, 3, 0)]
    expected = merged(METHODS[name], deltas)
    for scale in (1e-30, 1e30) if dtype == torch.float32 else (1e-200, 1e200):
        found = merged(METHODS[name], [scale * delta for delta in deltas])
        assert found.dtype == dtype
        assert close(found / scale, expected, 1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_experts_that_changed_nothing_take_no_part(name: str) -> None:
    deltas = drawn((5, 6), 3, 0)
    assert close(merged(METHODS[name], deltas), merged(METHODS[name], deltas[:-1]), 1e-7)
    assert not merged(METHODS[name], [torch.zeros(5, 6)] * 3).any()
    bias = [torch.tensor([2.0, 4.0]), torch.zeros(2)]
    assert merged(METHODS[name], bias).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 6)])
def test_leading_components_stand_for_their_matrices_from_a_store_or_not(
    tmp_path: Path, name: str, shape: tuple[int, int]
) -> None:
    deltas = [oracles.matrix(*shape, task).float() for task in range(3)]
    kept = [torch.linalg.svd(delta.double(), full_matrices=False) for delta in deltas]
    k = min(shape) // 3
    cut = [(u[:, :k] * s[:k]) @ vh[:k] for u, s, vh in kept]
    found = bound(name, deltas, 1 / 3)
    assert close(found, merged(METHODS[name], cut), 1e-5)
    store = Spectra(tmp_path, whole=True)
    for _ in range(2):
        assert close(bound(name, deltas, 1 / 3, Computing(spectra=store)), found, 1e-5)
    assert len(store.list()) == 3
    assert close(bound(name, deltas, 1.0, Computing(spectra=store)), merged(METHODS[name], deltas), 1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_all_components_in_their_span_are_the_matrices(name: str) -> None:
    # Of rank two, three experts span six of twenty inputs.
    deltas = low_rank((8, 20), 3, 2)
    assert close(bound(name, deltas, 0.99), merged(METHODS[name], deltas), 1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: closed_form.exponential(time=0.0), "0.0 is no time to go down a gradient"),
        (lambda: closed_form.exponential(time=math.nan), "nan is no time"),
        (lambda: closed_form.exponential(share=0.0), "0.0 is no fraction"),
        (lambda: closed_form.exponential(share=1.5), "1.5 is no fraction"),
        (lambda: closed_form.closed_form(closed_form.arrived, normalised=True, fraction=-1.0), "-1.0 is no fraction"),
    ],
)
def test_unfit_settings_are_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_layers_are_merged_without_a_look_at_others() -> None:
    suite = MemorySuite([{"w": torch.ones(2, 2), "v": torch.ones(2, 2)}] * 2)
    layer = Layer(suite, "w", 0, 1)
    torch.testing.assert_close(closed_form.aswudi(layer), torch.ones(2, 2))
