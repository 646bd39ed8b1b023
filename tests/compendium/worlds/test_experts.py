# SPDX-License-Identifier: MIT
"""Experts are trained once, resumed after any interruption with the same bytes, and never trusted when damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkout
import psutil
import pytest

from compendium import commands, engine, paths, profiles
from compendium.worlds import experts, inventory
from compendium.worlds.mini import training
from compendium.worlds.protocol import world_of
from tsvlib import checkpoints, files
from tsvlib.errors import InputError

SMOKE = profiles.load("smoke")

KILLED = """
import os, signal
from compendium import commands
from compendium.worlds import finetuning
whole = finetuning.schedule
steps = []
def schedule(*arguments):
    steps.append(arguments)
    if len(steps) == 8:  # three steps per expert: in the middle of the third
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments)
finetuning.schedule = schedule
commands.main(["train", "--profile", "smoke"])
"""

TRAIN = "import sys; from compendium import commands; sys.exit(commands.main(['train', '--profile', 'smoke']))"

UNENDING = """
import sys, time
from compendium import commands
from compendium.worlds import experts
experts.WORTH_A_POOL = 0
def train(profile, expert, recipe):
    from compendium import profiles
    from compendium.worlds import experts
    while expert == experts.all_of(profiles.load("smoke"))[-1]:
        time.sleep(1)
    experts.train(profile, expert, recipe)
experts.train = train
sys.exit(commands.main(["train", "--profile", "smoke"]))
"""


@pytest.fixture
def finished(trained: Path, output: Path) -> Path:
    """A copy of the finished run, in this test's output folder, that the test may damage."""
    shutil.copytree(trained, output)
    return output


@pytest.fixture
def first(finished: Path) -> Path:
    """The file of the first expert."""
    return inventory.path(SMOKE, experts.all_of(SMOKE)[0])


def contents(output: Path) -> dict[str, str]:
    """The manifest and every expert's file by name, with its sha256."""
    cache = output / "data" / "cache" / "smoke"
    return {file.name: files.sha256(file) for file in (cache / "experts.json", *cache.glob("experts/*"))}


def run(code: str, output: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"TSV_OUTPUT": str(output), "PYTHONPATH": checkout.roots()}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_inventory_names_every_backbone_task_and_seed() -> None:
    names = [expert.name for expert in experts.all_of(SMOKE)]
    assert len(names) == len(set(names)) == 3 * (2 + 1)
    assert names[0] == "smoke-b32__mnist__0"
    assert [expert.seed for expert in experts.all_of(SMOKE.with_further_seeds(2)) if expert.backbone == "smoke-l14"][
        ::3
    ] == [0, 1, 2]


def test_a_finished_run_lists_every_file_with_its_sha256(finished: Path) -> None:
    listed = json.loads(inventory.manifest_file(SMOKE).read_text())
    assert listed == {expert.name: files.sha256(inventory.path(SMOKE, expert)) for expert in experts.all_of(SMOKE)}
    inventory.check(SMOKE)


def test_a_second_run_changes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "finetune", None)
    before = inventory.manifest_file(SMOKE).stat().st_mtime_ns
    assert experts.train_all(SMOKE) == experts.all_of(SMOKE)
    assert inventory.manifest_file(SMOKE).stat().st_mtime_ns == before


def test_the_recipe_names_all_that_decides_the_bytes(first: Path) -> None:
    recipe = checkpoints.recipe(first)
    assert recipe.keys() == {
        "backbone",
        "base",
        "task",
        "data",
        "seed",
        "finetuning",
        "training.py",
        "models.py",
        "finetuning.py",
    }
    assert recipe["finetuning"]["learning_rate"] == SMOKE.finetuning.learning_rate


@pytest.mark.slow
def test_killed_in_the_middle_it_continues_to_the_same_bytes(trained: Path, output: Path) -> None:
    killed = run(KILLED, output)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = output / "data" / "cache" / "smoke"
    assert len(list(folder.glob("experts/*.safetensors"))) == 2
    assert not (folder / "experts.json").exists()
    resumed = run(TRAIN, output)
    assert resumed.returncode == 0, resumed.stderr
    assert contents(output) == contents(trained)


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes(trained: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "WORTH_A_POOL", 0)
    experts.train_all(SMOKE)
    assert contents(output) == contents(trained)


@pytest.mark.slow
def test_a_killed_worker_is_one_sentence_and_the_same_command_continues(trained: Path, output: Path) -> None:
    environment = os.environ | {"TSV_OUTPUT": str(output), "PYTHONPATH": checkout.roots()}
    folder, all_but_one = output / "data" / "cache" / "smoke", len(experts.all_of(SMOKE)) - 1
    words = [sys.executable, "-c", UNENDING]
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as training:
        while len(list(folder.glob("experts/*.safetensors"))) < all_but_one:
            assert training.poll() is None, training.communicate()[1]
            time.sleep(0.01)
        next(
            each for each in psutil.Process(training.pid).children() if "popen_loky" in " ".join(each.cmdline())
        ).kill()
        said = training.communicate()[1].splitlines()
    assert training.returncode == 1
    assert said[-1].startswith("a worker process was killed; make sure that there is enough memory")
    finished = {file: file.stat().st_mtime_ns for file in folder.glob("experts/*.safetensors")}
    resumed = run(TRAIN, output)
    assert resumed.returncode == 0, resumed.stderr
    assert finished.items() <= {file: file.stat().st_mtime_ns for file in folder.glob("experts/*.safetensors")}.items()
    assert contents(output) == contents(trained)


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [Path.unlink, damaged])
def test_a_lost_or_damaged_expert_stops_the_check_and_is_trained_again(harm, output: Path, first: Path) -> None:
    before = contents(output)
    harm(first)
    with pytest.raises(InputError, match=f"{first}: .*run `make experts PROFILE=smoke .*` to make it again"):
        inventory.check(SMOKE)
    with pytest.raises(InputError, match=rf"{first}: .*run `make experts PROFILE=smoke .*` to train it( again)?\.$"):
        world_of(SMOKE).expert("smoke-b32", "mnist", 0)
    experts.train_all(SMOKE)
    assert contents(output) == before


