# SPDX-License-Identifier: MIT
"""What leaves and what stays when splits are made."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compendium.worlds.minilm.extraction import selection
from compendium.worlds.minilm.extraction.selection import Found
from compendium.worlds.protocol import SPLITS

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"]), min_size=1, max_size=6).map(" ".join)


def pool(count: int = 4000) -> list[Found]:
    """Return texts of two classes with words of their own, each group of two texts."""
    return [Found(f"word{i} is {i * 7919} there", "ab"[i % 2], f"group {i // 2}") for i in range(count)]


def test_splits_are_balanced_disjoint_and_independent_of_the_order_of_what_was_found() -> None:
    kept = selection.select(pool(), ("a", "b"))
    assert kept == selection.select(reversed(pool()), ("a", "b"))
    assert Counter(row.split for row in kept) == selection.MOST
    assert all(row.split == selection.split_of(row.group) for row in kept)
    for split in SPLITS:
        labels = [row.label for row in kept if row.split == split]
        assert labels == ["a", "b"] * (selection.MOST[split] // 2)


def test_groups_are_shared_out_as_stated() -> None:
    shares = Counter(selection.split_of(str(i)) for i in range(20_000))
    for split in SPLITS:
        assert shares[split] / 20_000 == pytest.approx(selection.SHARES[split], abs=0.01)


def test_equal_texts_ambiguous_texts_and_other_classes_leave() -> None:
    found = [
        Found("One  text", "a", "1"), Found("one text", "a", "2"),
        Found("Said twice", "a", "3"), Found("said TWICE", "b", "4"),
        Found("of no class", "c", "5"), Found("ok", "a", "6"), Found("x" * 301, "a", "7"),
    ]  # fmt: skip
    kept = selection.select(found, ("a", "b"))
    assert [selection.key(row.text) for row in kept] == ["one text"]


def test_near_duplicates_of_other_splits_leave() -> None:
    train, test = (
        next(g for g in map(str, range(99)) if selection.split_of(g) == split) for split in ("train", "test")
    )
    found = [
        Found("the bird hit the left wing of the plane", "a", train),
        Found("the bird hit the left wing of a plane", "a", test),
        Found("nothing of the kind was seen", "a", test),
    ]
    assert [row.text for row in selection.select(found, ("a",))] == [found[0].text, found[2].text]


@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, min_size=1, max_size=5))
def test_likeness_is_the_jaccard_overlap_of_shingles(texts: list[str], others: list[str]) -> None:
    def overlap(one: set[str], other: set[str]) -> float:
        return len(one & other) / len(one | other)

    expected = [[overlap(selection.shingles(t), selection.shingles(o)) for o in others] for t in texts]
    np.testing.assert_allclose(selection.likeness(texts, others), expected)


def test_texts_without_words_are_like_themselves_only() -> None:
    np.testing.assert_array_equal(selection.likeness([":-)", "word"], [":-)"]), [[1.0], [0.0]])
