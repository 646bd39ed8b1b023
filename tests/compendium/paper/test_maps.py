# SPDX-License-Identifier: MIT
"""Maps show what the library measures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from oracles import equation_6

from compendium.paper import maps
from tsvlib import linalg, sti
from tsvlib.linalg import Factors
from tsvlib.methods import tsv

ACCURACIES = {
    "zero_shot": {"a": 0.1, "b": 0.2, "c": 0.3},
    "individual": {"a": 0.8, "b": 0.9, "c": 1.0},
    "tsv_m": {"a": 0.5, "b": 0.6, "c": 0.7},
}


@pytest.fixture
def before() -> list[Factors]:
    random = torch.Generator().manual_seed(0)
    deltas = [torch.randn(40, 30, generator=random, dtype=torch.float64) for _ in range(3)]
    return [linalg.truncate(linalg.svd(delta), k) for delta, k in zip(deltas, (10, 2, 8), strict=True)]


def images(fig: plt.Figure) -> list[np.ndarray]:
    return [np.asarray(axis.images[0].get_array()) for axis in fig.axes if axis.images]


def test_the_interference_matrix_is_that_of_equation_6(before: list[Factors]) -> None:
    found = maps.interference_matrix(before)
    assert torch.allclose(found, equation_6(before))
    assert float(found.abs().sum()) == pytest.approx(sti.remaining_interference(before).entrywise)


def test_maps_hold_the_leading_components_of_each_task_and_lines_part_them(before: list[Factors]) -> None:
    after = tsv.orthogonalised(before)
    fig = maps.before_and_after(before, after)
    first, second, third, *later = images(fig)
    chosen = [*range(8), 10, 11, *range(12, 20)]
    u, vh = torch.cat([one.u for one in before], dim=1), torch.cat([one.vh for one in before])
    assert np.allclose(first, (u.T @ u)[chosen][:, chosen])
    assert np.allclose(second, (vh @ vh.T)[chosen][:, chosen])
    assert np.allclose(third, equation_6(before)[chosen][:, chosen])
    assert np.allclose(later[0], np.eye(18), atol=1e-9)
    assert np.allclose(later[2], 0, atol=1e-9)
    horizontal = [float(np.asarray(line.get_ydata())[0]) for line in fig.axes[0].lines[::2]]
    assert horizontal == [7.5, 9.5]
    # What is left is shown in the colours of what there was.
    assert fig.axes[2].images[0].get_clim() == fig.axes[5].images[0].get_clim()
    plt.close(fig)


def test_a_look_shows_both_sides_in_one_map_and_tells_the_numbers(before: list[Factors]) -> None:
    after = tsv.orthogonalised(before)
    fig, sentence = maps.look(before, after, 30, ACCURACIES)
    both = images(fig)[0]
    u, vh = torch.cat([one.u for one in before], dim=1), torch.cat([one.vh for one in before])
    assert both[0, 9] == pytest.approx(float(u[:, 0] @ u[:, 11]))
    assert both[9, 0] == pytest.approx(float(vh[11] @ vh[0]))
    left = sti.singular_task_interference(before).entrywise
    assert sentence.startswith(f"2 to 10 of 30 components of each task: interference {left:.4g} before and ")
    assert sentence.endswith("mean accuracy 60.0 %")
    marks = {line.get_label(): list(line.get_xdata()) for line in fig.axes[2].lines}
    assert marks["TSV-M"] == pytest.approx([50, 60, 70])
    assert [label.get_text() for label in fig.axes[2].get_yticklabels()] == ["a", "b", "c"]
    plt.close(fig)


def test_as_many_components_of_each_task_are_one_number(before: list[Factors]) -> None:
    same = [linalg.truncate(one, 2) for one in before]
    fig, sentence = maps.look(same, tsv.orthogonalised(same), 30, ACCURACIES)
    assert sentence.startswith("2 of 30 components")
    plt.close(fig)
