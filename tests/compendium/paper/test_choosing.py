# SPDX-License-Identifier: MIT
"""Which method to use: of what takes no more than one has, the best that was measured, and what is level with it."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from compendium import paths
from compendium.paper import choosing, readme
from compendium.paper.choosing import World

INPUTS = 400
TASKS = ("one", "two")
TAKEN = {
    # bytes, inputs, labels
    "weight_averaging": (100.0, 0, 0),
    "tsv_m_alpha_1": (100.0, 0, 0),
    "adamerging": (100.0, 64, 0),
    "task_arithmetic": (100.0, 64, 64),
    "tall_mask_ties": (160.0, 64, 64),
    "tsv_c": (180.0, 0, 0),
}
CELLS = [(backbone, n_tasks) for backbone in ("b", "l") for n_tasks in (2, 3)]


def hits(accuracy: float) -> str:
    return np.packbits(np.arange(INPUTS) < round(accuracy * INPUTS)).tobytes().hex()


def observed(backbone: str, n_tasks: int, method: str, accuracy: float) -> list[dict[str, object]]:
    place = {"backbone": backbone, "n_tasks": n_tasks, "method": method, "seed": 0}
    rows: list[dict[str, object]] = [
        place | {"task": task, "metric": "accuracy", "value": accuracy, "hits": hits(accuracy)} for task in TASKS
    ]
    if method not in TAKEN:
        return rows
    kinds = zip(("bytes", "inputs", "labels"), TAKEN[method], strict=True)
    return rows + [place | {"task": "all", "metric": kind, "value": float(value), "hits": ""} for kind, value in kinds]


def world(accuracies: dict[str, float], lacking: tuple[tuple[str, int, str], ...] = ()) -> World:
    places = [(*cell, method) for cell in CELLS for method in accuracies]
    rows = [row for place in places if place not in lacking for row in observed(*place, accuracies[place[2]])]
    experts = [row for cell in CELLS for row in observed(*cell, "individual", 0.9)]
    # Between which methods lie, and which are none.
    rows += experts + [row for cell in CELLS for row in observed(*cell, "zero_shot", 0.3)]
    order = " ".join(map(str, range(INPUTS)))
    names = {
        task: " ".join(hashlib.sha256(f"{task}/{i}".encode()).hexdigest()[:8] for i in range(INPUTS)) for task in TASKS
    }
    sources = pd.DataFrame(
        [(task, "test", INPUTS, INPUTS, order, names[task]) for task in TASKS],
        columns=["task", "split", "inputs", "sources", "order", "names"],
    )
    return World(pd.DataFrame(rows), pd.DataFrame(experts), sources)


GOOD = {
    "weight_averaging": 0.6,
    "tsv_m_alpha_1": 0.75,
    "adamerging": 0.7,
    "task_arithmetic": 0.65,
    "tall_mask_ties": 0.88,
    "tsv_c": 0.89,
}


def cells_of(text: str) -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return {words: cells for words, *cells in rows}


def test_what_was_not_run_says_so() -> None:
    found = cells_of(choosing.markdown({"mini": None, "minilm": None}))
    assert list(found) == [*choosing.HAVING, choosing.ADAPTERS]
    assert {cell for cells in found.values() for cell in cells} == {"not run"}


def test_the_best_of_what_takes_no_more_is_named_for_each_suite() -> None:
    best = cells_of(choosing.markdown({"mini": world(GOOD)}))
    assert best["nothing but the checkpoints"][0].startswith("2 tasks: TSV-M, alpha = 1 83.3 ± ")
    assert "; 3 tasks: TSV-M, alpha = 1 83.3 ± " in best["nothing but the checkpoints"][0]
    assert best["unlabelled inputs of each task"] == best["nothing but the checkpoints"]
    assert best["labelled inputs of each task"] == best["nothing but the checkpoints"]
    assert best["room for more than one model"][0].startswith("2 tasks: TSV-C 98.9 ± ")
    assert best["all of these"] == best["room for more than one model"]
    assert best[choosing.ADAPTERS] == ["not run"]


def test_what_takes_more_is_named_where_it_is_better() -> None:
    best = cells_of(choosing.markdown({"mini": world(GOOD | {"adamerging": 0.8, "tall_mask_ties": 0.9})}))
    assert best["nothing but the checkpoints"][0].startswith("2 tasks: TSV-M, alpha = 1 83.3 ± ")
    assert best["unlabelled inputs of each task"][0].startswith("2 tasks: AdaMerging, layer-wise 88.9 ± ")
    assert best["labelled inputs of each task"] == best["unlabelled inputs of each task"]
    assert best["room for more than one model"][0].startswith("2 tasks: TSV-C 98.9 ± ")
    assert best["all of these"][0].startswith("2 tasks: TALL-Mask + TIES 100.0 ± ")


def test_methods_that_sampling_could_put_level_are_named() -> None:
    near = GOOD | {"weight_averaging": 0.7475}
    cell = cells_of(choosing.markdown({"mini": world(near)}))["nothing but the checkpoints"][0]
    assert cell.count("(level: Weight averaging)") == 2
    far = cells_of(choosing.markdown({"mini": world(GOOD)}))["nothing but the checkpoints"][0]
    assert "level" not in far


def test_what_did_not_run_on_every_backbone_of_a_suite_is_no_choice_there() -> None:
    found = cells_of(choosing.markdown({"mini": world(GOOD, (("l", 2, "tsv_m_alpha_1"),))}))
    first, second = found["nothing but the checkpoints"][0].split("; ")
    assert first.startswith("2 tasks: Weight averaging")
    assert second.startswith("3 tasks: TSV-M, alpha = 1")


def test_what_a_method_takes_is_what_was_counted() -> None:
    takes = choosing.taken(world(GOOD).methods)
    assert takes.loc["tsv_m_alpha_1"].to_dict() == {"inputs": False, "labels": False, "more": False}
    assert takes.loc["adamerging"].to_dict() == {"inputs": True, "labels": False, "more": False}
    assert set(takes.index) == set(TAKEN)
    assert takes.loc["tall_mask_ties"].to_dict() == {"inputs": True, "labels": True, "more": True}


@pytest.mark.parametrize("name", choosing.WORLDS)
def test_the_readme_shows_a_column_for_each_world(name: str) -> None:
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Which method should I use?")[2].partition("\n## ")[0]
    assert readme.CHOICES in section
    assert f" {name} |" in section
    assert choosing.table() in section
