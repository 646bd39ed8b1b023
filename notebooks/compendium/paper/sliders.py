# SPDX-License-Identifier: MIT
"""A picture with sliders where a person runs the kernel, and the same picture standing still everywhere else."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from compendium import views

SHARPNESS = 1.5
"""Pixels of the picture for each one of a page, since its letters are small."""

WIDE = {"width": "44em"}


class Slider(NamedTuple):
    """What a slider chooses from, by the words that stand for it, and with which value it starts."""

    options: Mapping[str, Any]
    start: Any


Draw = Callable[..., tuple[Figure, str]]
"""From the values of all sliders, by their names, to a figure and a sentence that says what it shows."""


def show(draw: Draw, sliders: Mapping[str, Slider]) -> None:
    """Show what ``draw`` makes of the values at the start, and sliders to change them if a person is there.

    One output holds both: whoever cannot show widgets, or opens the notebook when its kernel has ended, sees the still
    picture. Nothing is drawn while a slider moves, only when it is let go.

    Raises:
        ValueError: a slider starts with none of its options.
    """
    for name, slider in sliders.items():
        if slider.start not in slider.options.values():
            raise ValueError(f"slider {name}: it cannot start with {slider.start!r}, which is none of its options")
    png, sentence = _drawn(draw, {name: slider.start for name, slider in sliders.items()})
    bundle: dict[str, Any] = {"image/png": b64encode(png).decode(), "text/plain": sentence}
    if views.is_somebody_there():
        bundle[views.VIEW] = _moving(draw, sliders, png, sentence)._repr_mimebundle_()[views.VIEW]
    display(bundle, raw=True, metadata={"image/png": {"width": _width(png)}})  # type: ignore[no-untyped-call]


def _moving(draw: Draw, sliders: Mapping[str, Slider], png: bytes, sentence: str) -> Any:
    """Return widgets: sliders above a picture and its sentence, both of which follow them."""
    moving = {name: _widget(name, slider) for name, slider in sliders.items()}
    image = ipywidgets.Image(value=png, width=str(_width(png)))
    words = ipywidgets.Label(value=sentence)

    def redraw(_: object) -> None:
        words.value = "One moment …"
        image.value, words.value = _drawn(draw, {name: widget.value for name, widget in moving.items()})

    for widget in moving.values():
        widget.observe(redraw, "value")
    return ipywidgets.VBox([*moving.values(), image, words])


def _widget(name: str, slider: Slider) -> Any:
    options: Sequence[tuple[str, Any]] = list(slider.options.items())
    return ipywidgets.SelectionSlider(
        options=options, value=slider.start, description=name, continuous_update=False, layout=WIDE
    )


def _drawn(draw: Draw, values: Mapping[str, Any]) -> tuple[bytes, str]:
    figure, sentence = draw(**values)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=SHARPNESS * figure.dpi)
    plt.close(figure)
    return content.getvalue(), sentence


def _width(png: bytes) -> int:
    """Return how wide a PNG is on a page."""
    return round(int.from_bytes(png[16:20]) / SHARPNESS)
