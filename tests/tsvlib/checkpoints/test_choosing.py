# SPDX-License-Identifier: MIT
"""Which file a folder is read by, where there are variants, and what is said where there is none."""

import json
from pathlib import Path

import pytest
import torch
from foreign import HUB, refused, same, state
from safetensors.torch import save_file

from tsvlib.checkpoints import choosing, open_checkpoint


def variant(name: str, word: str) -> str:
    """Return the name of a variant, as transformers and diffusers write it."""
    if name.endswith(".index.json"):
        return name.replace(".index.json", f".index.{word}.json")
    stem, suffix = name.rsplit(".", 1)
    return f"{stem}.{word}.{suffix}"


def put(folder: Path, name: str, values: dict[str, torch.Tensor]) -> None:
    """Write a file of that name, and the only shard of an index."""
    folder.mkdir(exist_ok=True)
    save = save_file if "safetensors" in name else torch.save
    if name.endswith(".json"):
        shard = "shard-00001-of-00001.safetensors" if "safetensors" in name else "shard-00001-of-00001.bin"
        save(values, folder / shard)
        (folder / name).write_text(json.dumps({"weight_map": dict.fromkeys(values, shard)}))
    else:
        save(values, folder / name)


@pytest.mark.parametrize("name", HUB)
def test_the_only_variant_is_read_with_a_note(tmp_path: Path, name: str) -> None:
    put(tmp_path, variant(name, "fp16"), state())
    assert choosing.is_read_by(variant(name, "fp16"))
    checkpoint = open_checkpoint(tmp_path)
    assert same(checkpoint, state())
    assert checkpoint.notes == (f"{tmp_path}: of this model there is the variant fp16 alone, and it is read.",)
    assert same(open_checkpoint(tmp_path / variant(name, "fp16")), state())


@pytest.mark.parametrize("name", HUB)
def test_the_plain_model_is_read_before_its_variants(tmp_path: Path, name: str) -> None:
    for word in ("bf16", "fp16"):
        put(tmp_path, f"model.{word}.safetensors", {"other": torch.ones(2)})
    put(tmp_path, name, state())
    checkpoint = open_checkpoint(tmp_path)
    assert same(checkpoint, state())
    assert checkpoint.notes == ()


def test_of_several_variants_one_is_to_be_named(tmp_path: Path) -> None:
    for word in ("bf16", "fp16"):
        put(tmp_path, f"diffusion_pytorch_model.{word}.safetensors", state())
        put(tmp_path, f"diffusion_pytorch_model.{word}.bin", state())
    message = refused(tmp_path, "the folder holds several variants of a model; name ")
    for word in ("bf16", "fp16"):
        assert f"{tmp_path}/diffusion_pytorch_model.{word}.safetensors" in message


def test_a_pipeline_names_the_folders_of_its_models(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "scheduler").mkdir()
    for part, name in {"unet": "diffusion_pytorch_model.fp16.safetensors", "text_encoder": "model.safetensors"}.items():
        put(tmp_path / part, name, state())
    message = refused(tmp_path, "the folder holds no checkpoint itself, but folders that do; name ")
    assert message.endswith(f"{tmp_path}/text_encoder or {tmp_path}/unet.")


@pytest.mark.parametrize("name", ["cars.safetensors", "epoch=3.ckpt", "consolidated.00.pth", "model.pt", "model.bin"])
def test_a_file_of_another_name_is_to_be_named(tmp_path: Path, name: str) -> None:
    assert not choosing.is_read_by(name)
    (tmp_path / name).write_bytes(b"")
    refused(tmp_path, f"holds no checkpoint of a name that is known; name the file, such as {tmp_path / name}")


def test_a_link_that_leads_nowhere_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    put(tmp_path, "pytorch_model.bin", state())
    assert same(open_checkpoint(tmp_path), state())
