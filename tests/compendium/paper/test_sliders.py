# SPDX-License-Identifier: MIT
"""One output: a picture that stands still, and sliders with it where a person runs the kernel."""

import io
from base64 import b64decode

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from compendium import views
from compendium.paper import sliders
from compendium.paper.sliders import Slider

HEIGHT = {"low": 1.0, "high": 4.0}
PLACE = {"left": 0, "right": 5}


@pytest.fixture
def drawn():
    """Draw a bar and note what was asked for."""
    asked = []

    def draw(height: float, place: int):
        asked.append((height, place))
        fig, axis = plt.subplots(figsize=(2, 1))
        axis.bar([place], [height])
        axis.set(xlim=(-1, 6), ylim=(0, 5))
        return fig, f"a bar of {height}"

    draw.asked = asked
    return draw


@pytest.fixture
def choices():
    return {"height": Slider(HEIGHT, 1.0), "place": Slider(PLACE, 5)}


@pytest.fixture
def shown(drawn, choices, monkeypatch):
    """Return what a notebook would be given to show, and how."""

    def show():
        outputs = []
        monkeypatch.setattr(sliders, "display", lambda data, **how: outputs.append((data, how)))
        sliders.show(drawn, choices)
        ((data, how),) = outputs
        assert how.pop("raw")
        return data, how

    return show


def test_without_a_person_there_is_a_picture_and_no_widget(drawn, shown):
    data, how = shown()
    assert set(data) == {"image/png", "text/plain"}
    assert data["text/plain"] == "a bar of 1.0"
    with Image.open(io.BytesIO(b64decode(data["image/png"]))) as image:
        assert image.size[0] == round(sliders.SHARPNESS * how["metadata"]["image/png"]["width"])
    assert drawn.asked == [(1.0, 5)]
    assert plt.get_fignums() == []


def test_a_person_gets_sliders_beside_the_same_picture(shown, monkeypatch):
    still = shown()
    monkeypatch.setattr(views, "is_somebody_there", lambda: True)
    moving = shown()
    assert moving[0].pop(views.VIEW)["model_id"]
    assert moving == still


def test_pictures_follow_a_slider(drawn, choices):
    widget = sliders._moving(drawn, choices, b"\x89PNG first", "at first")
    height, place, image, words = widget.children
    assert (height.value, place.value, words.value) == (1.0, 5, "at first")
    assert [list(dict(each.options)) for each in (height, place)] == [list(HEIGHT), list(PLACE)]
    assert not height.continuous_update
    height.value = 4.0
    assert drawn.asked == [(4.0, 5)]
    assert words.value == "a bar of 4.0"
    first = image.value
    place.value = 0
    assert drawn.asked[-1] == (4.0, 0)
    assert image.value != first
    assert plt.get_fignums() == []


def test_a_start_that_is_no_option_is_an_error(drawn, choices):
    with pytest.raises(ValueError, match="height: it cannot start with 2"):
        sliders.show(drawn, choices | {"height": Slider(HEIGHT, 2.0)})
    assert drawn.asked == []