def test_other_hyperparameters_replace_only_what_they_concern(output: Path, first: Path) -> None:
    before = contents(output)
    recipe = checkpoints.recipe(first)
    checkpoints.save(first, checkpoints.load(first), recipe | {"seed": 99})
    experts.train_all(SMOKE)
    assert contents(output) == before


def test_the_manifest_is_absent_while_experts_are_replaced(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first.unlink()
    monkeypatch.setattr(training, "finetune", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        experts.train_all(SMOKE)
    assert not inventory.manifest_file(SMOKE).exists()
    inventory.check(SMOKE)


def test_what_was_never_trained_is_not_to_be_trained_again(
    output: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"to train it\.$"):
        world_of(SMOKE).expert("smoke-b32", "mnist", 0)
    monkeypatch.delenv("TSV_OUTPUT")
    monkeypatch.setattr(paths, "build", lambda: tmp_path)
    with pytest.raises(InputError, match=r"run `make experts PROFILE=smoke` to train it\.$"):
        world_of(SMOKE).expert("smoke-b32", "mnist", 0)
    with pytest.raises(InputError, match=r"run `make experts PROFILE=smoke FURTHER_SEEDS=2` to train it\.$"):
        world_of(SMOKE.with_further_seeds(2)).expert("smoke-b32", "mnist", 3)


def test_the_experts_of_the_first_suite_are_a_finished_part(trained: Path, output: Path) -> None:
    assert commands.main(["train", "--profile", "smoke", "--first-suite"]) == 0
    few = experts.all_of(SMOKE.first_suite())
    assert few == (inventory.Expert("smoke-b32", "mnist", 0), inventory.Expert("smoke-b32", few[1].task, 0))
    assert {file.name for file in inventory.folder(SMOKE).iterdir()} == {f"{each.name}.safetensors" for each in few}
    assert not inventory.manifest_file(SMOKE).exists()
    inventory.check(SMOKE)
    before = inventory.first_suite_file(SMOKE).stat().st_mtime_ns
    assert commands.main(["train", "--profile", "smoke"]) == 0
    assert inventory.first_suite_file(SMOKE).stat().st_mtime_ns == before
    assert contents(output) == contents(trained)


@pytest.mark.parametrize(("task", "left"), [("mnist", set()), ("last", {"experts-first_suite.json"})])
def test_lists_that_name_an_expert_go_while_it_is_replaced(
    task: str, left: set[str], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts.train_first_suite(SMOKE)
    task = experts.all_of(SMOKE)[-1].task if task == "last" else task
    inventory.path(SMOKE, inventory.Expert("smoke-b32", task, 0)).unlink()
    monkeypatch.setattr(training, "finetune", _interrupted)
    assert commands.main(["train", "--profile", "smoke"]) == 130
    assert {file.name for file in inventory.folder(SMOKE).parent.glob("*.json")} == left


def test_further_seeds_have_a_list_of_their_own(finished: Path) -> None:
    before = inventory.manifest_file(SMOKE).read_bytes()
    assert commands.main(["train", "--profile", "smoke", "--further-seeds", "1"]) == 0
    listed = json.loads((inventory.folder(SMOKE).parent / "experts-further_seeds-1.json").read_text())
    assert listed.keys() == {expert.name for expert in experts.all_of(SMOKE.with_further_seeds(1))}
    assert inventory.manifest_file(SMOKE).read_bytes() == before


def test_the_list_of_a_part_is_not_that_of_the_whole(finished: Path) -> None:
    part, whole = profiles.load("smoke", "smoke-b32", "2"), inventory.manifest_file(SMOKE)
    before = whole.read_bytes()
    chosen = ["train", "--profile", "smoke", "--backbones", "smoke-b32", "--suites", "2"]
    assert commands.main(chosen) == 0
    listed = json.loads((whole.parent / "experts+backbones-smoke-b32+suites-2.json").read_text())
    assert listed.keys() == {expert.name for expert in experts.all_of(part)}
    assert inventory.first_suite_file(part).name == "experts-first_suite+backbones-smoke-b32+suites-2.json"
    assert whole.read_bytes() == before
    whole.unlink()
    assert commands.main(chosen) == 0
    assert not whole.exists()


def test_a_broken_manifest_is_named(finished: Path) -> None:
    inventory.manifest_file(SMOKE).write_text("[]")
    with pytest.raises(InputError, match=r"experts\.json: not a list of experts"):
        inventory.check(SMOKE)


def test_the_check_answers_without_torch(output: Path, first: Path) -> None:
    code = (
        "import sys; from compendium import commands; status = commands.main(['check-experts', '--profile', 'smoke'])\n"
    )
    code += "assert 'torch' not in sys.modules; sys.exit(status)"
    assert run(code, output).returncode == 0
    first.unlink()
    answer = run(code, output)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"{first}: this expert is missing; run `make experts PROFILE=smoke ")
    assert answer.stderr.count("\n") == 1


def test_an_unknown_profile_is_told_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["check-experts", "--profile", "huge"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_killed_worker_is_told(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first.unlink()
    monkeypatch.setattr(experts, "WORTH_A_POOL", 0)
    monkeypatch.setattr(engine, "_leave_interrupts", _die)
    with pytest.raises(InputError, match="was killed; make sure that there is enough memory"):
        experts.train_all(SMOKE)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
