# SPDX-License-Identifier: MIT
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from compendium import paths, profiles
from compendium.paper import plotting
from tsvlib.methods import METHODS

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


def test_every_merging_method_has_a_style():

    assert set(METHODS) <= set(plotting.METHOD_STYLE)


def test_widths_of_the_style_are_the_documented_ones():
    style = paths.ROOT / "notebooks" / "compendium" / "paper" / "tsv.mplstyle"
    lines = style.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40
