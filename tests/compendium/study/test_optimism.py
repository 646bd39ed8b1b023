# SPDX-License-Identifier: MIT
"""An expert that does better on test than on validation inputs is told, and why that may be."""

from collections.abc import Sequence

import pytest
import torch

from compendium.study import optimism
from compendium.study.evaluation import Hits
from compendium.study.runs import Run
from compendium.worlds.protocol import SplitName


class Known(Run):
    """A run of which it is known how many of twenty inputs the first expert has right; of the second, half of all."""

    backbone = "b32"
    seed = 1

    def __init__(self, test: int, validation: int) -> None:
        self.__dict__["right"] = {"test": test, "validation": validation}

    def individual(self, split: SplitName, tasks: Sequence[str], most: int | None = None) -> dict[str, Hits]:
        assert most is None
        right = {"first": self.__dict__["right"][split], "second": 10}
        return {task: torch.arange(20) < right[task] for task in tasks}


@pytest.mark.parametrize(("test", "validation"), [(10, 10), (11, 10), (10, 20)])
def test_up_to_five_points_are_not_told(test: int, validation: int) -> None:
    rows = optimism.ahead_on_test(Known(test, validation), ["first", "second"])
    assert optimism.told(rows) == "No expert is more than 5 points better on test than on validation inputs."


def test_more_are_told_with_both_reasons() -> None:
    rows = optimism.ahead_on_test(Known(19, 16), ["first", "second"])
    assert rows == [
        {"backbone": "b32", "seed": 1, "task": "first", "test": 95.0, "validation": 80.0, "points": pytest.approx(15.0)}
    ]
    said = optimism.told(rows)
    assert "inputs are first of b32 (seed 1): 15.0. " in said
    assert "different sources" in said
    assert "DTD" in said
