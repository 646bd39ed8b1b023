# SPDX-License-Identifier: MIT
"""The command line: what it writes, what it says, how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch

from tsvlib import __main__, checkpoints, commands, paths

COMMANDS = ["plan", "merge", "compress", "expand", "interference", "spectra"]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options that name a base and three experts, as seen from the folder that they lie in."""
    monkeypatch.chdir(tmp_path)
    base, experts = small_models.write(Path("models"))
    return ["--base", str(base), *(word for expert in experts for word in ("--expert", str(expert)))]


def call(*arguments: str) -> int:
    try:
        return __main__.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(str(end.code))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_a_newcomer_what_and_how(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: python -m tsvlib {command} --base base.safetensors" in text
    for action in vars(commands.parser())["_subparsers"]._group_actions[0].choices[command]._actions:
        assert action.help, action.option_strings


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from tsvlib import commands; commands.parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False).returncode == 0


def test_merge_as_a_process(inputs: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tsvlib", "merge", *inputs, "--out", "m.safetensors"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(paths.ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    digest = checkpoints.digest(tmp_path / "m.safetensors")
    assert done.stdout == f"m.safetensors: 0.0 MB, digest {digest[:12]}.\n"
    assert "3 experts, 3 task matrices" in done.stderr
    expected = small_models.merged(3, 1.0)
    for key, tensor in checkpoints.load(tmp_path / "m.safetensors").items():
        np.testing.assert_allclose(tensor.double().numpy(), expected[key], rtol=1e-4, atol=1e-5)


def test_fixed_forms_write_what_they_promise(inputs: list[str], tmp_path: Path) -> None:
    one = inputs[:4]
    assert call("plan", *inputs) == 0
    assert call("merge", *inputs, "--method", "task-arithmetic", "--alpha", "0.3", "--out", "m.safetensors") == 0
    assert call("compress", *one, "--rank", "1/2", "--dtype", "float16", "--out", "f.safetensors") == 0
    assert call("expand", *one[:2], "--factors", "f.safetensors", "--out", "e.safetensors") == 0
    assert call("interference", *inputs, "--out", "sti.csv", "--store", "store") == 0
    assert call("spectra", *inputs, "--out", "spectra.csv", "--store", "store") == 0
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"models", "m.safetensors", "f.safetensors", "e.safetensors", "sti.csv", "spectra.csv", "store"}
    start, merged = small_models.state(0), checkpoints.load(tmp_path / "m.safetensors")
    total = sum(small_models.state(seed)["visual.proj"] - start["visual.proj"] for seed in (1, 2, 3))
    torch.testing.assert_close(merged["visual.proj"], start["visual.proj"] + 0.3 * total)


def test_a_store_is_listed_and_cleared(inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("merge", *inputs, "--out", "m.safetensors", "--store", "store", "--store-limit", "1") == 0
    capsys.readouterr()
    assert call("spectra", "--store", "store", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7  # two matrices of three experts, and the sum
    assert lines[-1].startswith("store: 6 decompositions")
    assert call("spectra", "--store", "store", "--clear") == 0
    assert "MB freed" in capsys.readouterr().out
    assert not list(Path("store").glob("*.safetensors"))


@pytest.mark.parametrize("command", ["merge", "compress", "expand"])
def test_a_recipe_makes_the_same_bytes_and_notices_a_changed_input(
    inputs: list[str], tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = inputs[:4]
    assert call("compress", *one, "--rank", "3", "--split-qkv", "--out", "compress.safetensors") == 0
    assert (
        call("expand", *one[:2], "--factors", "compress.safetensors", "--alpha", "0.5", "--out", "expand.safetensors")
        == 0
    )
    options = ("--method", "low-rank", "--alpha", "0.7", "--convolutions", "--out", "merge.safetensors")
    assert call("merge", *inputs, *options) == 0
    again = ("--recipe", f"{command}.safetensors", "--out", "again.safetensors")
    assert call(command, *again, "--workers", "3") == 0
    content = Path("again.safetensors").read_bytes()
    assert content == Path(f"{command}.safetensors").read_bytes()
    assert call(command, *again, *one[:2]) == 2
    assert "leave --base, --expert and --factors out" in capsys.readouterr().err
    checkpoints.save(tmp_path / "models" / "base.safetensors", small_models.state(9), {})
    assert call(command, *again) == 1
    assert "models/base.safetensors: the file is not the one that the recipe names" in capsys.readouterr().err
    assert Path("again.safetensors").read_bytes() == content


def test_a_recipe_of_another_command_is_refused(inputs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("merge", *inputs, "--out", "m.safetensors") == 0
    assert call("compress", "--recipe", "m.safetensors", "--out", "f.safetensors") == 1
    assert "it was not made by `compress`" in capsys.readouterr().err
    assert call("merge", "--recipe", "models/base.safetensors", "--out", "f.safetensors") == 1


WRONG = {
    2: [
        ["merge", "--out", "m"],
        ["merge", "--alfa", "1"],
        ["merge", "--alpha", "much"],
        ["melt"],
        [],
        ["spectra", "--list"],
        ["compress", "--base", "b", "--expert", "e", "--expert", "f", "--out", "o"],
        ["merge", "--base", "b", "--expert", "e", "--out", "o", "--workers", "0"],
        ["merge", "--base", "b", "--expert", "e", "--out", "o", "--store-limit", "0"],
    ],
    1: [
        ["merge", "--base", "nowhere.safetensors", "--expert", "e.safetensors", "--out", "o"],
        ["merge", "--base", "b", "--expert", "e", "--out", "o", "--device", "tpu"],
        ["plan", "--base", "models/base.safetensors", "--expert", "models/expert1.safetensors"],
    ],
}


@pytest.mark.parametrize(("code", "arguments"), [(code, each) for code, every in WRONG.items() for each in every])
def test_mistakes_get_a_sentence_and_change_nothing(
    inputs: list[str], tmp_path: Path, code: int, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = small_models.contents(tmp_path)
    assert call(*arguments) == code
    said = capsys.readouterr().err
    assert said.strip()
    assert "Traceback" not in said
    assert code == 2 or said.count("\n") == 1
    assert small_models.contents(tmp_path) == before


def test_ctrl_c_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run", interrupted)
    assert call("plan") == 130
    assert capsys.readouterr().err == "interrupted; nothing was written, and the same command starts again.\n"


def test_an_error_of_the_system_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: object) -> str:
        raise OSError(28, "No space left on device", "sti.csv")

    monkeypatch.setattr(commands, "run", full)
    assert call("plan") == 1
    assert capsys.readouterr().err.startswith("sti.csv: No space left on device; free space")
