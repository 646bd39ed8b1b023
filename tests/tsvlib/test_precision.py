# SPDX-License-Identifier: MIT
"""Numbers of any size and type keep what they are worth, and what they lose on the way is told."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tsvlib import precision
from tsvlib.errors import InputError
from tsvlib.taskvectors import TaskVector, task_vector

seeds = st.integers(0, 2**32 - 1)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@given(st.integers(-149, 100), st.sampled_from([torch.float32, torch.float64]), seeds)
def test_scaling_is_exact_and_leaves_room_for_squares(power: int, dtype: torch.dtype, seed: int) -> None:
    x = torch.ldexp(random(5, 4, seed=seed, dtype=torch.float64), torch.tensor(power)).to(dtype)
    found, exponent = precision.scaled(x)
    norm = float(found.double().norm())
    assert torch.equal(precision.unscaled(found, exponent), x)
    assert not x.any() or precision.SQUARED[0] < norm < precision.SQUARED[1]


def test_each_matrix_of_a_stack_has_a_scale_of_its_own() -> None:
    x = random(3, 4, 2) * torch.tensor([1e-30, 1.0, 1e30])[:, None, None]
    found, exponent = precision.scaled(x)
    assert exponent is not None
    assert ((found.abs().amax((-2, -1)) >= 0.5) & (found.abs().amax((-2, -1)) <= 1)).all()
    assert torch.equal(precision.unscaled(found, exponent), x)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 2)])
def test_nothing_and_zeros_have_no_scale_to_find(shape: tuple[int, ...]) -> None:
    found, exponent = precision.scaled(torch.zeros(shape))
    assert torch.equal(precision.unscaled(found, exponent), torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_scale(value: float) -> None:
    with pytest.raises(InputError, match="NaN or Inf"):
        precision.scaled(torch.tensor([[1.0, value]]))
    assert not precision.is_finite(torch.tensor([1.0, value]))
    assert precision.is_finite(torch.tensor([]))


@pytest.mark.parametrize("update", FLOATS)
@pytest.mark.parametrize("start", FLOATS)
def test_a_sum_is_rounded_once(start: torch.dtype, update: torch.dtype) -> None:
    base, change = random(50, dtype=start), random(50, seed=1, dtype=update)
    value, _ = precision.added("w", base, change, 0.3)
    assert value.dtype == start
    exact = base.double() + 0.3 * change.double()
    # Half a unit of the last digit, and what float32 may lose before that.
    room = torch.finfo(start).eps / 2 + (2e-7 if start != torch.float64 and update != torch.float64 else 1e-15)
    assert ((value.double() - exact).abs() <= room * (exact.abs() + change.double().abs())).all()


def test_what_no_update_touches_stays_bit_for_bit() -> None:
    for start in (torch.tensor([20_000_001, 2**40 + 1]), torch.tensor([-math.inf, 0.0]), torch.tensor([True])):
        value, rounding = precision.added("w", start, torch.zeros(start.shape), 1.0)
        assert torch.equal(value, start)
        assert value.data_ptr() != start.data_ptr()
        assert rounding.wanted == rounding.missed == 0


@pytest.mark.parametrize(
    ("dtype", "start", "reached"), [(torch.float16, 65000.0, "7e[+]04"), (torch.float32, 3e38, "3.5e[+]38")]
)
def test_what_its_type_cannot_hold_is_refused_with_key_and_value(
    dtype: torch.dtype, start: float, reached: str
) -> None:
    base, change = torch.full((3,), start, dtype=dtype), torch.full((3,), start / 13 if start < 1e5 else 5e37)
    with pytest.raises(InputError, match=rf"`scale` would reach {reached}, and \w+ ends at .*; choose a smaller alpha"):
        TaskVector(scale=change).apply({"scale": base})
    wide = torch.float32 if dtype == torch.float16 else torch.float64
    assert precision.is_finite(precision.added("scale", base, change, 1.0, wide)[0])


def test_a_base_that_a_narrower_type_cannot_hold_is_refused_even_unchanged() -> None:
    with pytest.raises(InputError, match=r"`w` would reach 1e[+]05, and float16 ends at 6\.55e[+]04"):
        precision.added("w", torch.tensor([1e5]), torch.zeros(1), 1.0, torch.float16)


@given(st.floats(-8, 0), seeds)
def test_the_loss_is_the_distance_to_the_exact_update(power: float, seed: int) -> None:
    base, change = random(400, seed=seed).bfloat16(), random(400, seed=seed + 1) * 10**power
    value, rounding = precision.added("w", base, change, 2.0)
    exact = 2.0 * change.double()
    missed = (value.double() - base.double() - exact).norm()
    assert rounding.missed**0.5 == pytest.approx(float(missed), rel=1e-3)
    assert rounding.wanted**0.5 == pytest.approx(float(exact.norm()), rel=1e-5)
    told = precision.lost([rounding])
    assert bool(told) == bool(missed > precision.NOTABLE * exact.norm())


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_loss_is_measured_at_any_scale(scale: float) -> None:
    base, change = torch.zeros(300), random(300) * scale
    _, rounding = precision.added("w", base, change, 1.0, torch.bfloat16)
    assert rounding.wanted**0.5 == pytest.approx(float(change.double().norm()), rel=1e-5)
    assert 0 < rounding.missed < 1e-4 * rounding.wanted


def test_an_update_far_below_the_last_digit_is_told_lost() -> None:
    base = {"w": torch.ones(100, dtype=torch.bfloat16)}
    with pytest.warns(UserWarning, match="rounding to bfloat16 lost 100 % of the update; apply it to a base"):
        applied = TaskVector(w=torch.full((100,), 1e-5)).apply(base)
    assert torch.equal(applied["w"], base["w"])
    TaskVector(w=torch.full((100,), 1e-5)).apply({"w": base["w"].float()})


@pytest.mark.parametrize("base", FLOATS)
@pytest.mark.parametrize("expert", FLOATS)
def test_differences_are_taken_in_the_wider_type(base: torch.dtype, expert: torch.dtype) -> None:
    start, end = random(30, dtype=base), random(30, seed=1, dtype=expert)
    found = task_vector({"w": start}, {"w": end})["w"]
    wide = torch.float64 if torch.float64 in (base, expert) else torch.float32
    assert found.dtype == wide
    assert torch.equal(found, end.to(wide) - start.to(wide))


def test_a_difference_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="`w` of the expert differs from the base by more than float32 can hold"):
        task_vector({"w": torch.full((2,), -3e38)}, {"w": torch.full((2,), 3e38)})
