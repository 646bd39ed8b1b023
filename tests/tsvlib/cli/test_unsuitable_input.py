# SPDX-License-Identifier: MIT
"""Unsuitable input gets one sentence that names file, key and remedy, and changes nothing on disk."""

import os
import re
import shutil
from pathlib import Path

import pytest
import small_models
import torch

from tsvlib import checkpoints
from tsvlib.cli import commands, measurements, workflows
from tsvlib.cli.workflows import Inputs, Session
from tsvlib.errors import InputError


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, list[Path]]:
    return small_models.write(tmp_path / "models")


def changed(seed: int, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return small_models.state(seed) | {key.replace("__", "."): tensor for key, tensor in tensors.items()}


BROKEN = {
    "missing": ({k: t for k, t in small_models.state(2).items() if k != "logit_scale"}, "lacks `logit_scale`"),
    "extra": (changed(2, extra=torch.ones(2)), "lacks `extra`"),
    "misshapen": (changed(2, visual__proj=torch.ones(15, 12)), r"`visual\.proj` has shape \(15, 12\)"),
    "mixed": (changed(2, visual__proj=torch.ones(12, 15).int()), r"`visual\.proj` is of type torch\.int32"),
    "nan": (changed(2, visual__proj=torch.full((12, 15), float("nan"))), r"`visual\.proj`.* NaN or Inf"),
    "inf": (changed(2, visual__ln__bias=torch.full((5,), float("inf"))), r"`visual\.ln\.bias`.* NaN or Inf"),
    "quantised": (
        changed(2, visual__attn__in_proj_weight=torch.ones(24, 12).to(torch.int8)),
        r"`visual\.attn\.in_proj_weight` is of type torch\.int8, but torch\.float32 in .*; convert one of the two, or",
    ),
}


COMMANDS = {
    "merge": [1, 2, 3],
    "compress": [2],
    "interference": [1, 2],
    "spectra": [2],
    "plan": [1, 2],
}
# Values of tensors are not among what a plan looks at.
CASES = [
    (command, name) for command in COMMANDS for name in BROKEN if not (command == "plan" and name in ("nan", "inf"))
]


def output(folder: Path, command: str) -> Path:
    return folder / ("out.csv" if command in ("interference", "spectra") else "out.safetensors")


def refused(folder: Path, sentence: str, arguments: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that a command ends with a sentence, and that files are what they were."""
    before = small_models.contents(folder)
    assert commands.main([str(argument) for argument in arguments]) == 1
    *bars, said = capsys.readouterr().err.splitlines()
    assert re.search(sentence, said)
    assert said.endswith(".")
    assert not any("Traceback" in bar for bar in bars)
    assert small_models.contents(folder) == before
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize(("command", "name"), CASES)
def test_unsuitable_experts_are_named(
    models, tmp_path: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, experts = models
    state, sentence = BROKEN[name]
    checkpoints.save(experts[1], state, {})
    out = output(tmp_path, command)
    out.write_bytes(b"earlier")
    named = [word for number in COMMANDS[command] for word in ("--expert", experts[number - 1])]
    place = [] if command == "plan" else ["--out", out]
    refused(tmp_path, sentence, [command, "--base", base, *named, *place], capsys)


UNSOUND = r"expert2\.safetensors: the file is no complete and sound safetensors file"
DAMAGES = {
    "truncated": (lambda content: content[:-3], UNSOUND),
    "header": (lambda content: b"\x20" + content[1:], UNSOUND),
    "empty": (lambda content: b"", UNSOUND),
    "foreign": (lambda content: b"GIF89a" + bytes(100), UNSOUND),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", COMMANDS)
def test_damaged_experts_are_named(
    models, tmp_path: Path, command: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, experts = models
    change, sentence = DAMAGES[damage]
    experts[1].write_bytes(change(experts[1].read_bytes()))
    named = [word for number in COMMANDS[command] for word in ("--expert", experts[number - 1])]
    place = [] if command == "plan" else ["--out", output(tmp_path, command)]
    refused(tmp_path, sentence, [command, "--base", base, *named, *place], capsys)


def test_unsuitable_settings_are_told_and_nothing_is_written(models, tmp_path: Path) -> None:
    base, experts = models
    out, few, all_of = tmp_path / "out.safetensors", Inputs(base, experts[:1]), Inputs(base, experts)
    file = tmp_path / "file"
    file.write_text("")
    before = small_models.contents(tmp_path)
    for sentence, attempt in {
        "at least two experts, and there are 1": lambda: workflows.merge(few, out, "tsv-m", 1.0, Session()),
        "no merging method `tsvm`": lambda: workflows.merge(all_of, out, "tsvm", 1.0, Session()),
        "alpha is nan": lambda: workflows.merge(all_of, out, "tsv-m", float("nan"), Session()),
        "`0` is no rank": lambda: workflows.compress(few, out, "0", "float32", Session()),
        "`int8` is no type to write numbers in": lambda: workflows.compress(few, out, "1/8", "int8", Session()),
        "0 workers cannot work": lambda: workflows.merge(all_of, out, "tsv-m", 1.0, Session(workers=0)),
        "a part of the path is a file": lambda: workflows.merge(all_of, file / "out", "tsv-m", 1.0, Session()),
        "part of the path is a file": lambda: measurements.interference(all_of, file / "a" / "b", "1/2", Session()),
        "it is not empty; name a new folder": lambda: workflows.merge(all_of, tmp_path, "tsv-m", 1.0, Session()),
        "this is no TSV-C file": lambda: workflows.expand(few, experts[0], out, 1.0, Session()),
    }.items():
        with pytest.raises(InputError, match=sentence):
            attempt()
        assert small_models.contents(tmp_path) == before


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "plan"])
def test_what_lapack_finds_no_answer_for_is_named(
    models, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which numbers it gives up on depends on its version; on a root of what is negative, every one does."""
    base, experts = models
    for name in ("eigh", "svd"):
        monkeypatch.setattr(torch.linalg, name, lambda *_, **__: torch.linalg.cholesky(-torch.eye(2)))
    named = [word for number in COMMANDS[command] for word in ("--expert", experts[number - 1])]
    sentence = r"^`([\w.]+)`: its task matrices cannot be decomposed, .* or add `--leave-out \1`\.$"
    refused(tmp_path, sentence, [command, "--base", base, *named, "--out", output(tmp_path, command)], capsys)


def test_too_little_space_is_told_before_the_work(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(InputError, match=r"kB are needed and 100 B are free; free some space"):
        workflows.merge(Inputs(*models), tmp_path / "out.safetensors", "tsv-m", 1.0, Session())
    assert not (tmp_path / "out.safetensors").exists()


def test_damaged_and_foreign_factors_are_refused(models, tmp_path: Path) -> None:
    base, experts = models
    factors, out = tmp_path / "factors.safetensors", tmp_path / "out.safetensors"
    workflows.compress(Inputs(base, experts[:1]), factors, "1/2", "float32", Session())
    other = tmp_path / "other.safetensors"
    checkpoints.save(other, changed(0, logit_scale=torch.tensor(2.0)), {})
    with pytest.raises(InputError, match="compressed from another base"):
        workflows.expand(Inputs(other, []), factors, out, 1.0, Session())
    fewer = {key: tensor for key, tensor in small_models.state(0).items() if key != "logit_scale"}
    checkpoints.save(other, fewer, {})
    with pytest.raises(InputError, match="its tensors are not those of"):
        workflows.expand(Inputs(other, []), factors, out, 1.0, Session())
    content = bytearray(factors.read_bytes())
    content[-1] ^= 1
    factors.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.*compress the expert again"):
        workflows.expand(Inputs(base, []), factors, out, 1.0, Session())
    factors.write_bytes(content[:-5])
    with pytest.raises(InputError, match="complete and sound"):
        workflows.expand(Inputs(base, []), factors, out, 1.0, Session())
    assert not out.exists()


def test_names_that_factors_would_take_are_refused_before_the_work(
    models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, experts = models
    factors = tmp_path / "factors.safetensors"
    workflows.compress(Inputs(base, experts[:1]), factors, "1/2", "float32", Session())
    capsys.readouterr()
    for path, seed in ((base, 0), (experts[0], 1)):
        checkpoints.save(path, small_models.state(seed) | {"visual.proj:u": torch.ones(2)}, {})
    out = ["--out", tmp_path / "out.safetensors"]
    for arguments in (
        ["compress", "--base", base, "--expert", experts[0]],
        ["expand", "--base", base, "--factors", factors],
    ):
        refused(tmp_path, r"base\.safetensors: .*could not tell `visual\.proj:u` from", [*arguments, *out], capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_told_before_the_work(models, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot be written to; choose another one or change permissions"):
        workflows.merge(Inputs(*models), closed / "out.safetensors", "tsv-m", 1.0, Session())


def test_an_expert_that_changes_meanwhile_is_refused(models, tmp_path: Path) -> None:
    base, experts = models
    inputs = Inputs(base, experts)
    inputs.inspect(Session())
    checkpoints.save(experts[2], small_models.state(7), {})
    with pytest.raises(InputError, match=r"expert3\.safetensors: the file has changed since it was opened"):
        workflows.merge(inputs, tmp_path / "out.safetensors", "tsv-m", 1.0, Session())
    assert not (tmp_path / "out.safetensors").exists()
