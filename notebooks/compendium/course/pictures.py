# SPDX-License-Identifier: MIT
"""What the assignments draw: arrows in the plane, and maps of numbers between tasks."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Those of the arrows, task after task, which colour-blind readers can tell apart."""


def arrows(axis: Axes, named: Mapping[str, Float[Tensor, "2"]], *, faint: bool = False) -> None:
    """Draw arrows from the origin, one for each task, with their names; faint ones are to compare with."""
    for (name, tip), colour in zip(named.items(), COLOURS, strict=False):
        x, y = tip.tolist()
        look = {"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0}
        look |= {"linestyle": "--", "alpha": 0.5} if faint else {}
        axis.annotate("", (x, y), (0, 0), arrowprops=look)
        # Those of faint arrows stand beside the middle, where no tip can hide them.
        place = (0.6 * x - 0.18 * y, 0.6 * y + 0.18 * x) if faint else (1.12 * x, 1.12 * y)
        axis.text(*place, name, ha="center", va="center", color=colour, alpha=look.get("alpha"))
    _frame(axis, list(named.values()))


def _frame(axis: Axes, tips: Sequence[Float[Tensor, "2"]]) -> None:
    """Let axes hold arrows and what was drawn before, in one scale and without anything else."""
    limits = {}
    for name, values in zip("xy", torch.stack(list(tips)).mT, strict=True):
        low, high = axis.get_xlim() if name == "x" else axis.get_ylim()
        limits[f"{name}lim"] = (min(low, 1.25 * float(values.min()) - 0.2), max(high, 1.25 * float(values.max()) + 0.2))
    axis.set(**limits, aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)


def task_map(axis: Axes, values: Sequence[Sequence[float]], tasks: Sequence[str], title: str) -> None:
    """Show a number for each pair of tasks as a map with the names of the tasks at its sides, and the numbers in it."""
    axis.imshow(list(values), vmin=0, vmax=1)
    for row, numbers in enumerate(values):
        for column, number in enumerate(numbers):
            colour = "black" if number > 0.6 else "white"
            axis.text(column, row, f"{number:.2f}", ha="center", va="center", fontsize=5, color=colour)
    axis.set(xticks=range(len(tasks)), yticks=range(len(tasks)), title=title)
    axis.set_xticklabels(tasks, rotation=90)
    axis.set_yticklabels(tasks)
    axis.grid(visible=False)


def similarity_map(axis: Axes, products: Float[Tensor, "vectors vectors"], tasks: Sequence[str], title: str) -> None:
    """Show inner products of vectors, equally many of each task, with lines between tasks; colours end at one half."""
    k = len(products) / len(tasks)
    axis.imshow(products.numpy(), cmap="PuOr", vmin=-0.5, vmax=0.5, interpolation="nearest")
    for border in range(1, len(tasks)):
        axis.axhline(border * k - 0.5, color="black", linewidth=0.4)
        axis.axvline(border * k - 0.5, color="black", linewidth=0.4)
    middles = [(number + 0.5) * k - 0.5 for number in range(len(tasks))]
    axis.set_xticks(middles, tasks, rotation=90)
    axis.set_yticks(middles, tasks)
    axis.tick_params(length=0)
    axis.set_title(title)
    axis.grid(visible=False)
