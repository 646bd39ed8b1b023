# SPDX-License-Identifier: MIT
"""The look of all figures, and the one way to save them."""

import itertools
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from compendium import paths, profiles
from compendium.paper.results import write_text
from compendium.paper.tables import TITLES
from compendium.profiles import Profile
from tsvlib.files import replacing

if TYPE_CHECKING:  # figures are drawn without torch, whose import takes seconds
    from jaxtyping import UInt8
    from torch import Tensor

FORMATS = ("pdf", "svg", "png")
WIDTH = 130
"""Letters of the smallest print in the width of a page."""


class Style(NamedTuple):
    """Two cues at least for every series, so that a figure survives greyscale."""

    title: str
    colour: str
    marker: str
    hatch: str


# Okabe and Ito's palette and then Tol's, which colour-blind readers can tell apart; one colour per method everywhere.
# Methods beyond the paper's are too many for that, so letters tell these apart, and colours their families.
_LOOKS = {
    "zero_shot": ("#999999", "x", ""),
    "individual": ("#000000", "D", "xx"),
    "weight_averaging": ("#56B4E9", "v", "//"),
    "task_arithmetic": ("#E69F00", "s", "\\\\"),
    "tsv_m": ("#D55E00", "o", ".."),
    "tsv_m_eigen": ("#F0E442", "P", "oo"),
    "low_rank": ("#009E73", "<", "++"),
    "interference_reduction": ("#CC79A7", ">", "**"),
    "adamerging": ("#AA4499", "8", ".."),
    "tsv_m_adapted": ("#661100", "X", "**"),
    "tsv_c": ("#0072B2", "^", "--"),
    "consensus_ta": ("#44AA99", "p", "oo"),
    "ties": ("#999933", "h", "//"),
    "iso_c": ("#882255", "*", "xx"),
    "tall_mask_ties": ("#332288", "d", "++"),
    "tall_mask_ta": ("#6699CC", "H", ""),
    "emr": ("#CC6677", "$\\mathrm{EM}$", ""),
    "fisher": ("#31a354", "$\\mathrm{Fi}$", ""),
    "regmean": ("#117733", "$\\mathrm{RM}$", ""),
    "adamerging_task": ("#843c39", "$\\mathrm{At}$", ""),
    "tsv_m_alpha_1": ("#e6550d", "$\\mathrm{T1}$", ""),
    "tsv_m_split": ("#fd8d3c", "$\\mathrm{Tq}$", ""),
    "tsv_m_exchanged": ("#ad494a", "$\\mathrm{Tx}$", ""),
    "tsv_m_gavish_donoho": ("#d6616b", "$\\mathrm{TG}$", ""),
    "tsv_m_marchenko_pastur": ("#e7969c", "$\\mathrm{TM}$", ""),
    "tsv_m_energy": ("#fdae6b", "$\\mathrm{TE}$", ""),
    "dc_merge_alpha_1": ("#756bb1", "$\\mathrm{D1}$", ""),
    "dc_merge": ("#5254a3", "$\\mathrm{DC}$", ""),
    "iso_c_alpha_1": ("#ce6dbd", "$\\mathrm{I1}$", ""),
    "iso_cts_alpha_1": ("#a55194", "$\\mathrm{S1}$", ""),
    "iso_cts": ("#7b4173", "$\\mathrm{IS}$", ""),
    "regmean_from_differences": ("#637939", "$\\mathrm{Rd}$", ""),
    "swudi": ("#8ca252", "$\\mathrm{SW}$", ""),
    "aswudi": ("#b5cf6b", "$\\mathrm{AW}$", ""),
    "wudi": ("#74c476", "$\\mathrm{WU}$", ""),
    "star": ("#8c6d31", "$\\mathrm{ST}$", ""),
    "cart": ("#bd9e39", "$\\mathrm{CA}$", ""),
    "dare": ("#e7ba52", "$\\mathrm{DA}$", ""),
    "breadcrumbs": ("#DDCC77", "$\\mathrm{MB}$", ""),
    "knots_ties": ("#636363", "$\\mathrm{KT}$", ""),
    "esm": ("#a1d99b", "$\\mathrm{ES}$", ""),
    "task_arithmetic+svc": ("#3182bd", "$\\mathrm{tS}$", ""),
    "tsv_m+svc_shrinking": ("#6baed6", "$\\mathrm{TS}$", ""),
    "task_arithmetic+boosting": ("#9ecae1", "$\\mathrm{tB}$", ""),
    "tsv_m_alpha_1+boosting": ("#393b79", "$\\mathrm{TB}$", ""),
    "task_arithmetic+lines": ("#6b6ecf", "$\\mathrm{tL}$", ""),
}
METHOD_STYLE = {name: Style(TITLES[name], *look) for name, look in _LOOKS.items()}
BACKBONE_LOOKS = (
    ("#009E73", "o", ""),
    ("#CC79A7", "s", "//"),
    ("#0072B2", "^", ".."),
    ("#E69F00", "v", "xx"),
    ("#56B4E9", "D", "oo"),
)
"""Those of the backbones of a profile, in their order and then again."""


