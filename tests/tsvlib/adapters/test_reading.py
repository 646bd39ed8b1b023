# SPDX-License-Identifier: MIT
"""Adapters are read as the experts that they make of their base, or refused with one sentence."""

import json
import re
from pathlib import Path
from typing import Any

import lora
import pytest
import torch
from lora import PREFIX
from safetensors.torch import save_file
from torch import Tensor

from tsvlib import checkpoints
from tsvlib.adapters import Adapter, open_expert
from tsvlib.errors import InputError

SHAPES = {"emb.weight": (9, 6), "lin.weight": (5, 6), "lin.bias": (5,), "wide.weight": (6, 8), "square.weight": (6, 6)}
SHAPES |= {"conv.weight": (4, 3, 2, 2), "head.weight": (3, 6), "head.bias": (3,), "norm.weight": (6,)}


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def state() -> dict[str, Tensor]:
    return {key: normal(*shape, seed=0) for key, shape in SHAPES.items()}


def opened(folder: Path, tensors: dict[str, Tensor], base: dict[str, Tensor] | None = None, **settings: Any) -> Adapter:
    save_file(base or state(), folder / "base.safetensors")
    named = {f"{PREFIX}{name}": x for name, x in tensors.items()}
    found = open_expert(lora.write(folder / "adapter", named, **settings), base_of(folder))
    assert isinstance(found, Adapter)
    return found


def base_of(folder: Path) -> checkpoints.Checkpoint:
    return checkpoints.open_checkpoint(folder / "base.safetensors")


def pair(module: str, outputs: int, inputs: int, rank: int = 2) -> dict[str, Tensor]:
    return {f"{module}.lora_A.weight": normal(rank, inputs), f"{module}.lora_B.weight": normal(outputs, rank)}


