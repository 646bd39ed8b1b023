# SPDX-License-Identifier: MIT
"""From all texts that a package has to the balanced, disjoint splits that ship: the rules of data/minilm/README.md."""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from compendium.worlds.protocol import SPLITS, SplitName

MOST: dict[SplitName, int] = {"train": 1600, "validation": 300, "test": 600}
"""The most texts of a split, in equal parts for each class."""

SHARES: dict[SplitName, float] = {"train": 0.62, "validation": 0.13, "test": 0.25}
"""The shares of groups that a hash gives to each split."""

SHORTEST, LONGEST = 3, 300
"""Characters that a text has."""

LIKE = 0.6
"""Two texts whose words and pairs of words overlap so much (Jaccard) are near duplicates."""

SPARE = 3
"""So many times the wanted validation and test texts are looked at, since near duplicates leave."""


@dataclass(frozen=True)
class Found:
    """One text as found: its class, and the group of related texts that stay on one side."""

    text: str
    label: str
    group: str


@dataclass(frozen=True)
class Kept:
    """One text that ships."""

    text: str
    label: str
    group: str
    split: SplitName


def tidied(text: str) -> str:
    r"""Return a text on one line, in composed Unicode, without runs of white space.

    >>> tidied(" two\n  lines ")
    'two lines'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def key(text: str) -> str:
    """Return what two equal texts share: letters in one case, compatible signs as one.

    >>> key("Éclair  1") == key("éclair １")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def number(text: str) -> int:
    """Return a number below 2**64 that a text alone decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(group: str) -> SplitName:
    """Return the split of all texts of a group, the same in every task."""
    place, reached = number(f"minilm split {group}") / 2**64, 0.0
    for name in SPLITS:
        reached += SHARES[name]
        if place < reached:
            return name
    return SPLITS[-1]


def select(found: Iterable[Found], classes: Sequence[str]) -> list[Kept]:
    """Return the texts that ship, split by split; in each the classes take turns, so that every beginning is balanced.

    Texts of other classes, too short or too long ones and those found with two labels leave; of equal ones the one
    with the first hash stays. Validation and test have no near duplicate in another split.
    """
    waiting = _in_turns(_distinct(found), classes)
    kept: dict[SplitName, list[Kept]] = {}
    for name in SPLITS:
        seen = [row.text for rows in kept.values() for row in rows]
        kept[name] = _cut(_apart(waiting[name], seen, MOST[name]), classes, MOST[name])
    return [row for name in SPLITS for row in kept[name]]


def _distinct(found: Iterable[Found]) -> list[Found]:
    """Return one text of each key, in the order of a hash; none of a key with several labels."""
    by_key = defaultdict(list)
    for one in found:
        row = Found(tidied(one.text), one.label, tidied(one.group))
        if SHORTEST <= len(row.text) <= LONGEST:
            by_key[key(row.text)].append(row)
    single = [rows for rows in by_key.values() if len({row.label for row in rows}) == 1]
    first = [min(rows, key=lambda row: (number(row.text + row.group), row.text)) for rows in single]
    return sorted(first, key=lambda row: (number(row.text), row.text))


def _in_turns(rows: Iterable[Found], classes: Sequence[str]) -> dict[SplitName, list[Kept]]:
    """Return rows by split; the first of each class comes before the second of any."""
    ranked: dict[SplitName, list[tuple[int, int, Kept]]] = {name: [] for name in SPLITS}
    turns: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.label in classes:
            name = split_of(row.group)
            place = turns[name, row.label]
            turns[name, row.label] += 1
            ranked[name].append((place, classes.index(row.label), Kept(row.text, row.label, row.group, name)))
    return {name: [row for _, _, row in sorted(ranked[name], key=lambda entry: entry[:2])] for name in SPLITS}


def _apart(rows: list[Kept], seen: list[str], most: int) -> list[Kept]:
    """Return those rows that are like nothing of what has been seen, which is other splits' texts."""
    if not seen:
        return rows
    rows = rows[: SPARE * most]
    alike = likeness([row.text for row in rows], seen).max(axis=1)
    return [row for row, value in zip(rows, alike, strict=True) if value < LIKE]


def _cut(rows: list[Kept], classes: Sequence[str], most: int) -> list[Kept]:
    """Return at most the wanted number of rows, in equal parts of every class as far as there are so many."""
    quota = most // len(classes)
    turns: Counter[str] = Counter()
    chosen = []
    for row in rows:
        if turns[row.label] < quota:
            chosen.append((turns[row.label], classes.index(row.label), row))
            turns[row.label] += 1
    return [row for _, _, row in sorted(chosen, key=lambda entry: entry[:2])]


def shingles(text: str) -> set[str]:
    """Return the words of a text and its pairs of neighbouring words.

    >>> sorted(shingles("The cat, the cat"))
    ['cat', 'cat the', 'the', 'the cat']
    """
    words = re.findall(r"\w+", key(text)) or [key(text)]
    return {*words, *(f"{left} {right}" for left, right in pairwise(words))}


def likeness(texts: Sequence[str], others: Sequence[str]) -> Float[np.ndarray, "texts others"]:
    """Return the Jaccard overlap of the shingles of every text with those of every other."""
    places: dict[str, int] = {}
    left, right = _counts(texts, places), _counts(others, places)
    left.resize(left.shape[0], len(places))
    common = np.asarray((left @ right.T).todense(), dtype=np.float64)
    sizes = np.asarray(left.sum(axis=1)) + np.asarray(right.sum(axis=1)).T
    overlap: Float[np.ndarray, "texts others"] = common / np.maximum(sizes - common, 1)
    return overlap


def _counts(texts: Sequence[str], places: dict[str, int]) -> csr_matrix:
    """Return which text has which shingle; new shingles are given a column."""
    columns = [sorted(places.setdefault(one, len(places)) for one in sorted(shingles(text))) for text in texts]
    starts = np.cumsum([0, *map(len, columns)])
    flat = np.array([column for row in columns for column in row], dtype=np.int64)
    return csr_matrix((np.ones(len(flat), np.float32), flat, starts), shape=(len(texts), len(places)))
