# SPDX-License-Identifier: MIT
"""WUDI-Merging takes its authors' steps, whose gradient is made from one product for all tasks."""

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
from tsvlib.errors import InputError
from tsvlib.methods import closed_form, wudi
from tsvlib.methods.base import Merge
from tsvlib.suites import MemorySuite

Array = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(9, 5), (6, 6), (5, 9), (2, 15)])


def suite_of(deltas: Sequence[Tensor]) -> MemorySuite:
    return MemorySuite([{"w": delta} for delta in deltas])


def merged(deltas: Sequence[Tensor], function: Merge = wudi.wudi) -> Tensor:
    return merging.update(function, suite_of(deltas), "w")


def drawn(shape: tuple[int, int], n_tasks: int, seed: int) -> list[Tensor]:
    """Return task matrices as small as real ones, the last of which is zero."""
    return [*(1e-3 * oracles.matrix(*shape, seed + task).float() for task in range(n_tasks)), torch.zeros(shape)]


def loss(w: Array, every: Sequence[Array]) -> float:
    return float(sum(np.sum(((w - delta) @ delta.T) ** 2) / np.sum(delta**2) for delta in every))


def cheng(deltas: Sequence[Tensor], steps: int, rate: float) -> Array:
    """Transcribe WUDI: Adam, as its paper and PyTorch define it, on the gradient of ``loss`` task by task."""
    every = [delta.double().numpy() for delta in deltas if delta.any()]
    w: Array = np.sum(every, axis=0)
    first, second = np.zeros_like(w), np.zeros_like(w)
    for step in range(1, steps + 1):
        slope = np.zeros_like(w)
        for delta in every:
            slope += 2 * ((w - delta) @ delta.T) @ delta / np.sum(delta**2)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        w = w - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return w


def distance(found: Tensor, expected: Array | Tensor) -> float:
    wanted = np.asarray(expected, dtype=np.float64)
    return float(np.linalg.norm(found.double().numpy() - wanted) / np.linalg.norm(wanted))


@given(shape=shapes, n_tasks=st.integers(2, 4), seed=seeds)
@settings(max_examples=8)
def test_wudi_takes_its_papers_steps(shape: tuple[int, int], n_tasks: int, seed: int) -> None:
    deltas = drawn(shape, n_tasks, seed)
    assert distance(merged(deltas), cheng(deltas, 300, 1e-5)) <= 1e-5


def test_the_gradient_of_the_transcription_is_that_of_the_loss() -> None:
    # One step down the sign of the gradient, where finite differences say which it is.
    deltas = [oracles.matrix(3, 4, task) for task in range(2)]
    every = [delta.numpy() for delta in deltas]
    start, tiny = np.sum(every, axis=0), 1e-6
    slope = np.zeros_like(start)
    for place in np.ndindex(*start.shape):
        there = np.zeros_like(start)
        there[place] = tiny
        slope[place] = (loss(start + there, every) - loss(start - there, every)) / (2 * tiny)
    found = merged(deltas, wudi.descended(1, 0.01)(suite_of(deltas)))
    np.testing.assert_allclose(found.numpy(), start - 0.01 * np.sign(slope), atol=1e-8)


def test_wudi_by_hand() -> None:
    deltas = [torch.tensor([[2.0]]), torch.tensor([[4.0]])]
    # The sum is 6 and the minimum 3: the first step of Adam is as long as its rate.
    for steps, expected in ((0, 6.0), (1, 5.9)):
        found = merged(deltas, wudi.descended(steps, 0.1)(suite_of(deltas)))
        torch.testing.assert_close(found, torch.tensor([[expected]]))
    found = merged(deltas, wudi.descended(2000, 0.05)(suite_of(deltas)))
    torch.testing.assert_close(found, torch.tensor([[3.0]]), rtol=1e-3, atol=0)


def test_many_steps_end_where_the_closed_form_is() -> None:
    deltas = [oracles.matrix(6, 3, task) for task in range(3)]
    minimum = closed_form.closed_form(closed_form.arrived, normalised=True)(suite_of(deltas))
    found = merged(deltas, wudi.descended(3000, 0.01)(suite_of(deltas)))
    assert distance(found, merged(deltas, minimum)) <= 1e-3


@pytest.mark.parametrize("shape", [(6, 8), (8, 6)])
def test_at_the_minimum_steps_wander_by_no_more_than_their_rate(shape: tuple[int, int]) -> None:
    # Tasks that do not meet start where they should end, with nothing but rounding to go by.
    u, v = oracles.orthonormal(shape[0], 6, 0), oracles.orthonormal(shape[1], 6, 1)
    deltas = [1e-3 * u[:, task : task + 2] @ v[:, task : task + 2].T for task in (0, 2, 4)]
    total = torch.stack(deltas).sum(0)
    for every in (deltas, [delta.float() for delta in deltas]):
        assert (merged(every) - total).abs().max() <= 2 * wudi.RATE


def test_repetition_changes_no_bit_and_the_order_of_tasks_next_to_nothing() -> None:
    deltas = drawn((5, 7), 3, 0)
    found = merged(deltas)
    assert torch.equal(found, merged(deltas))
    assert distance(merged(deltas[::-1]), found) <= 1e-5


def test_rate_and_epsilon_are_absolute() -> None:
    deltas = [oracles.matrix(4, 5, task).float() for task in range(3)]
    # Beside huge changes, the steps are nothing.
    huge = [1e30 * delta for delta in deltas]
    assert distance(merged(huge), torch.stack(huge).sum(0)) <= 1e-6
    # Gradients far below epsilon are followed too far, as in the original, but never to the end of all numbers.
    assert (
        distance(merged([1e-9 * delta for delta in deltas]), cheng([1e-9 * delta for delta in deltas], 300, 1e-5))
        < 1e-3
    )
    assert merged([1e-30 * delta for delta in deltas]).isfinite().all()


def test_experts_that_changed_nothing_take_no_part() -> None:
    deltas = drawn((4, 5), 3, 0)
    assert torch.equal(merged(deltas), merged(deltas[:-1]))
    assert not merged([torch.zeros(4, 5)] * 2).any()
    assert merged([torch.tensor([2.0, 4.0]), torch.zeros(2)]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("steps", "rate"), [(-1, 1e-5), (3, 0.0), (3, -1.0), (3, float("inf")), (3, float("nan"))])
def test_unfit_settings_are_told(steps: int, rate: float) -> None:
    with pytest.raises(InputError, match=r"is no number of steps|is no rate of Adam"):
        wudi.descended(steps, rate)
