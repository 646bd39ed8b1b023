# SPDX-License-Identifier: MIT
"""The table of measurements as a figure."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")  # files only; no display is needed

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from bench.table import Row
from compendium.paper.plotting import METHOD_STYLE, use_style
from tsvlib.files import replacing

ALT = "Bars: seconds of merging and of the paper's linear algebra, ours and literal; memory; bytes of TSV-C files."
LITERAL = METHOD_STYLE["zero_shot"]
# Dashes would be taken for lines of the grid.
OURS = METHOD_STYLE["tsv_c"]._replace(hatch="//")
WIDTH = 0.38
Values = dict[tuple[str, str], float]


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Write ``bench.svg`` and ``bench.png`` to a folder; the same rows give the same bytes."""
    with plt.rc_context():
        use_style()
        figure, panels = plt.subplots(2, 2, figsize=(6.75, 4.6))
        for (step, panel), axes in zip(_PANELS.items(), panels.flat, strict=True):
            values = {(row.case, row.quantity): row.value for row in rows if row.step == step}
            if values:
                panel(axes, values)
            else:
                axes.set_title(f"`{step}` was not run")
                axes.set_axis_off()
        for suffix, description in (("svg", {"Description": ALT, "Date": None}), ("png", {"Description": ALT})):
            with replacing(folder / f"bench.{suffix}") as temporary:
                figure.savefig(temporary, format=suffix, metadata=description)
        plt.close(figure)


def _merge(axes: Axes, values: Values) -> None:
    seconds = {name: values[name, "time"] for name in ("literal", "ours")}
    unchanged = values["literal", "time of unchanged matrices"]
    for style, (name, value) in zip((LITERAL, OURS), seconds.items(), strict=True):
        error, peak = values[name, "error of the update"], values[name, "peak memory"]
        bars = axes.bar([name], [value], color=style.colour, hatch=style.hatch, edgecolor="white", linewidth=0)
        axes.bar_label(bars, [f"{value:.3g} s, {peak:.2g} GB\nerror {error:.1e}"], padding=2, fontsize=7)
    place = seconds["literal"] - unchanged
    axes.hlines(place, -0.4, 0.4, colors="black", linewidth=0.8)
    axes.annotate("above: matrices that\nno expert changed", (0.42, place), va="center", fontsize=7)
    axes.set_ylim(0, 1.3 * max(seconds.values()))
    axes.set_title("TSV-M of files, disk to disk")
    axes.set_ylabel("wall time (s)")


def _paper(axes: Axes, values: Values) -> None:
    operations = list(dict.fromkeys(case for case, quantity in values if quantity == "speed-up"))
    both = [[values[name, quantity] for name in operations] for quantity in ("literal, extrapolated", "ours")]
    names = [name.replace(" ", "\n", 1) for name in operations]
    _pairs(axes, names, both, ("literal, extrapolated", "ours"))
    for position, name in enumerate(operations):
        label = f"{values[name, 'speed-up']:.0f}x"
        axes.annotate(label, (position, 1.2 * values[name, "literal, extrapolated"]), ha="center", fontsize=7)
    axes.set_yscale("log")
    # Room for the legend.
    axes.margins(y=0.4)
    axes.set_title("The paper's linear algebra of one backbone")
    axes.set_ylabel("wall time (s)")


def _memory(axes: Axes, values: Values) -> None:
    shown = {
        "files of\nthe experts": values["experts", "size of files"],
        "peak beyond\nimport torch": values["ours", "peak beyond import torch"],
        "import torch": values["import torch", "peak memory"],
    }
    for style, (name, value) in zip((LITERAL, OURS, LITERAL), shown.items(), strict=True):
        bars = axes.bar([name], [value], color=style.colour, hatch=style.hatch, edgecolor="white", linewidth=0)
        axes.bar_label(bars, fmt="%.2g", fontsize=7)
    axes.set_title("Memory of merging large experts")
    axes.set_ylabel("GB")


def _storage(axes: Axes, values: Values) -> None:
    cases = list(dict.fromkeys(case for case, _ in values))
    both = [[values[case, quantity] for case in cases] for quantity in ("formula", "measured")]
    _pairs(axes, [case.replace("ViT-", "").replace(", ", "\n") for case in cases], both, ("formula", "measured"))
    axes.set_title("TSV-C files")
    axes.set_ylabel("% of the task vector")


def _pairs(axes: Axes, names: Sequence[str], both: Sequence[Sequence[float]], labels: tuple[str, str]) -> None:
    for style, heights, label, shift in zip((LITERAL, OURS), both, labels, (-WIDTH / 2, WIDTH / 2), strict=True):
        places = [position + shift for position in range(len(names))]
        bars = axes.bar(places, heights, WIDTH, label=label, color=style.colour, edgecolor="white", linewidth=0)
        for bar in bars:
            bar.set_hatch(style.hatch)
    axes.set_xticks(range(len(names)), names)
    axes.legend()


_PANELS: dict[str, Callable[[Axes, Values], None]] = {
    "merge": _merge,
    "paper": _paper,
    "memory": _memory,
    "storage": _storage,
}
