# SPDX-License-Identifier: MIT
"""Maps of what tasks share, before and after orthogonalisation, and how accurate a model is: what the tour shows."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from compendium.paper.plotting import METHOD_STYLE
from tsvlib import sti
from tsvlib.linalg import Factors

SHOWN = 8
"""Leading components of each task that maps show: of more, eyes see no single one."""

BRIGHT = 0.5
"""Inner product from which on colours are as bright as they get, as in the paper's Figure 3."""

MULTIPLE = 4
"""Entry of the matrix of Equation 6 at which its colours are as bright as they get, over the mean entry."""


def before_and_after(before: Sequence[Factors], after: Sequence[Factors]) -> Figure:
    """Return maps of UᵀU, VᵀV and the matrix of Equation 6, for all tasks, before and after something was done."""
    fig, axes = plt.subplots(2, 3, figsize=(6.75, 4.6))
    borders = _borders(before)
    scale = MULTIPLE * float(_leading(interference_matrix(before), before).abs().mean())
    for row, (when, factors) in zip(axes, {"before": before, "after": after}.items(), strict=True):
        maps = {r"$U^\top U$": (u_overlaps(factors), BRIGHT), r"$V^\top V$": (v_overlaps(factors), BRIGHT)}
        maps |= {r"$(U^\top U - I)\,\Sigma\,(V^\top V - I)$": (interference_matrix(factors), scale)}
        for axis, (title, (values, most)) in zip(row, maps.items(), strict=True):
            _map(axis, _leading(values, factors), borders, most)
            axis.set_title(f"{title}, {when}")
    return fig


def look(
    before: Sequence[Factors], after: Sequence[Factors], most: int, accuracies: Mapping[str, Mapping[str, float]]
) -> tuple[Figure, str]:
    """Return maps of what tasks share beside accuracies by method and task, and a sentence that tells the numbers.

    Above the diagonal maps show UᵀU, below it VᵀV. ``most`` is how many components a task has, accuracies lie in
    [0, 1], and the last of the methods is the merged one.
    """
    fig, axes = plt.subplots(1, 3, figsize=(6.75, 2.6), width_ratios=[1, 1, 1.1])
    for axis, (when, factors) in zip(axes, {"before": before, "after": after}.items(), strict=False):
        both = u_overlaps(factors).triu() + v_overlaps(factors).tril(-1)
        _map(axis, _leading(both, factors), _borders(factors), BRIGHT)
        axis.set(title=when, xlabel=r"$U^\top U$ above, $V^\top V$ below")
    _tasks(axes[2], accuracies)
    *_, merged = accuracies.values()
    there, left = sti.singular_task_interference(before).entrywise, sti.remaining_interference(after).entrywise
    counts = [len(one.s) for one in before]
    kept = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    return fig, (
        f"{kept} of {most} components of each task: interference {there:.4g} before and {left:.4g} after; "
        f"mean accuracy {100 * sum(merged.values()) / len(merged):.1f} %"
    )


def u_overlaps(factors: Sequence[Factors]) -> Float[Tensor, "components components"]:
    """Return UᵀU, the inner products of the left singular vectors of all tasks."""
    u = torch.cat([one.u for one in factors], dim=1)
    return u.mT @ u


def v_overlaps(factors: Sequence[Factors]) -> Float[Tensor, "components components"]:
    """Return VᵀV, the inner products of the right singular vectors of all tasks."""
    vh = torch.cat([one.vh for one in factors])
    return vh @ vh.mT


def interference_matrix(factors: Sequence[Factors]) -> Float[Tensor, "components components"]:
    """Return (UᵀU - I) Σ (VᵀV - I), whose absolute entries Equation 6 adds up."""
    s = torch.cat([one.s for one in factors])
    identity = torch.eye(len(s), dtype=s.dtype)
    return (u_overlaps(factors) - identity) * s @ (v_overlaps(factors) - identity)


def _leading(values: Float[Tensor, "components components"], factors: Sequence[Factors]) -> Float[Tensor, "few few"]:
    """Return what a map of all components holds of the leading ones of each task."""
    chosen = torch.cat([torch.arange(len(one.s)) < SHOWN for one in factors])
    return values[chosen][:, chosen]


def _borders(factors: Sequence[Factors]) -> list[int]:
    """Return where in a map of the leading components one task ends and the next one begins."""
    counts = [min(len(one.s), SHOWN) for one in factors]
    return list(itertools.accumulate(counts[:-1]))


def _map(axis: Axes, values: Float[Tensor, "few few"], borders: Sequence[int], most: float) -> None:
    """Show a map of numbers in colours that end at ``most`` for both signs, and lines that part the tasks."""
    axis.imshow(values.numpy(), cmap="PuOr", vmin=-most, vmax=most, interpolation="nearest")
    for border in borders:
        axis.axhline(border - 0.5, color="black", linewidth=0.3)
        axis.axvline(border - 0.5, color="black", linewidth=0.3)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)


def _tasks(axis: Axes, accuracies: Mapping[str, Mapping[str, float]]) -> None:
    """Draw a line for each task, and on it a mark for each model."""
    for method, found in accuracies.items():
        style = METHOD_STYLE[method]
        percent = [100 * value for value in found.values()]
        axis.plot(percent, range(len(found)), style.marker, color=style.colour, label=style.title)
    tasks = next(iter(accuracies.values()))
    axis.set_yticks(range(len(tasks)), list(tasks))
    axis.set(xlim=(0, 102), xlabel="accuracy (%)")
    axis.invert_yaxis()
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, handletextpad=0, columnspacing=0.8)
