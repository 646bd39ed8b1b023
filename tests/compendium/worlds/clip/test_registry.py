# SPDX-License-Identifier: MIT
"""The registry has the paper's tasks in the paper's order, and options change what they name and nothing else."""

import dataclasses

import pytest

from compendium.worlds.clip import registry
from compendium.worlds.clip.options import Options

SUITES = {
    8: ["Cars", "DTD", "EuroSAT", "GTSRB", "MNIST", "RESISC45", "SVHN", "SUN397"],
    14: ["STL10", "OxfordIIITPet", "Flowers102", "CIFAR100", "PCAM", "FER2013"],
    20: ["CIFAR10", "Food101", "FashionMNIST", "RenderedSST2", "EMNIST", "KMNIST"],
}
PRINTED = {
    # epochs, classes, images of test and of validation, prompts
    "Cars": (35, 196, 8041, 814, 8),
    "DTD": (76, 47, 1880, 376, 8),
    "EuroSAT": (12, 10, 2700, 2700, 3),
    "GTSRB": (11, 43, 12630, 2664, 3),
    "MNIST": (5, 10, 10000, 5000, 1),
    "RESISC45": (15, 45, 6300, 1890, 18),
    "SVHN": (4, 10, 26032, 5000, 1),
    "SUN397": (14, 397, 19850, 1985, 2),
    "STL10": (60, 10, 8000, 500, 2),
    "OxfordIIITPet": (82, 37, 3669, 368, 1),
    "Flowers102": (147, 102, 6149, 102, 1),
    "CIFAR100": (6, 100, 10000, 5000, 18),
    "PCAM": (1, 2, 32768, 5000, 1),
    "FER2013": (10, 7, 7178, 2870, 6),
    "CIFAR10": (6, 10, 10000, 5000, 18),
    "Food101": (4, 101, 25250, 5000, 1),
    "FashionMNIST": (5, 10, 10000, 5000, 2),
    "RenderedSST2": (39, 2, 1821, 692, 1),
    "EMNIST": (2, 10, 40000, 5000, 1),
    "KMNIST": (5, 10, 10000, 5000, 1),
}
"""As the code of the paper has them; but for DTD, whose 564 validation images were of a pool with the test in it."""

FIRST = Options()


def test_the_suites_are_those_of_the_paper() -> None:
    assert list(registry.tasks()) == [name for names in SUITES.values() for name in names]
    assert list(registry.tasks()) == list(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_counts_are_those_of_the_paper(name: str) -> None:
    task = registry.tasks()[name]
    counts = (task.epochs, len(task.classes), task.test, task.validation, len(task.templates))
    assert counts == PRINTED[name]
    assert len(set(task.classes)) == len(task.classes)
    assert all(template.count("{}") == 1 for template in task.templates)
    assert {ours for _, ours in task.also} <= set(task.classes)
    assert task.hub or name == "EMNIST"


def test_the_first_value_of_each_option_is_what_the_registry_has() -> None:
    assert all(registry.with_options(task, FIRST) == task for task in registry.tasks().values())


def changed(name: str, options: Options) -> set[str]:
    """Return the fields of a task that options change; other tasks stay as they are."""
    tasks = registry.tasks()
    assert all(registry.with_options(task, options) == task for task in tasks.values() if task.name != name)
    before, after = tasks[name], registry.with_options(tasks[name], options)
    return {
        field.name for field in dataclasses.fields(before) if getattr(before, field.name) != getattr(after, field.name)
    }


def test_letters_are_another_data_set() -> None:
    options = Options(emnist="letters")
    assert changed("EMNIST", options) == {"title", "pool", "test", "hub", "classes"}
    letters = registry.with_options(registry.tasks()["EMNIST"], options)
    assert "".join(letters.classes) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert (letters.pool, letters.test, letters.validation) == (124800, 20800, 5000)
    assert letters.templates == registry.tasks()["EMNIST"].templates


def test_faces_can_have_the_names_of_others() -> None:
    plain = registry.tasks()["FER2013"]
    shifted = registry.with_options(plain, Options(fer2013_names="shifted"))
    for face, words in (("sad", "surprised"), ("surprise", "neutral"), ("neutral", "sad"), ("happy", "happy")):
        (place,) = [number for number, name in enumerate(plain.classes) if dict(plain.also)[face] == name]
        assert words in shifted.classes[place]
        assert dict(shifted.also)[face] == shifted.classes[place]
    assert sorted(plain.classes) == sorted(shifted.classes)


def test_faces_can_have_words_in_the_place_of_lists() -> None:
    options = Options(fer2013_names="words")
    assert changed("FER2013", options) == {"classes", "also"}
    lists, words = registry.tasks()["FER2013"], registry.with_options(registry.tasks()["FER2013"], options)
    assert lists.templates[0].format(lists.classes[0]) == "a photo of a ['angry'] looking face."
    for many, one in zip(lists.classes, words.classes, strict=True):
        assert many.startswith(f"['{one}'")


def test_stl10_can_have_more_prompts() -> None:
    options = Options(stl10_templates="eighteen")
    assert changed("STL10", options) == {"templates"}
    prompts = registry.with_options(registry.tasks()["STL10"], options).templates
    assert len(set(prompts)) == 18
    assert set(registry.tasks()["STL10"].templates) < set(prompts)


@pytest.mark.parametrize("options", [Options(emnist_upright=True), Options(eurosat_test="21600")])
def test_what_is_up_to_readers_and_splits_changes_no_task(options: Options) -> None:
    assert all(registry.with_options(task, options) == task for task in registry.tasks().values())