def use_style() -> None:
    """Make this process draw in the project's style."""
    plt.style.use(Path(__file__).with_name("tsv.mplstyle"))


def backbone_style(profile: Profile, backbone: str) -> Style:
    """Return the style of a backbone by its place in the profile."""
    looks = zip(profiles.whole(profile).backbones, itertools.cycle(BACKBONE_LOOKS), strict=False)
    return next(Style(each.label, *look) for each, look in looks if each.name == backbone)


def bars(axis: Axes, seeds: pd.DataFrame, style: Style) -> pd.Series:
    """Draw a bar as high as the mean of every row, under its name, and return these means.

    Columns are seeds; where there are several, whiskers span the lowest and the highest of them.
    """
    mean, low, high = seeds.mean(axis=1), seeds.min(axis=1), seeds.max(axis=1)
    whiskers = [mean - low, high - mean] if seeds.shape[1] > 1 else None
    axis.bar(mean.index, mean, color=style.colour, hatch=style.hatch, edgecolor="white", yerr=whiskers, capsize=2)
    axis.tick_params(axis="x", rotation=90)
    return mean


def scatter_costs(
    axes: Sequence[Axes], costs: pd.DataFrame, worth: Mapping[tuple[int, str], Sequence[str]], labels: Mapping[str, str]
) -> None:
    """Draw what methods have for their costs: an axis for each number of tasks and kind of cost in ``worth``.

    ``costs`` has ``accuracy`` and every kind of cost by number of tasks and method; ``labels`` names these kinds. A
    line goes through the methods that are ``worth`` theirs. The first axis has the names of all of its methods.
    """
    for axis, (n_tasks, cost) in zip(axes, worth, strict=True):
        rows, unit = costs.loc[n_tasks], 1e6 if cost == "bytes" else 1.0
        line = rows.loc[list(worth[n_tasks, cost])]
        axis.plot(line[cost] / unit, line.accuracy, drawstyle="steps-post", color="#bbbbbb", marker="", zorder=1)
        for name in [each for each in TITLES if each in rows.index]:
            style, x, y = METHOD_STYLE[name], rows[cost][name] / unit, rows.accuracy[name]
            # Wide edges would fill letters up.
            (mark,) = axis.plot(x, y, linestyle="", color=style.colour, marker=style.marker, label=style.title)
            mark.set(markersize=6, markeredgewidth=0.2)
        if cost == "inputs":
            # None of them has a place beside a few.
            axis.set_xscale("symlog", linthresh=10)
        else:
            log_x(axis)
        axis.set(title=f"{n_tasks} tasks", xlabel=labels[cost])


def log_x(axis: Axes) -> None:
    """Make the horizontal axis logarithmic once all is drawn; less than a decade and a half gets few, plain numbers."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high < 30 * low:
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_locator(NullLocator())


def show_inputs(axis: Axes, examples: "UInt8[Tensor, 'n 3 rows cols'] | Sequence[str]") -> None:
    """Show inputs side by side: images as they are, and texts that do not fit with their beginnings."""
    if isinstance(examples, Sequence):
        texts = [textwrap.shorten(text, WIDTH // len(examples), placeholder="…") for text in examples]
        axis.text(0, 0.5, " | ".join(texts), fontsize=5, va="center", parse_math=False)
    else:
        axis.imshow(examples.permute(2, 0, 3, 1).flatten(1, 2).numpy(), interpolation="none")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)


def linked(stem: str, profile: str, alt: str) -> Markdown:
    """Return a link to a figure that was saved, for notebooks which its pixels would make heavy."""
    file = os.path.relpath(paths.figures(profile) / f"{stem}.png", paths.notebooks(profile))
    return Markdown(f"![{alt}]({file})")  # type: ignore[no-untyped-call]


def save_figure(fig: Figure, stem: str, profile: str, *, alt: str, source: str) -> None:
    """Write ``<figures>/<stem>`` as PDF for print, SVG for the web and PNG for pages, with its alternative text.

    The text ``alt`` says what a reader sees; it goes into each file and into ``<stem>.txt``. ``source`` names the
    notebook that drew the figure. The same figure gives the same bytes.

    Raises:
        ValueError: ``alt`` or ``source`` is empty.
        InputError: the files cannot be written.
    """
    if not alt.strip() or not source.strip():
        raise ValueError(f"{stem}: a figure needs an alternative text and the name of its notebook")
    metadata = {
        "pdf": {"Title": stem, "Subject": alt, "Keywords": source, "CreationDate": None},
        "svg": {"Title": stem, "Description": alt, "Source": source, "Date": None},
        "png": {"Title": stem, "Description": alt, "Source": source},
    }
    target = paths.figures(profile) / f"{stem}.{FORMATS[0]}"
    place = paths.staged(target, profile)
    for suffix in FORMATS:
        with replacing(place.with_suffix(f".{suffix}")) as temporary:
            fig.savefig(temporary, format=suffix, metadata=metadata[suffix])
    write_text(place.with_suffix(".txt"), alt + "\n")
    paths.tell_draft(target, profile)
