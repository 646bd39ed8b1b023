# SPDX-License-Identifier: MIT
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from compendium import paths, profiles
from compendium.paper import plotting
from tsvlib.methods import METHODS, PROCESSES

ALT = "One bar reaches twice as high as the other."


@pytest.fixture
def figure():
    plotting.use_style()
    fig, ax = plt.subplots()
    ax.bar(["a", "b"], [1, 2], color=plotting.METHOD_STYLE["tsv_m"].colour)
    yield fig
    plt.close(fig)


def test_saves_three_formats_and_the_alternative_text(figure):
    plotting.save_figure(figure, "bars", "smoke", alt=ALT, source="22_fig_scaling")
    folder = paths.figures("smoke")
    assert (folder / "bars.txt").read_text(encoding="utf-8") == ALT + "\n"
    assert ALT in (folder / "bars.svg").read_text(encoding="utf-8")
    assert ALT.encode() in (folder / "bars.pdf").read_bytes()
    with Image.open(folder / "bars.png") as image:
        assert image.text["Description"] == ALT
        assert image.text["Source"] == "22_fig_scaling"
        assert image.size[0] == round(3.25 * 300)


def test_bars_are_means_and_whiskers_span_the_seeds():
    seeds = pd.DataFrame({0: [1.0, 4.0], 1: [2.0, 4.0], 2: [6.0, 7.0]}, index=["first", "second"])
    fig, (several, one) = plt.subplots(1, 2)
    style = plotting.Style("B", *plotting.BACKBONE_LOOKS[0])
    assert plotting.bars(several, seeds, style).tolist() == [3, 5]
    assert [bar.get_height() for bar in several.patches] == [3, 5]
    assert [segment[:, 1].tolist() for segment in several.collections[0].get_segments()] == [[1, 6], [4, 7]]
    assert [label.get_text() for label in several.get_xticklabels()] == ["first", "second"]
    plotting.bars(one, seeds[[0]], style)
    assert not one.collections
    plt.close(fig)


def test_same_figure_same_bytes(figure):
    contents = []
    for _ in range(2):
        plotting.save_figure(figure, "bars", "smoke", alt=ALT, source="22_fig_scaling")
        contents.append([(paths.figures("smoke") / f"bars.{suffix}").read_bytes() for suffix in plotting.FORMATS])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("alt", "source"), [(" ", "22_fig_scaling"), (ALT, "")])
def test_refuses_a_figure_without_alternative_text_or_source(figure, alt, source):
    with pytest.raises(ValueError, match="needs an alternative text"):
        plotting.save_figure(figure, "bars", "smoke", alt=alt, source=source)
    assert not paths.figures("smoke").exists()


@pytest.mark.parametrize(("largest", "numbers"), [(45, {"30", "35", "40", "45"}), (3000, {"$\\mathdefault{10^{2}}$"})])
def test_less_than_a_decade_gets_plain_numbers(largest: int, numbers: set[str]):
    figure, axis = plt.subplots()
    axis.plot([30, largest], [0, 1])
    plotting.log_x(axis)
    figure.canvas.draw()
    found = {label.get_text() for label in axis.get_xticklabels()}
    assert numbers <= found
    assert not any(label.get_text() for label in axis.get_xticklabels(minor=True) if largest == 45)
    plt.close(figure)


def test_every_series_has_two_cues():
    mini = profiles.load("mini")
    backbones = [plotting.backbone_style(mini, backbone.name) for backbone in mini.backbones]
    assert [style.title for style in backbones] == [backbone.label for backbone in mini.backbones]
    for styles in (plotting.METHOD_STYLE.values(), backbones):
        for cue in ("title", "colour", "marker"):
            values = [getattr(style, cue) for style in styles]
            assert len(set(values)) == len(values), cue
    # Hatches are fewer than methods; those that stand side by side as bars differ.
    bars = ("zero_shot", "individual", "weight_averaging", "task_arithmetic", "consensus_ta", "tsv_m")
    assert len({plotting.METHOD_STYLE[name].hatch for name in bars}) == len(bars)


def test_every_method_has_a_style_and_what_follows_another_together_with_that():
    assert set(METHODS) - set(PROCESSES) <= set(plotting.METHOD_STYLE)
    followed = {part for name in plotting.METHOD_STYLE for part in name.split("+")[1:]}
    assert followed == set(PROCESSES)


def test_costs_are_drawn_at_their_places_with_a_line_through_what_is_worth_them():
    places = [(8, "tsv_m"), (8, "emr"), (20, "tsv_m"), (20, "emr")]
    rows = {"bytes": [1e6, 2e6, 1e6, 3e6], "inputs": [0.0, 50.0, 0.0, 50.0], "accuracy": [70.0, 90.0, 60.0, 50.0]}
    costs = pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(places))
    worth = {(8, "bytes"): ["tsv_m", "emr"], (20, "inputs"): ["tsv_m"]}
    fig, axes = plt.subplots(1, 2)
    plotting.scatter_costs(list(axes), costs, worth, {"bytes": "megabytes", "inputs": "inputs"})
    line, *points = axes[0].lines
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(1, 70), (2, 90)]
    assert [(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in points] == [(1, 70), (2, 90)]
    assert [p.get_label() for p in points] == ["TSV-M", "EMR-Merging"]
    assert (axes[0].get_title(), axes[1].get_title()) == ("8 tasks", "20 tasks")
    assert (axes[0].get_xscale(), axes[1].get_xscale()) == ("log", "symlog")
    assert [list(p.get_xdata()) for p in axes[1].lines] == [[0], [0], [50]]
    plt.close(fig)


def test_widths_of_the_style_are_the_documented_ones():
    style = paths.ROOT / "notebooks" / "compendium" / "paper" / "tsv.mplstyle"
    lines = style.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40
