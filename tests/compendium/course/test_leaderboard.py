# SPDX-License-Identifier: MIT
"""Entries hold what they state or are refused, and places are what methods make of experts that nobody saw."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from compendium import commands, profiles
from compendium.course import entries, leaderboard, recipes
from compendium.study import evaluation, runs
from compendium.study.runs import Run
from compendium.worlds import inventory
from tsvlib import checkpoints
from tsvlib.errors import InputError
from tsvlib.taskvectors import TaskVector

SMOKE = profiles.load("smoke")
IMAGES = 96


def own_method(deltas):  # without annotations, since only its own text is handed in
    """Return the sum of the leading component of each task."""
    parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
    return sum((u[:, :1] * s[:1]) @ vh[:1] for u, s, vh in parts)


@pytest.fixture
def world(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained smoke world, to which experts may be added."""
    copy = tmp_path / "world"
    shutil.copytree(trained, copy)
    monkeypatch.setenv("TSV_OUTPUT", str(copy))
    return copy


@pytest.fixture
def run(world: Path) -> Run:
    return next(runs.of(SMOKE.first_suite()))


@pytest.fixture
def file(run: Run, tmp_path: Path) -> Path:
    return entries.enter(run, own_method, "Ada L.", "One of each", alpha=1, images=IMAGES, folder=tmp_path / "board")


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge in this process, which is faster; that another one does the same is tested with recipes."""

    def here(source: str, base: Path, experts: list[Path]) -> TaskVector:
        loaded = [checkpoints.load(expert) for expert in experts]
        return recipes.update(recipes.method_of(source), checkpoints.load(base), loaded)

    monkeypatch.setattr(recipes, "update_apart", here)


def forged(file: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict, **stated: Any) -> Path:
    """Write an entry beside another one, with another model or other statements."""
    entry, state = entries.load(file)
    place = file.with_name(f"forged{len(list(file.parent.iterdir()))}.safetensors")
    checkpoints.save(place, change(state), dataclasses.asdict(entry) | stated)
    return place


def test_an_entry_states_what_is_so(run: Run, file: Path) -> None:
    entry, state = entries.load(file)
    assert file.name == "ada-l.safetensors"
    assert (entry.name, entry.words, entry.alpha, entry.images) == ("Ada L.", "One of each", 1.0, IMAGES)
    tasks = run.tasks(2)
    update = recipes.update(own_method, run.evaluator.base, [run.expert(task) for task in tasks])
    wanted = update.apply(run.evaluator.base)
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    assert entry.weights == checkpoints.state_digest(state)
    ratios = [
        run.evaluator.accuracy(state, task, "validation", IMAGES)
        / run.evaluator.accuracy(run.expert(task), task, "validation", IMAGES)
        for task in tasks
    ]
    assert entry.measured == pytest.approx(fmean(ratios))
    assert leaderboard.verified(file, run) == entry


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"name": ""}, "'name'"),
        ({"name": "a|b"}, "'name'"),
        ({"name": "x" * 41}, "'name'"),
        ({"words": ""}, "'words'"),
        ({"words": "two\nlines"}, "'words'"),
        ({"words": "a | b"}, "'words'"),
        ({"alpha": 0}, "'alpha'"),
        ({"alpha": float("nan")}, "'alpha'"),
        ({"alpha": 11}, "'alpha'"),
        ({"images": 0}, "'images'"),
    ],
)
def test_what_a_table_cannot_show_is_not_written(run: Run, tmp_path: Path, stated: dict[str, Any], words: str) -> None:
    given = {"name": "Ada", "words": "One of each", "alpha": 1.0, "images": IMAGES} | stated
    with pytest.raises(InputError, match=f"this entry: {words}"):
        entries.enter(run, own_method, folder=tmp_path / "board", **given)
    assert not (tmp_path / "board").exists()


def test_what_is_no_entry_is_told(file: Path, world: Path) -> None:
    expert = next((world / "data" / "cache" / "smoke" / "experts").glob("*.safetensors"))
    with pytest.raises(InputError, match="key"):
        entries.load(expert)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.*; write the entry again\."):
        entries.load(file)
    with pytest.raises(InputError, match=r"missing; write the entry again\."):
        entries.load(file.with_name("nobody.safetensors"))


def test_a_text_that_is_long_enough_for_weights_is_refused(file: Path) -> None:
    text = f"{recipes.source_of(own_method)}# {'x' * entries.LONGEST}\n"
    with pytest.raises(InputError, match="'source' has at most 4000 characters"):
        entries.load(forged(file, source=text))


def scaled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: 1.1 * tensor for key, tensor in state.items()}


def emptied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor * float("nan") for key, tensor in state.items()}


def without_one(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(list(state.items())[1:])


@pytest.mark.usefixtures("apart")
def test_what_is_not_so_is_refused(run: Run, file: Path) -> None:
    entry, state = entries.load(file)
    other = scaled(state)
    honest = {"weights": checkpoints.state_digest(other)}
    honest["measured"] = entries.normalised_accuracy(run, other, IMAGES)
    cases = [
        ("the digest that it states", forged(file, weights="0" * 64)),
        ("the digest that it states", forged(file, scaled)),
        (r"it states .* %, and its model has .* % on the same images", forged(file, measured=entry.measured + 0.02)),
        ("not what its method makes", forged(file, scaled, **honest)),
        ("not what its method makes", forged(file, alpha=1.2)),
        ("not what its method makes", forged(file, source="def own_method(deltas):\n    return deltas[0]\n")),
        ("own_method, on", forged(file, source="def own_method(deltas):\n    return 0\n")),
        ("none that smoke-b32 can take", forged(file, without_one)),
        ("none that smoke-b32 can take", forged(file, emptied)),
    ]
    for words, place in cases:
        with pytest.raises(InputError, match=words) as caught:
            leaderboard.verified(place, run)
        assert str(caught.value).startswith(f"{place}: ")


@pytest.mark.usefixtures("apart")
def test_what_differs_between_machines_is_not_held_against_an_entry(run: Run, file: Path) -> None:
    def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: tensor * (1 + 1e-6) for key, tensor in state.items()}

    digest = checkpoints.state_digest(rounded(entries.load(file)[1]))
    assert leaderboard.verified(forged(file, rounded, weights=digest), run).weights == digest


def test_seeds_that_students_have_are_not_hidden() -> None:
    with pytest.raises(InputError, match="seed 1: students have the experts of this seed"):
        leaderboard.hidden(SMOKE, [7, 1])
    unseen = leaderboard.hidden(SMOKE, [7, 8])
    assert [backbone.seeds for backbone in unseen.backbones] == [(7, 8)]
    assert inventory.manifest_file(unseen) not in (inventory.manifest_file(SMOKE), inventory.first_suite_file(SMOKE))


FAILING = "def own_method(deltas):\n    if SEEN:\n        return sum(deltas)\n    raise ValueError('new to me')\n"


@pytest.mark.slow
def test_places_are_what_methods_make_of_unseen_experts(
    world: Path, run: Run, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    liar = forged(file, measured=0.99, name="Liar")
    lists = {path: path.read_bytes() for path in inventory.manifest_files(SMOKE)}
    arguments = ["leaderboard", str(liar), str(file), "--seed", "7", "--seed", "8", "--profile", "smoke"]
    arguments += ["--methods", "3"]
    assert commands.main(arguments) == 0
    table = capsys.readouterr().out
    (row,) = re.findall(r"^\| 1 .*$", table, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "Ada L."
    assert cells[-2:] == ["One of each", entries.load(file)[0].weights[:12]]
    assert float(cells[2].split(" ± ")[0]) == pytest.approx(100 * fmean(unseen_accuracies()), abs=0.05)
    assert float(cells[2].split(" ± ")[1]) > 0
    assert table.count("for comparison") == 2
    assert f"Refused: {liar}: it states 99.0 %" in table
    assert table.rstrip().endswith(f"\n\nAda L.:\n\n{recipes.source_of(own_method).rstrip()}")
    assert table.count("def own_method") == 1
    assert {path: path.read_bytes() for path in lists} == lists


def unseen_accuracies() -> list[float]:
    """Return the normalised accuracy of the method for experts of each hidden seed, on test images."""
    found = []
    for run in runs.of(leaderboard.hidden(SMOKE, [7, 8])):
        tasks, base = run.tasks(2), run.evaluator.base
        state = recipes.update(own_method, base, [run.expert(task) for task in tasks]).apply(base)
        individual = evaluation.shares(run.individual("test", tasks))
        found.append(evaluation.normalised_accuracy(run.evaluator.accuracies(state, tasks, "test"), individual))
    return found


def test_a_method_that_fails_on_unseen_experts_costs_nobody_else_a_place(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Experts of seed 1 are as unseen as any to those who had seed 0.
    unseen = dataclasses.replace(
        SMOKE.first_suite(), backbones=(dataclasses.replace(SMOKE.backbones[0], seeds=(1,)),), part="+hidden-1"
    )
    known = [str(run.evaluator.world.expert("smoke-b32", task, 0)) for task in run.tasks(2)]

    def here(source: str, base: Path, experts: list[Path]) -> TaskVector:
        seen = str(list(map(str, experts)) == known)
        loaded = [checkpoints.load(expert) for expert in experts]
        return recipes.update(recipes.method_of(source.replace("SEEN", seen)), checkpoints.load(base), loaded)

    monkeypatch.setattr(recipes, "update_apart", here)
    base = run.evaluator.base
    added = recipes.update(lambda deltas: sum(deltas), base, [run.expert(task) for task in run.tasks(2)]).apply(base)
    stated = {"weights": checkpoints.state_digest(added), "measured": entries.normalised_accuracy(run, added, IMAGES)}
    failing = forged(file, lambda _: added, source=FAILING, **stated)
    ranking = leaderboard.rank([failing, file], run, unseen)
    assert ranking.refused == [f"{failing}: {ranking.refused[0].partition(': ')[2]}"]
    assert "ValueError: new to me" in ranking.refused[0]
    assert sorted(ranking.places.place) == ["-", "-", "1"]
    assert "0.0 ± 0.0" in list(ranking.places["behind the first (%)"])


def test_a_command_with_a_known_seed_says_so(capsys: pytest.CaptureFixture[str], world: Path) -> None:
    assert commands.main(["leaderboard", "nothing.safetensors", "--seed", "0", "--profile", "smoke"]) == 1
    assert "seed 0: students have the experts" in capsys.readouterr().err