A, B = normal(2, 6), normal(5, 2)
KERNEL = normal(2, 3, 2, 2), normal(4, 2, 1, 1)
TABLE = normal(2, 9), normal(6, 2)
CHANGES: dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]] = {
    "linear": ({"lin.lora_A.weight": A, "lin.lora_B.weight": B}, {"lin.weight": 2 * B @ A}),
    "with the name of the adapter": (
        {"lin.lora_A.default.weight": A, "lin.lora_B.default.weight": B},
        {"lin.weight": 2 * B @ A},
    ),
    "stored as inputs x outputs": (
        {"wide.lora_A.weight": A, "wide.lora_B.weight": normal(8, 2)},
        {"wide.weight": 2 * (normal(8, 2) @ A).mT},
    ),
    "embedding": (
        {"emb.lora_embedding_A": TABLE[0], "emb.lora_embedding_B": TABLE[1]},
        {"emb.weight": 2 * (TABLE[1] @ TABLE[0]).mT},
    ),
    "kernel": (
        {"conv.lora_A.weight": KERNEL[0], "conv.lora_B.weight": KERNEL[1]},
        {"conv.weight": 2 * torch.einsum("orxy,riab->oiab", KERNEL[1], KERNEL[0])},
    ),
    "bias of B": (
        {"lin.lora_A.weight": A, "lin.lora_B.weight": B, "lin.lora_B.bias": normal(5)},
        {"lin.weight": 2 * B @ A, "lin.bias": 2 * normal(5)},
    ),
    "whole bias": (
        {"lin.lora_A.weight": A, "lin.lora_B.weight": B, "lin.base_layer.bias": normal(5)},
        {"lin.weight": 2 * B @ A, "lin.bias": normal(5) - state()["lin.bias"]},
    ),
    "saved modules": (
        {
            "head.weight": normal(3, 6),
            "head.bias": normal(3),
            "head.modules_to_save.bias": normal(3),
            "head.original_module.bias": normal(3, seed=9),
            "norm.modules_to_save.default.weight": normal(6),
        },
        {key: normal(*SHAPES[key]) - state()[key] for key in ("head.weight", "head.bias", "norm.weight")},
    ),
    "embedding saved beside its low rank": (
        {"emb.lora_embedding_A": TABLE[0], "emb.lora_embedding_B": TABLE[1], "emb.base_layer.weight": normal(9, 6)},
        {"emb.weight": normal(9, 6) - state()["emb.weight"] + 2 * (TABLE[1] @ TABLE[0]).mT},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_adapter_is_the_base_and_its_changes(tmp_path: Path, name: str) -> None:
    tensors, changes = CHANGES[name]
    found = opened(tmp_path, tensors)
    assert found.layout.keys() == SHAPES.keys()
    for key, start in state().items():
        assert found.layout[key].shape == start.shape
        torch.testing.assert_close(found.read(key), start + changes.get(key, 0), rtol=0, atol=2e-6)
        if found.is_thin(key) and (change := found.change(key)) is not None:
            torch.testing.assert_close(change.product().reshape(start.shape), changes[key], rtol=0, atol=1e-5)
    assert found.changed == changes.keys()


def test_an_embedding_that_is_saved_as_the_base_has_it_is_no_change(tmp_path: Path) -> None:
    tensors = CHANGES["embedding"][0] | {"emb.base_layer.weight": state()["emb.weight"]}
    assert opened(tmp_path, tensors).is_thin("emb.weight")
    assert not opened(tmp_path, CHANGES["embedding saved beside its low rank"][0]).is_thin("emb.weight")


def test_a_square_weight_is_stored_as_the_settings_say(tmp_path: Path) -> None:
    tensors = pair("square", 6, 6)
    product = 2 * tensors["square.lora_B.weight"] @ tensors["square.lora_A.weight"]
    for transposed, expected in ((False, product), (True, product.mT)):
        found = opened(tmp_path, tensors, fan_in_fan_out=transposed)
        torch.testing.assert_close(found.read("square.weight"), state()["square.weight"] + expected, rtol=0, atol=2e-6)
    told = opened(tmp_path, tensors | pair("wide", 8, 6), fan_in_fan_out=True)
    torch.testing.assert_close(told.read("square.weight"), state()["square.weight"] + product.mT, rtol=0, atol=2e-6)


def test_narrow_types_are_widened_before_anything_is_added(tmp_path: Path) -> None:
    base = {key: x.bfloat16() for key, x in state().items()}
    tensors = {name: x.half() for name, x in pair("lin", 5, 6).items()}
    found = opened(tmp_path, tensors, base)
    a, b = (x.float() for x in tensors.values())
    assert (found.layout["lin.weight"].dtype, found.layout["lin.bias"].dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(found.read("lin.weight"), base["lin.weight"].float() + 2 * b @ a, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("inside", "adapted"), [("bert.", ""), ("", "bert."), ("", "")])
def test_names_may_differ_by_one_leading_word(tmp_path: Path, inside: str, adapted: str) -> None:
    base = {f"{inside}{key}": x for key, x in state().items()}
    tensors = pair(f"{adapted}lin", 5, 6) | {f"{adapted}norm.weight": normal(6)}
    found = opened(tmp_path, tensors, base)
    assert found.changed == {f"{inside}lin.weight", f"{inside}norm.weight"}
    assert torch.equal(found.read(f"{inside}norm.weight"), normal(6))


def test_names_without_a_prefix_are_read(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "base.safetensors")
    found = open_expert(lora.write(tmp_path / "adapter", pair("lin", 5, 6)), base_of(tmp_path))
    assert isinstance(found, Adapter)
    assert found.slots["lin.weight"].names == ("lin.lora_A.weight", "lin.lora_B.weight")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_files_and_pickles_are_read_as_folders_are(tmp_path: Path, suffix: str) -> None:
    expected = opened(tmp_path, pair("lin", 5, 6)).read("lin.weight")
    folder = tmp_path / "adapter"
    if suffix == "bin":
        torch.save(checkpoints_of(folder), folder / "adapter_model.bin")
        (folder / "adapter_model.safetensors").unlink()
    for path in (folder, folder / f"adapter_model.{suffix}"):
        assert torch.equal(open_expert(path, base_of(tmp_path)).read("lin.weight"), expected)


def checkpoints_of(folder: Path) -> dict[str, Tensor]:
    stored = checkpoints.open_checkpoint(folder / "adapter_model.safetensors")
    return {name: stored.read(name) for name in stored.layout}


def test_settings_are_part_of_what_an_adapter_is(tmp_path: Path) -> None:
    one = opened(tmp_path, pair("lin", 5, 6))
    before = one.inspect()
    assert {file.name for file in one.files} == {"adapter_model.safetensors", "adapter_config.json"}
    assert opened(tmp_path, pair("lin", 5, 6), lora_alpha=5).inspect() != before
    assert opened(tmp_path, pair("lin", 5, 6)).inspect() == before


REFUSED: dict[str, tuple[dict[str, Tensor], dict[str, Any], str]] = {
    "another module": (pair("other", 5, 6), {}, "the adapter changes `other`, which the base does not hold"),
    "another size": (
        pair("lin", 4, 6),
        {},
        r"what `lin` adds has shape \(4, 6\), but `lin.weight` of the base \(5, 6\)",
    ),
    "half a pair": ({"lin.lora_A.weight": A}, {}, "`lin` has no pair of matrices"),
    "two kinds of pair": (pair("lin", 5, 6) | {"lin.lora_embedding_A": A}, {}, "`lin` has no pair of matrices"),
    "another rank": (pair("lin", 5, 6, rank=3), {}, "the matrices of `lin` have shapes .* and rank 2 in"),
    "ranks that differ": ({"lin.lora_A.weight": A, "lin.lora_B.weight": normal(5, 3)}, {}, "of `lin` have shapes"),
    "one dimension": ({"lin.lora_A.weight": normal(6), "lin.lora_B.weight": normal(5)}, {}, "of `lin` have shapes"),
    "whole numbers": ({"lin.lora_A.weight": A.long(), "lin.lora_B.weight": B}, {}, "is no matrix of LoRA"),
    "a bias of another size": (pair("lin", 5, 6) | {"lin.lora_B.bias": normal(4)}, {}, "but `lin.bias` of the base"),
    "a bias without a place": (pair("wide", 6, 8) | {"wide.lora_B.bias": normal(6)}, {}, "of the base nothing"),
    "DoRA": (pair("lin", 5, 6) | {"lin.lora_magnitude_vector": normal(5)}, {}, "the adapter is DoRA"),
    "AdaLoRA": (pair("lin", 5, 6) | {"lin.lora_E": normal(2, 1)}, {}, "the adapter is AdaLoRA"),
    "LoHa": ({"lin.hada_w1_a": normal(5, 2)}, {}, "the adapter is LoHa"),
    "IA3": ({"lin.ia3_l": normal(1, 6)}, {}, "the adapter is IA3"),
    "tokens": ({"emb.token_adapter.trainable_tokens_delta": normal(2, 6)}, {}, "the adapter is trainable tokens"),
    "PiSSA": (pair("lin", 5, 6), {"init_lora_weights": "pissa"}, "the adapter began as 'pissa'"),
    "a square weight that nothing tells of": (
        pair("lin", 5, 6) | pair("square", 6, 6),
        {"fan_in_fan_out": True},
        "is wrong for `lin.weight`, so nothing tells how the square `square.weight` is stored",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    tensors, settings, reason = REFUSED[name]
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}[^\n]*{reason}[^\n]*\.$"):
        opened(tmp_path, tensors, **settings)


def test_fused_attention_is_refused(tmp_path: Path) -> None:
    base = {"attn.in_proj_weight": normal(18, 6), "attn.out_proj.weight": normal(6, 6)}
    tensors = pair("attn", 18, 6) | pair("attn.base_layer.out_proj", 6, 6)
    with pytest.raises(InputError, match="`attn` is a fused attention layer"):
        opened(tmp_path, tensors, base)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (pair("lin", 5, 6), "no adapter_config.json beside it tells how its matrices count"),
        ({"lora_unet_x.lora_down.weight": A}, "the adapter is LoRA in the layout of kohya-ss"),
        ({"lin.lokr_w1": A}, "the adapter is LoKr"),
    ],
)
def test_a_file_without_settings_is_refused(tmp_path: Path, tensors: dict[str, Tensor], reason: str) -> None:
    save_file(state(), tmp_path / "base.safetensors")
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match=rf"lora\.safetensors: [^\n]*{reason}[^\n]*\.$"):
        open_expert(tmp_path / "lora.safetensors", base_of(tmp_path))


def test_a_folder_without_tensors_is_refused(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "base.safetensors")
    folder = lora.write(tmp_path / "adapter", pair("lin", 5, 6))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"the folder has adapter_config\.json but no adapter_model\.safetensors"):
        open_expert(folder, base_of(tmp_path))


