# SPDX-License-Identifier: MIT
"""The table of sources tells which images show the same one, for every task and split on which accuracies rest."""

import dataclasses

import pytest

from compendium import profiles
from compendium.study import sources
from compendium.worlds.protocol import suite, world_of
from tsvlib.errors import InputError

SMOKE = profiles.load("smoke")


def test_images_share_a_number_just_where_they_share_a_source() -> None:
    rows = list(sources.rows(SMOKE))
    assert [(row["task"], row["split"]) for row in rows] == [
        (task, split) for task in suite(SMOKE, 3) for split in ("validation", "test")
    ]
    for row in rows:
        assert row.keys() == sources.COLUMNS.keys()
        names = world_of(SMOKE).split(row["task"], row["split"]).sources
        order = [int(number) for number in row["order"].split()]
        assert len(order) == row["inputs"] == len(names)
        assert len(set(zip(order, names, strict=True))) == len(set(order)) == len(set(names)) == row["sources"]
        assert list(dict.fromkeys(order)) == list(range(row["sources"]))


def test_a_world_that_does_not_tell_the_source_of_each_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = type(world_of(SMOKE))
    whole, n = world.split, len(world_of(SMOKE).split("mnist", "validation").labels)
    monkeypatch.setattr(world, "split", lambda *place: dataclasses.replace(whole(*place), sources=("one",)))
    with pytest.raises(InputError, match=f"1 sources for {n} inputs of the validation split"):
        next(sources.rows(SMOKE))
