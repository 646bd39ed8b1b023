# SPDX-License-Identifier: MIT
"""The real PEFT: its adapters are read as it merges them, and it loads what is written here."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import tsvlib
from tsvlib import checkpoints
from tsvlib.adapters import open_expert

peft = pytest.importorskip("peft", reason="PEFT, of the extra dev, is not installed")


class Model(nn.Module):
    """A layer of every kind that LoRA changes, and two that end in the same name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.lin, self.turned = nn.Embedding(19, 16), nn.Linear(16, 15), Conv1D(17, 16)
        self.conv, self.line = nn.Conv2d(5, 14, 2), nn.Conv1d(4, 13, 3)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)
        self.inner = nn.ModuleDict({"lin": nn.Linear(16, 15)})

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def trained(seed: int, **settings: Any) -> Any:
    """Return a PEFT model whose trainable weights are random."""
    with warnings.catch_warnings():
        # What PEFT says of fan_in_fan_out, which it then sets itself.
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(Model(), peft.LoraConfig(r=2, lora_alpha=5, **settings))
    torch.manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.3 * torch.randn_like(weight)
    return model


def saved(model: Any, folder: Path) -> Path:
    with warnings.catch_warnings():
        # It looks for the base's configuration, and tells that it stores embeddings.
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_file(Model().state_dict(), tmp_path / "base.safetensors")
    return tmp_path / "base.safetensors"


KINDS: dict[str, dict[str, Any]] = {
    "all kinds": {"target_modules": ["table", "turned", "conv", "line"], "fan_in_fan_out": True},
    "rsLoRA": {"target_modules": ["lin", "conv"], "use_rslora": True},
    "patterns": {"target_modules": ["lin", "table"], "rank_pattern": {"^lin": 4}, "alpha_pattern": {"inner.lin": 1}},
    "whole modules": {"target_modules": ["lin"], "modules_to_save": ["head", "norm"]},
    "all biases": {"target_modules": ["lin", "turned"], "modules_to_save": ["head"], "bias": "all"},
    "biases of LoRA's own": {"target_modules": ["lin", "line"], "bias": "lora_only"},
    "biases of B": {"target_modules": ["lin"], "lora_bias": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_peft_are_read_as_it_merges_them(tmp_path: Path, base: Path, kind: str) -> None:
    model = trained(1, **KINDS[kind])
    found = open_expert(saved(model, tmp_path / "adapter"), checkpoints.open_checkpoint(base))
    expected = model.merge_and_unload().state_dict()
    assert found.layout.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found.read(key), tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["tsv-m", "ties"])
def test_peft_loads_what_is_written(tmp_path: Path, base: Path, kind: str, method: str) -> None:
    experts = [saved(trained(seed, **KINDS[kind]), tmp_path / str(seed)) for seed in (1, 2)]
    tsvlib.merge(base, experts, tmp_path / "m.safetensors", method=method, alpha=0.7)
    tsvlib.merge(base, experts, tmp_path / "merged", method=method, alpha=0.7, as_adapter=16)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(Model(), str(tmp_path / "merged"))
    assert not [each for each in said if "fan_in_fan_out" not in str(each.message)]
    found, expected = loaded.merge_and_unload().state_dict(), load_file(tmp_path / "m.safetensors")
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["biases of LoRA's own", "whole modules"])
def test_what_peft_saves_again_is_the_same_adapter(tmp_path: Path, base: Path, kind: str) -> None:
    experts = [saved(trained(seed, **KINDS[kind]), tmp_path / str(seed)) for seed in (1, 2)]
    tsvlib.merge(base, experts, tmp_path / "merged", as_adapter=8)
    saved(peft.PeftModel.from_pretrained(Model(), str(tmp_path / "merged")), tmp_path / "again")
    opened = checkpoints.open_checkpoint(base)
    one, other = (open_expert(tmp_path / name, opened) for name in ("merged", "again"))
    assert all(torch.equal(one.read(key), other.read(key)) for key in opened.layout)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (lambda: peft.LoraConfig(target_modules=["lin"], use_dora=True), "DoRA"),
        (lambda: peft.LoraConfig(target_modules=["lin"], init_lora_weights="pissa"), "began as 'pissa'"),
        (lambda: peft.LoraConfig(target_modules=["lin"], trainable_token_indices={"table": [1]}), "trainable tokens"),
        (lambda: peft.LoHaConfig(target_modules=["lin"]), "'LOHA'"),
        (lambda: peft.LoKrConfig(target_modules=["lin"]), "'LOKR'"),
        (lambda: peft.IA3Config(target_modules=["lin"], feedforward_modules=[]), "'IA3'"),
        (lambda: peft.OFTConfig(target_modules=["lin"], oft_block_size=4), "'OFT'"),
        (lambda: peft.VeraConfig(target_modules=["lin"]), "'VERA'"),
    ],
)
def test_other_kinds_of_peft_are_refused_by_name(tmp_path: Path, base: Path, config: Any, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = saved(peft.get_peft_model(Model(), config()), tmp_path / "adapter")
    for path in (folder, folder / "adapter_model.safetensors"):
        with pytest.raises(tsvlib.InputError, match=reason):
            open_expert(path, checkpoints.open_checkpoint(base))


def test_fused_attention_counts_twice_in_peft_and_is_refused(tmp_path: Path) -> None:
    attention = nn.Sequential(nn.MultiheadAttention(6, 2))
    start = {key: x.clone() for key, x in attention.state_dict().items()}
    model = peft.get_peft_model(attention, peft.LoraConfig(r=2, lora_alpha=2, target_modules=["0"]))
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += torch.randn_like(weight)
    folder = saved(model, tmp_path / "adapter")
    stored = load_file(folder / "adapter_model.safetensors")
    a, b = (stored[f"base_model.model.0.base_layer.out_proj.lora_{side}.weight"] for side in "AB")
    merged = model.merge_and_unload().state_dict()
    # Once this fails, PEFT counts it once, and such adapters may be read.
    torch.testing.assert_close(merged["0.out_proj.weight"] - start["0.out_proj.weight"], 2 * b @ a)
    save_file(start, tmp_path / "base.safetensors")
    with pytest.raises(tsvlib.InputError, match="`0` is a fused attention layer"):
        open_expert(folder, checkpoints.open_checkpoint(tmp_path / "base.safetensors"))
