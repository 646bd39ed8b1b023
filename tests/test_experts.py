# SPDX-License-Identifier: MIT
"""Experts are trained once, resumed after any interruption with the same bytes, and never trusted when damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tsvlib import checkpoints, experts, files, paths, profiles, training
from tsvlib.errors import InputError

SMOKE = profiles.load("smoke")

KILLED = """
import os, signal
from tsvlib import experts, training
whole = training.schedule
steps = []
def schedule(*arguments):
    steps.append(arguments)
    if len(steps) == 6:  # two steps per expert: in the middle of the third
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments)
training.schedule = schedule
experts.main(["train", "--profile", "smoke"])
"""


@pytest.fixture
def finished(trained: Path, output: Path) -> Path:
    """A copy of the finished run, in this test's output folder, that the test may damage."""
    shutil.copytree(trained, output)
    return output


@pytest.fixture
def first(finished: Path) -> Path:
    """The file of the first expert."""
    return experts.path(SMOKE, experts.inventory(SMOKE)[0])


def contents(output: Path) -> dict[str, str]:
    """The manifest and every expert's file by name, with its sha256."""
    cache = output / "data" / "cache" / "smoke"
    return {file.name: files.sha256(file) for file in (cache / "experts.json", *cache.glob("experts/*"))}


def run(code: str, output: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"TSV_OUTPUT": str(output), "PYTHONPATH": str(paths.ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_inventory_names_every_backbone_task_and_seed() -> None:
    names = [expert.name for expert in experts.inventory(SMOKE)]
    assert len(names) == len(set(names)) == 3 * (2 + 1)
    assert names[0] == "smoke-b32__mnist__0"
    assert [expert.seed for expert in experts.inventory(SMOKE.with_further_seeds(2)) if expert.backbone == "smoke-l14"][
        ::3
    ] == [0, 1, 2]


def test_a_finished_run_lists_every_file_with_its_sha256(finished: Path) -> None:
    listed = json.loads(experts.manifest_file(SMOKE).read_text())
    assert listed == {expert.name: files.sha256(experts.path(SMOKE, expert)) for expert in experts.inventory(SMOKE)}
    experts.check(SMOKE)


def test_a_second_run_changes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "finetune", None)
    before = experts.manifest_file(SMOKE).stat().st_mtime_ns
    assert experts.train_all(SMOKE) == experts.inventory(SMOKE)
    assert experts.manifest_file(SMOKE).stat().st_mtime_ns == before


def test_the_recipe_names_all_that_decides_the_bytes(first: Path) -> None:
    recipe = checkpoints.recipe(first)
    assert recipe.keys() == {"backbone", "base", "task", "data", "seed", "finetuning", "training.py", "models.py"}
    assert recipe["finetuning"]["learning_rate"] == SMOKE.finetuning.learning_rate


def test_killed_in_the_middle_it_continues_to_the_same_bytes(trained: Path, output: Path) -> None:
    killed = run(KILLED, output)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = output / "data" / "cache" / "smoke"
    assert len(list(folder.glob("experts/*.safetensors"))) == 2
    assert not (folder / "experts.json").exists()
    resumed = run(
        "import sys; from tsvlib import experts; sys.exit(experts.main(['train', '--profile', 'smoke']))", output
    )
    assert resumed.returncode == 0, resumed.stderr
    assert contents(output) == contents(trained)


def test_worker_processes_give_the_same_bytes(trained: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "WORTH_A_POOL", 0)
    experts.train_all(SMOKE)
    assert contents(output) == contents(trained)


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [Path.unlink, damaged])
def test_a_lost_or_damaged_expert_stops_the_check_and_is_trained_again(harm, output: Path, first: Path) -> None:
    before = contents(output)
    harm(first)
    with pytest.raises(InputError, match=f'{first}: .*run "make experts"'):
        experts.check(SMOKE)
    with pytest.raises(InputError, match=f'{first}: .*run "make experts"'):
        experts.load(SMOKE, "smoke-b32", "mnist", 0)
    experts.train_all(SMOKE)
    assert contents(output) == before


def test_other_hyperparameters_replace_only_what_they_concern(output: Path, first: Path) -> None:
    before = contents(output)
    recipe = checkpoints.recipe(first)
    checkpoints.save(first, checkpoints.load(first), recipe | {"seed": 99})
    experts.train_all(SMOKE)
    assert contents(output) == before


def test_the_manifest_is_absent_while_experts_are_replaced(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    first.unlink()
    monkeypatch.setattr(training, "finetune", fail)
    with pytest.raises(KeyboardInterrupt):
        experts.train_all(SMOKE)
    assert not experts.manifest_file(SMOKE).exists()
    experts.check(SMOKE)


def test_a_broken_manifest_is_named(finished: Path) -> None:
    experts.manifest_file(SMOKE).write_text("[]")
    with pytest.raises(InputError, match=r"experts\.json: not a list of experts"):
        experts.check(SMOKE)


def test_the_check_answers_without_torch(output: Path, first: Path) -> None:
    code = "import sys; from tsvlib import experts; status = experts.main(['check', '--profile', 'smoke'])\n"
    code += "assert 'torch' not in sys.modules; sys.exit(status)"
    assert run(code, output).returncode == 0
    first.unlink()
    answer = run(code, output)
    assert answer.returncode == 1
    assert answer.stderr == f"{first}: this expert is missing; {experts.REMEDY}.\n"


def test_an_unknown_profile_is_told_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert experts.main(["check", "--profile", "huge"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_killed_worker_is_told(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first.unlink()
    monkeypatch.setattr(experts, "WORTH_A_POOL", 0)
    monkeypatch.setattr(experts, "_start_worker", _die)
    with pytest.raises(InputError, match="was killed; make sure that there is enough memory"):
        experts.train_all(SMOKE)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
