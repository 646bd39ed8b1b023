# SPDX-License-Identifier: MIT
"""Adapters on the command line: merged into models and into adapters, measured, compressed, planned."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import lora
import pandas as pd
import pytest
import small_models
import torch
from lora import PREFIX
from safetensors.torch import load_file, save_file
from torch import Tensor

import tsvlib
from tsvlib import checkpoints
from tsvlib.adapters import Adapter, open_expert
from tsvlib.cli import commands
from tsvlib.errors import InputError, LostUpdate

MODULES = {"q": (20, 12), "deep.v": (12, 18)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    random = torch.Generator().manual_seed(9)
    state = {f"{name}.weight": torch.randn(shape, generator=random) for name, shape in MODULES.items()}
    state |= {"q.bias": torch.randn(20), "head.weight": torch.randn(4, 12), "head.bias": torch.randn(4)}
    save_file(state, tmp_path / "base.safetensors")
    return tmp_path / "base.safetensors"


def adapters(folder: Path, count: int = 3, whole: bool = False, **settings: Any) -> list[Path]:
    """Write adapters of rank 2, which with ``whole`` have a bias, and tensors of the head, of their own."""
    paths = []
    for seed in range(count):
        tensors = lora.named(lora.pairs(MODULES, settings.get("r", 2), seed))
        if whole:
            random = torch.Generator().manual_seed(100 + seed)
            tensors[f"{PREFIX}q.base_layer.bias"] = torch.randn(20, generator=random)
            tensors[f"{PREFIX}head.weight"] = torch.randn(4, 12, generator=random)
        paths.append(lora.write(folder / f"adapter{seed}", tensors, **settings))
    return paths


def multiplied_out(folder: Path, base: Path, paths: list[Path]) -> list[Path]:
    """Write the experts that adapters make of the base as whole models."""
    opened, wholes = checkpoints.open_checkpoint(base), []
    for path in paths:
        expert = open_expert(path, opened)
        save_file({key: expert.read(key) for key in expert.layout}, folder / f"{path.name}.safetensors")
        wholes.append(folder / f"{path.name}.safetensors")
    return wholes


def near(one: Path, other: Path, share: float = 1e-5) -> None:
    found, expected = load_file(one), load_file(other)
    assert found.keys() == expected.keys()
    for key in expected:
        assert (found[key] - expected[key]).norm() <= share * expected[key].norm(), key


@pytest.mark.parametrize("method", ["tsv-m", "iso-c"])
@pytest.mark.parametrize("named", ["all", "some"])
def test_adapters_are_merged_as_the_models_that_they_make(tmp_path: Path, base: Path, method: str, named: str) -> None:
    paths = adapters(tmp_path, whole=True)
    wholes = multiplied_out(tmp_path, base, paths)
    given = paths if named == "all" else [wholes[0], *paths[1:]]
    tsvlib.merge(base, given, tmp_path / "m.safetensors", method=method, alpha=0.8)
    tsvlib.merge(base, wholes, tmp_path / "expected.safetensors", method=method, alpha=0.8)
    near(tmp_path / "m.safetensors", tmp_path / "expected.safetensors")


def test_adapters_are_measured_and_compressed_as_the_models_that_they_make(tmp_path: Path, base: Path) -> None:
    paths = adapters(tmp_path)
    wholes = multiplied_out(tmp_path, base, paths)
    for column in ("entrywise", "components"):
        found, expected = (tsvlib.interference(base, each, rank="2")[column] for each in (paths, wholes))
        pd.testing.assert_series_equal(found, expected, rtol=1e-4)
    # Of all components, those that rounding makes of nothing are no adapter's.
    assert list(tsvlib.interference(base, paths)["components"]) == [6, 0, 6]
    for column in ("norm", "stable_rank", "energy_0.9"):
        found, expected = (tsvlib.spectra(base, each)[column] for each in (paths, wholes))
        pd.testing.assert_series_equal(found, expected, rtol=1e-4)
    for name, each in (("thin", paths[0]), ("whole", wholes[0])):
        tsvlib.compress(base, each, tmp_path / f"{name}.tsvc.safetensors", rank="2")
        tsvlib.expand(base, tmp_path / f"{name}.tsvc.safetensors", tmp_path / f"{name}.safetensors")
    near(tmp_path / "thin.safetensors", tmp_path / "whole.safetensors")


def test_the_plan_tells_what_adapters_spare(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = adapters(tmp_path)
    thin = tsvlib.plan(base, paths, workers=1)
    dense = tsvlib.plan(base, multiplied_out(tmp_path, base, paths), workers=1)
    assert (thin.adapters, thin.cores, dense.adapters, dense.cores) == (3, 2, 0, 0)
    assert thin.flops < dense.flops
    assert thin.memory < dense.memory
    assert thin.bytes_read < dense.bytes_read
    assert "adapters" not in str(dense)
    commands.main(["plan", "--base", str(base), *(word for path in paths for word in ("--expert", str(path)))])
    said = capsys.readouterr().out
    assert re.search(
        r"^adapters    3 \(2 task matrices merged in their core by .*tsv-m.*; others multiplied out", said, re.M
    )


@pytest.mark.parametrize("method", ["tsv-m", "ties"])
@pytest.mark.parametrize("whole", [False, True])
def test_an_adapter_of_enough_rank_holds_the_whole_update(tmp_path: Path, base: Path, method: str, whole: bool) -> None:
    paths, out = adapters(tmp_path, whole=whole), tmp_path / "merged"
    tsvlib.merge(base, paths, out, method=method, alpha=0.7, as_adapter=14)
    tsvlib.merge(base, paths, tmp_path / "m.safetensors", method=method, alpha=0.7)
    found = open_expert(out, checkpoints.open_checkpoint(base))
    assert isinstance(found, Adapter)
    expected = load_file(tmp_path / "m.safetensors")
    for key, tensor in expected.items():
        torch.testing.assert_close(found.read(key), tensor, rtol=0, atol=1e-4)
    assert found.rank("q.weight") == found.settings.r == 14
    assert ("head.bias" in found.changed) == whole
    assert found.settings.scaling("q") == 1.0


def test_a_lower_rank_keeps_the_largest_components_and_tells_the_loss(tmp_path: Path, base: Path) -> None:
    paths, out = adapters(tmp_path), tmp_path / "merged"
    with pytest.warns(LostUpdate, match=r"^rank 2 lost \d\d % of the update; a higher rank keeps it\.$") as warned:
        tsvlib.merge(base, paths, out, as_adapter=2)
    tsvlib.merge(base, paths, tmp_path / "m.safetensors")
    found, start = open_expert(out, checkpoints.open_checkpoint(base)), load_file(base)
    merged, wanted, missed = load_file(tmp_path / "m.safetensors"), 0.0, 0.0
    for key in ("q.weight", "deep.v.weight"):
        u, s, vh = torch.linalg.svd((merged[key] - start[key]).double(), full_matrices=False)
        best = (u[:, :2] * s[:2]) @ vh[:2]
        torch.testing.assert_close(found.read(key).double() - start[key], best, rtol=0, atol=1e-4)
        wanted, missed = wanted + float(s.square().sum()), missed + float(s[2:].square().sum())
    assert f"lost {100 * (missed / wanted) ** 0.5:.0f} %" in str(warned[0].message)


def test_forms_of_weights_stay_as_they_were(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = {"emb.lora_embedding_A": (2, 11), "emb.lora_embedding_B": (9, 2), "turned.lora_A.weight": (2, 8)}
    shapes |= {"turned.lora_B.weight": (10, 2), "conv.lora_A.weight": (2, 6, 2, 2), "conv.lora_B.weight": (20, 2, 1, 1)}
    base = {
        "emb.weight": torch.zeros(11, 9),
        "turned.weight": torch.zeros(8, 10),
        "conv.weight": torch.zeros(20, 6, 2, 2),
    }
    save_file(base, tmp_path / "base.safetensors")
    paths = []
    for number in range(2):
        tensors = {f"{PREFIX}{name}": torch.randn(shape, generator=random) for name, shape in shapes.items()}
        paths.append(lora.write(tmp_path / str(number), tensors, fan_in_fan_out=True))
    tsvlib.merge(tmp_path / "base.safetensors", paths, tmp_path / "merged", as_adapter=4)
    tsvlib.merge(tmp_path / "base.safetensors", paths, tmp_path / "m.safetensors")
    found = open_expert(tmp_path / "merged", checkpoints.open_checkpoint(tmp_path / "base.safetensors"))
    names = load_file(tmp_path / "merged" / "adapter_model.safetensors").keys()
    assert names == {f"{PREFIX}{name}" for name in shapes}
    for key, tensor in load_file(tmp_path / "m.safetensors").items():
        torch.testing.assert_close(found.read(key), tensor, rtol=0, atol=1e-4)


def test_the_same_adapter_is_made_again_from_its_recipe(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = adapters(tmp_path)
    words = ["--base", base, *(word for path in paths for word in ("--expert", path))]
    assert commands.main([str(word) for word in ("merge", *words, "--as-adapter", 6, "--out", tmp_path / "one")]) == 0
    again = ["merge", "--recipe", tmp_path / "one" / "adapter_model.safetensors", "--look-in", tmp_path]
    again += ["--out", tmp_path / "two"]
    assert commands.main([str(word) for word in again]) == 0
    assert "These are the bytes of" in capsys.readouterr().out
    assert small_models.contents(tmp_path / "one") == small_models.contents(tmp_path / "two")
    settings = json.loads((paths[0] / "adapter_config.json").read_text())
    (paths[0] / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 5}))
    assert commands.main([str(word) for word in (*again[:-1], tmp_path / "three")]) == 1
    assert "is not the one that the recipe names" in capsys.readouterr().err


def refused(folder: Path, base: Path, paths: list[Path], reason: str, **options: Any) -> None:
    before = small_models.contents(folder)
    with pytest.raises(InputError, match=rf"^[^\n]*{reason}[^\n]*\.$"):
        tsvlib.merge(base, paths, folder / "merged", as_adapter=options.pop("rank", 2), **options)
    assert small_models.contents(folder) == before
    assert not list(folder.rglob("*.part"))


def test_what_one_adapter_cannot_hold_is_refused(tmp_path: Path, base: Path) -> None:
    paths = adapters(tmp_path)
    refused(tmp_path, base, paths, "0 is no rank of an adapter", rank=0)
    wholes = multiplied_out(tmp_path, base, paths)
    refused(tmp_path, base, [*paths, wholes[0]], "only adapters are merged into an adapter, and this is none")
    tensors = load_file(paths[1] / "adapter_model.safetensors")
    lora.write(paths[1], tensors | {f"{PREFIX}deep.scale": torch.ones(3)})
    save_file(load_file(base) | {"deep.scale": torch.zeros(3)}, base)
    refused(tmp_path, base, paths, "an adapter has no place for `deep.scale`")


def test_adapters_that_store_a_weight_in_two_ways_are_refused(tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"
    save_file({"s.weight": torch.zeros(8, 8)}, base)
    found = lora.named(lora.pairs({"s": (8, 8)}, 2, 0))
    paths = [lora.write(tmp_path / str(flag), found, fan_in_fan_out=flag) for flag in (False, True)]
    refused(tmp_path, base, paths, "`s.weight` is stored otherwise than in another adapter")


@pytest.mark.parametrize("there", ["file", "filled folder", "adapter"])
def test_nothing_that_is_there_is_replaced(tmp_path: Path, base: Path, there: str) -> None:
    paths = adapters(tmp_path)
    if there == "file":
        (tmp_path / "merged").write_text("earlier")
    elif there == "adapter":
        shutil.copytree(paths[0], tmp_path / "merged")
    else:
        (tmp_path / "merged" / "deep").mkdir(parents=True)
    refused(tmp_path, base, paths, "cannot be written")


def test_narrow_types_that_cannot_hold_an_adapter_are_told(tmp_path: Path, base: Path) -> None:
    paths = adapters(tmp_path, lora_alpha=1e12)
    refused(tmp_path, base, paths, "would hold numbers beyond", dtype="float16", rank=6)
    tsvlib.merge(base, paths, tmp_path / "merged", dtype="bfloat16", as_adapter=6)
    found = load_file(tmp_path / "merged" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}


def test_exploded_adapters_end_in_a_sentence(tmp_path: Path, base: Path) -> None:
    paths = adapters(tmp_path, lora_alpha=1e38)
    for path in paths:
        tensors = load_file(path / "adapter_model.safetensors")
        save_file({name: 1e20 * tensor for name, tensor in tensors.items()}, path / "adapter_model.safetensors")
    for method in ("tsv-m", "ties"):
        refused(tmp_path, base, paths, "by more than float32 can hold", method=method)


def test_the_error_of_a_folder_names_the_kind(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bad,) = adapters(tmp_path, count=1, use_dora=True)
    words = ["plan", "--base", str(base), "--expert", str(bad), "--expert", str(bad)]
    assert commands.main(words) == 1
    assert "so the adapter is DoRA, which is not known here; merge it into its base" in capsys.readouterr().err
    assert commands.main(["plan", "--base", str(bad), "--expert", str(base), "--expert", str(base)]) == 1
    assert "the folder holds an adapter, which changes a model and is none" in capsys.readouterr().err


def test_a_tensor_that_the_base_lacks_is_named(tmp_path: Path, base: Path) -> None:
    paths = adapters(tmp_path)
    tensors: dict[str, Tensor] = load_file(paths[1] / "adapter_model.safetensors")
    lora.write(paths[1], tensors | {f"{PREFIX}score.weight": torch.ones(3, 12)})
    with pytest.raises(InputError, match=r"lacks `score\.weight`"):
        tsvlib.plan(base, paths)
