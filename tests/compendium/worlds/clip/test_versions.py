# SPDX-License-Identifier: MIT
"""Captions say which of several experts and data sets their numbers rest on."""

import pytest

from compendium.worlds.clip import versions
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.settings import Checkpoints, Images, Settings

ALL = {"DTD", "EuroSAT", "FER2013", "STL10", "EMNIST"}


def test_source_generation_and_every_option_are_told() -> None:
    said = versions.stated(Settings(Checkpoints("tsv", "", "old"), Images("hub", ""), Options()), ALL)
    for words in (
        "Experts: of tsv, the one of DTD of the old generation, which had seen the test images.",
        "images of copies on the hub; ",
        "EuroSAT on 2,700 test images; FER2013 with its names as lists; STL10 with two prompts; ",
        "EMNIST digits, on its side.",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(eurosat_test="21600"), "EuroSAT on 21,600 test images"),
        (Options(emnist="letters", emnist_upright=True), "EMNIST letters, upright"),
        (Options(fer2013_names="shifted"), "FER2013 with its names as shifted"),
        (Options(stl10_templates="eighteen"), "STL10 with eighteen prompts"),
    ],
)
def test_other_options_are_told(options: Options, words: str) -> None:
    assert words in versions.stated(Settings(Checkpoints("tsv", "", "clean"), Images("local", ""), options), ALL)


def test_what_a_suite_does_not_have_is_not_told() -> None:
    said = versions.stated(Settings(Checkpoints("tsv", "", "old"), Images("local", ""), Options()), {"Cars"})
    assert said == "Experts: of tsv. Test accuracies on images of the original files."
