# SPDX-License-Identifier: MIT
"""What captions say of the versions of experts and data sets that numbers rest on."""

from collections.abc import Callable, Collection, Mapping

from compendium.worlds.clip.options import Options
from compendium.worlds.clip.settings import OWN, Settings

GENERATIONS = {
    "old": "the one of DTD of the old generation, which had seen the test images",
    "clean": "the one of DTD of the clean generation, which had not seen the test images",
    "unknown": "the one of DTD of unknown generation, so that it may have seen the test images",
}
"""What files do not tell of the expert of DTD, by what the settings say."""

READERS = {"local": "the original files", "hub": "copies on the hub"}

ABOUT: Mapping[str, Callable[[Options], str]] = {
    "EuroSAT": lambda options: f"EuroSAT on {int(options.eurosat_test):,} test images",
    "FER2013": lambda options: f"FER2013 with its names as {options.fer2013_names}",
    "STL10": lambda options: f"STL10 with {options.stl10_templates} prompts",
    "EMNIST": lambda options: f"EMNIST {options.emnist}, {'upright' if options.emnist_upright else 'on its side'}",
}
"""How a data set that has versions is meant, by its name."""


def stated(settings: Settings, tasks: Collection[str]) -> str:
    """Return whose experts these are, which images were read, and how ``tasks`` that have versions are meant.

    >>> from compendium.worlds.clip.settings import Checkpoints, Images
    >>> chosen = Settings(Checkpoints("own", "", "unknown"), Images("local", ""), Options())
    >>> stated(chosen, {"Cars", "STL10"})
    'Experts: trained here. Test accuracies on images of the original files; STL10 with two prompts.'
    """
    source, generation = settings.checkpoints.source, GENERATIONS[settings.checkpoints.generation]
    experts = "trained here" if source == OWN else f"of {source}" + (f", {generation}" if "DTD" in tasks else "")
    meant = [words(settings.options) for task, words in ABOUT.items() if task in tasks]
    images = "; ".join([f"Test accuracies on images of {READERS[settings.images.reader]}", *meant])
    return f"Experts: {experts}. {images}."
