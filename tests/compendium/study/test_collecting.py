# SPDX-License-Identifier: MIT
"""Each measurement is made once, kept under a name that says what it is of, and made by units of work."""

from pathlib import Path

import pytest
import torch

from compendium import paths, profiles
from compendium.study import collecting, runs, statistics
from compendium.study.collecting import collected
from tsvlib import checkpoints
from tsvlib.errors import InputError
from tsvlib.methods.base import Quantity

SMOKE = profiles.load("smoke")


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setenv("TSV_OUTPUT", str(trained))
    return next(runs.of(SMOKE))


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Quantity]:
    """Grows by one entry with each measurement; what is kept lies in a folder of the test's own."""
    made: list[Quantity] = []
    measure, cache = statistics.measure, paths.cache

    def noted(quantity, *arguments):
        made.append(quantity)
        return measure(quantity, *arguments)

    monkeypatch.setattr(statistics, "measure", noted)
    statistics_file = collecting._file

    def moved(run, quantity, task):
        return tmp_path / statistics_file(run, quantity, task).relative_to(cache(run.profile.name))

    monkeypatch.setattr(collecting, "_file", moved)
    return made


def test_what_was_measured_once_is_read_from_its_file(run: runs.Run, measurements: list[Quantity]) -> None:
    tasks = run.tasks(2)
    first, again = collected(run, "gram", tasks), collected(run, "gram", tasks)
    assert measurements == ["gram", "gram"]
    for task, one, two in zip(tasks, first, again, strict=True):
        direct = statistics.grams(
            run.evaluator.encoder.differentiable(), run.expert(task), run.unlabelled(task, statistics.COUNTS["gram"])
        )
        assert set(one) == set(two) == set(direct)
        assert len(one) == len(direct)
        for key, gram in direct.items():
            torch.testing.assert_close(one[key], gram)
            assert torch.equal(one[key], two[key])


def test_a_damaged_or_lost_file_costs_one_measurement(
    run: runs.Run, measurements: list[Quantity], tmp_path: Path
) -> None:
    collected(run, "inputs", run.tasks(3))
    kept = sorted(tmp_path.rglob("*.safetensors"))
    assert len(kept) == 3
    kept[0].unlink()
    collected(run, "inputs", run.tasks(3))
    assert len(measurements) == 4


def test_names_follow_what_is_measured_on_what(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    other = next(each for each in runs.of(SMOKE) if each.seed != run.seed)
    (first, second), quantities = run.tasks(2), ("fisher", "gram", "inputs")
    names = {collecting._file(run, quantity, first).name for quantity in quantities}
    names |= {collecting._file(run, "gram", second).name, collecting._file(other, "gram", first).name}
    monkeypatch.setitem(statistics.COUNTS, "gram", 7)
    names.add(collecting._file(run, "gram", first).name)
    assert len(names) == 6


def test_only_the_stated_number_of_inputs_is_looked_at(
    run: runs.Run, measurements: list[Quantity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(statistics.COUNTS, "inputs", 2)
    seen = []
    inputs = statistics.inputs
    monkeypatch.setattr(statistics, "inputs", lambda e, s, task: seen.append(len(task.inputs)) or inputs(e, s, task))
    collected(run, "inputs", run.tasks(1))
    assert seen == [2]


@pytest.mark.slow
def test_the_same_bytes_from_worker_processes(
    run: runs.Run, measurements: list[Quantity], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def kept() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in tmp_path.rglob("*.safetensors")}

    collected(run, "fisher", run.tasks(2))
    here = kept()
    for file in tmp_path.rglob("*.safetensors"):
        file.unlink()
    monkeypatch.setattr(collecting, "WORTH_A_POOL", 0)
    collected(run, "fisher", run.tasks(2))
    assert len(measurements) == 2, "the second time nothing is measured in this process"
    assert kept() == here


def test_a_unit_refuses_to_measure_with_another_encoder(run: runs.Run, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="encode otherwise than who asked them"):
        collecting.collect(SMOKE, run.backbone, "other", run.seed, "gram", run.tasks(1)[0], file)
    assert not file.exists()


def test_files_carry_their_name_so_that_one_tells_what_it_is(run: runs.Run, measurements: list[Quantity]) -> None:
    (kept,) = collected(run, "gram", run.tasks(1))
    assert isinstance(kept, collecting.Kept)
    path = kept.checkpoint.path
    assert checkpoints.recipe(path) == {"statistics": path.stem}
    with pytest.raises(KeyError):
        kept["no such tensor"]
