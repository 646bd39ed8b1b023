# SPDX-License-Identifier: MIT
"""The benchmarks of published models: names and shapes are the real ones, and a small model goes the same way."""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from bench import encoding, layouts, published, run, table, truesize
from bench.steps import Settings
from compendium.worlds.clip.sources import backbones, openclip
from compendium.worlds.clip.sources.openclip import TALL_MASKS
from tsvlib import checkpoints
from tsvlib.checkpoints import open_checkpoint
from tsvlib.errors import InputError

TOY = "toy"
SHAPES = layouts.layout(TOY)
Shapes = dict[str, tuple[int, ...]]


@pytest.fixture
def known() -> Iterator[None]:
    """open_clip describes the toy while a test runs."""
    published.introduce_toy()
    yield
    open_clip.factory._MODEL_CONFIG_PATHS.remove(published.TOY)
    del open_clip.factory._MODEL_CONFIGS[TOY]


@pytest.fixture
def settings(known: None, tmp_path: Path) -> Settings:
    return Settings(tmp_path / "bench", 1, device="cpu", encoders=(TOY,), images=4)


def loaded(file: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(file, weights_only=True)
    return state


@pytest.mark.parametrize("backbone", layouts.PUBLISHED)
def test_open_clip_has_the_names_and_shapes_of_the_published_files(backbone: str) -> None:
    published.check_described(backbone)
    shapes = backbones.published(backbone)
    assert (len(shapes), backbones.size(shapes) // 4) == layouts.PUBLISHED[backbone]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda shapes: shapes.pop("model.logit_scale"), "model.logit_scale"),
        (lambda shapes: shapes.update({"model.surplus": (3,)}), "model.surplus"),
        (lambda shapes: shapes.update({"model.visual.proj": (32, 64)}), "model.visual.proj"),
    ],
    ids=["missing", "surplus", "shape"],
)
def test_other_names_or_shapes_are_told_in_one_sentence(change: Callable[[Shapes], object], key: str) -> None:
    shapes = dict(SHAPES)
    change(shapes)
    with pytest.raises(InputError) as caught:
        layouts.check(TOY, shapes, "here")
    count = f"{len(SHAPES)} with {layouts.parameters(SHAPES):,} numbers"
    here = f"{len(shapes)} with {layouts.parameters(shapes):,} numbers"
    assert str(caught.value) == (
        f"here: `{key}` is not as in the published files of toy, whose tensors are {count}, and not {here}; "
        "install the packages of requirements.lock."
    )


def test_a_backbone_that_is_not_as_published_fails_before_anything_is_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(layouts.ENCODERS, TOY, replace(layouts.ENCODERS[TOY], embedding=31))
    with pytest.raises(InputError, match=r"^toy of open_clip: `model\.text_projection` is not as in the published"):
        truesize.models_at_true_size(settings)
    assert not settings.folder.exists()


def test_without_room_no_model_is_made(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6, 10))
    with pytest.raises(InputError, match=r"are needed and 0\.0 GB are free; free some space"):
        truesize.models_at_true_size(settings)
    assert not settings.folder.exists()


def test_files_are_those_that_the_world_reads(known: None, tmp_path: Path) -> None:
    published.write(tmp_path, TOY, 2)
    first, second = published.tasks(2)
    for task in (None, first, second):
        assert TALL_MASKS.look(tmp_path, TOY, task).state == "present"
    base = loaded(tmp_path / TOY / "MNISTVal" / "nonlinear_zeroshot.pt")
    experts = [loaded(tmp_path / TOY / f"{task}Val" / "nonlinear_finetuned.pt") for task in (first, second)]
    assert {key: tuple(tensor.shape) for key, tensor in base.items()} == SHAPES
    for expert in experts:
        changed = {key for key in base if not torch.equal(expert[key], base[key])}
        assert changed == set(layouts.visual(SHAPES))
    assert not torch.equal(experts[0]["model.visual.proj"], experts[1]["model.visual.proj"])
    whole = open_checkpoint(openclip.openai_file(tmp_path, TOY))
    assert all(torch.equal(whole.read(key.removeprefix(layouts.PREFIX)), base[key]) for key in base)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) == pytest.approx(
        published.size(TOY, 2), rel=0.02
    )


