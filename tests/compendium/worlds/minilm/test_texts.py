# SPDX-License-Identifier: MIT
"""The shipped texts: what data/minilm/README.md promises of every task."""

import re
import tomllib
from collections import Counter
from itertools import combinations

import pytest

from compendium import profiles
from compendium.worlds import protocol
from compendium.worlds.minilm import texts
from compendium.worlds.minilm.extraction import selection
from compendium.worlds.protocol import SPLITS
from tsvlib.errors import InputError

FEWEST = {"train": 1000, "validation": 200, "test": 400}
IMBALANCE = 4.0
"""So many times as many texts as the rarest class the commonest has at most; data/minilm/README.md states it."""

EVERY = list(texts.TASKS)


def table() -> dict[str, list[str]]:
    """Return the rows of the README's table of tasks by name."""
    page = (profiles.folder("minilm") / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| `(\w+)` \|(.*)\|$", page, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


def test_twenty_tasks_stand_in_their_fixed_order_and_at_most_three_ask_for_sentiment() -> None:
    assert EVERY == [
        "nouns", "languages", "feelings", "foods", "licences", "speeches", "code", "genes", "verbs", "bible",
        "cities", "birds", "docs", "fields", "enzymes", "emoji", "novels", "weaknesses", "occupations", "plays",
    ]  # fmt: skip
    asked = [name for name, task in texts.TASKS.items() if "positive" in task.classes]
    assert len(asked) <= 3


@pytest.mark.parametrize("name", EVERY)
def test_a_task_says_what_it_is(name: str) -> None:
    task = texts.TASKS[name]
    assert isinstance(task, protocol.Task)
    assert task.name == name
    assert task.title
    assert task.source
    assert task.licence
    assert task.real
    assert 2 <= len(task.classes) <= 26
    assert len(set(task.descriptions.values())) == len(task.classes)
    assert all(len(text.split()) >= 1 and text == text.strip() for text in task.descriptions.values())


@pytest.mark.parametrize("name", EVERY)
def test_every_class_is_in_every_split_in_nearly_equal_parts(name: str) -> None:
    for split in SPLITS:
        counts = Counter(texts.load(name, split).labels)
        assert set(counts) == set(range(len(texts.TASKS[name].classes)))
        assert max(counts.values()) <= IMBALANCE * min(counts.values())
        assert max(counts.values()) <= selection.MOST[split] // len(counts)


@pytest.mark.parametrize("name", EVERY)
def test_sizes_suffice_and_are_those_of_the_table(name: str) -> None:
    sizes = [len(texts.load(name, split).texts) for split in SPLITS]
    assert all(size >= FEWEST[split] for size, split in zip(sizes, SPLITS, strict=True))
    _, classes, shown, groups, *_ = table()[name]
    assert int(classes) == len(texts.TASKS[name].classes)
    assert shown == " / ".join(map(str, sizes))
    assert groups == " / ".join(str(len(set(texts.load(name, split).sources))) for split in SPLITS)
    assert list(table()) == EVERY


@pytest.mark.parametrize("name", EVERY)
def test_no_text_and_no_group_is_in_two_splits(name: str) -> None:
    splits = [texts.load(name, split) for split in SPLITS]
    told = [selection.key(text) for split in splits for text in split.texts]
    assert len(told) == len(set(told))
    for one, other in combinations(splits, 2):
        assert not set(one.sources) & set(other.sources)


@pytest.mark.parametrize("name", EVERY)
def test_no_text_is_nearly_one_of_another_split(name: str) -> None:
    for one, other in combinations([texts.load(name, split).texts for split in SPLITS], 2):
        assert selection.likeness(one, other).max() < selection.LIKE


def test_only_three_words_are_judged_in_one_task_and_shown_in_training_of_another() -> None:
    shown = {selection.key(text) for name in EVERY for text in texts.load(name, "train").texts}
    judged = {selection.key(text) for name in EVERY for split in SPLITS[1:] for text in texts.load(name, split).texts}
    assert shown & judged == {"zzz", "hand", "gratify"}


@pytest.mark.parametrize("name", ["nouns", "feelings"])
def test_a_beginning_of_a_split_is_balanced_and_the_same_every_time(name: str) -> None:
    few, again, every = (texts.load(name, "test", count) for count in (48, 48, None))
    assert few == again
    assert few.digest != every.digest
    assert few.texts == every.texts[:48]
    assert few.sources == every.sources[:48]
    assert set(Counter(few.labels).values()) == {48 // len(texts.TASKS[name].classes)}


def test_what_is_shipped_was_not_changed_by_hand() -> None:
    pinned = tomllib.loads((profiles.folder("minilm") / "digests.toml").read_text(encoding="utf-8"))
    assert {name: {split: texts.load(name, split).digest for split in SPLITS} for name in EVERY} == pinned


def test_an_unknown_task_is_refused_and_more_texts_than_there_are_is_all_of_them() -> None:
    with pytest.raises(InputError, match="unknown task tweets: choose one of nouns"):
        texts.load("tweets", "test")
    assert texts.load("birds", "test", 10_000) == texts.load("birds", "test")