def test_a_model_is_no_adapter_and_an_adapter_no_model(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "base.safetensors")
    assert not isinstance(open_expert(tmp_path / "base.safetensors", base_of(tmp_path)), Adapter)
    folder = lora.write(tmp_path / "adapter", pair("lin", 5, 6))
    with pytest.raises(InputError, match="the folder holds an adapter, which changes a model and is none"):
        checkpoints.open_checkpoint(folder)
    # A model that stands beside an adapter is what the folder was read by before there were adapters.
    save_file(state(), folder / "model.safetensors")
    assert not isinstance(open_expert(folder, base_of(tmp_path)), Adapter)


def test_a_model_with_names_of_lora_is_a_model(tmp_path: Path) -> None:
    save_file(state() | pair("lin", 5, 6), tmp_path / "base.safetensors")
    assert not isinstance(open_expert(tmp_path / "base.safetensors", base_of(tmp_path)), Adapter)


def test_an_infinite_number_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    tensors = pair("lin", 5, 6)
    tensors["lin.lora_A.weight"][0, 0] = torch.inf
    with pytest.raises(InputError, match=r"`base_model\.model\.lin\.lora_A\.weight` of .*adapter holds NaN or Inf"):
        opened(tmp_path, tensors).inspect()


def test_headers_and_settings_are_enough_to_open(tmp_path: Path) -> None:
    found = opened(tmp_path, CHANGES["embedding"][0] | pair("lin", 5, 6))
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    assert [found.rank(key) for key in ("emb.weight", "lin.weight", "norm.weight")] == [2, 2, 0]
    assert json.dumps(found.slots["emb.weight"].names) == json.dumps(
        [f"{PREFIX}emb.lora_embedding_A", f"{PREFIX}emb.lora_embedding_B"]
    )
