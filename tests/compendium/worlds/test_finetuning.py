# SPDX-License-Identifier: MIT
"""The learning rate rises to its full size and falls; what training does is tested with the worlds that train."""

from hypothesis import given
from hypothesis import strategies as st

from compendium.worlds import finetuning


@given(st.integers(0, 50), st.integers(1, 200))
def test_schedule_rises_to_one_and_falls_without_ever_reaching_zero(warmup: int, rest: int) -> None:
    rates = [finetuning.schedule(step, warmup + rest, warmup) for step in range(warmup + rest)]
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert rates[warmup] == max(rates) == 1
    assert min(rates) > 0