def test_the_random_numbers_of_others_go_on_as_they_were(known: None, tmp_path: Path) -> None:
    expected = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    published.write(tmp_path, TOY, 1)
    assert torch.equal(torch.randn(3), torch.randn(3, generator=expected))


def test_a_checkpoint_goes_all_the_way_to_classes(known: None, tmp_path: Path) -> None:
    published.write(tmp_path, TOY, 2)
    found = list(truesize.passed(tmp_path, TOY, 2, 3, torch.device("cpu"), 1))
    values = {quantity: value for quantity, value, _ in found}
    size = (tmp_path / TOY / TALL_MASKS.expert.format(task=published.tasks(1)[0])).stat().st_size
    assert list(values.values())[:3] == [len(SHAPES), layouts.parameters(SHAPES), size]
    # A difference of two times, which so few images leave to chance.
    left_to_chance = "fine-tuning, "
    assert all(math.isfinite(value) and (value > 0 or left_to_chance in key[2]) for key, value in values.items())
    assert found[-1][2] == "images a second"
    base, merged = (checkpoints.load(tmp_path / name) for name in ("read/base.safetensors", "merged.safetensors"))
    assert {key: tuple(tensor.shape) for key, tensor in merged.items()} == backbones.encoder(TOY, "open_clip")
    assert not any(torch.equal(base[key], merged[key]) for key in base)


def test_a_file_with_other_tensors_is_told(known: None, tmp_path: Path) -> None:
    published.write(tmp_path, TOY, 1)
    file = TALL_MASKS.files(tmp_path, TOY, published.tasks(1)[0])
    state = loaded(file)
    del state["model.visual.proj"]
    torch.save(state, file)
    with pytest.raises(InputError, match=r"nonlinear_finetuned\.pt: `model\.visual\.proj` is not as in the published"):
        list(truesize.passed(tmp_path, TOY, 1, 3, torch.device("cpu"), 1))


@pytest.mark.slow
def test_the_command_line_measures_both_on_a_small_model(
    known: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["encoding", "models", "--tiny", "--device", "cpu", "--workers", "1", "--experts", "3"]
    assert run.main([*names, "--folder", str(tmp_path)]) == 0
    rows = table.read(tmp_path / "results" / "bench.csv")
    values = {(row.step, row.case, row.quantity): row.value for row in rows}
    # A difference of two times, which so few images leave to chance.
    left_to_chance = "fine-tuning, "
    assert all(math.isfinite(value) and (value > 0 or left_to_chance in key[2]) for key, value in values.items())
    assert values["models", "toy, cpu", "numbers of a checkpoint"] == layouts.parameters(SHAPES)
    assert values["models", "setting", "experts"] == 3
    assert 0.1 < values["models", "toy, cpu", "peak memory"] < 8
    here = f"cpu, PyTorch {torch.__version__}"
    rates = {key[2] for key in values if key[:2] == ("encoding", here)}
    assert {"toy in float32, 1 in one pass", "toy in float32, 4 in one pass"} < rates
    assert any(rate.startswith("toy, fine-tuning, ") for rate in rates)
    # What is large goes again, and what was predicted stays.
    assert {path.name for path in tmp_path.iterdir()} == {"encoding", "results"}
    folders = [f"model-{number}" for number in range(max(encoding.TOGETHER))]
    assert all(list((tmp_path / "encoding" / name).iterdir()) for name in folders)
    assert capsys.readouterr().out.count("| case | quantity | value |") == 2


@pytest.mark.parametrize("step", ["encoding", "models"])
def test_a_device_that_is_not_there_is_told(
    known: None, step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.main([step, "--tiny", "--folder", str(tmp_path / "bench")]) == 1
    assert (
        capsys.readouterr().err == "this machine or this build of PyTorch has no cuda device; choose the device cpu.\n"
    )
    assert not (tmp_path / "bench").exists()
