# SPDX-License-Identifier: MIT
"""Small CLIPs with random weights, saved in the very layouts of the four sources of checkpoints.

``tiny_backbones`` gives the names of the paper's backbones to small models for as long as a block runs. The same
weights, a function of backbone and task alone, go into each layout. As with FusionBench's experts, their projection
and their text tower are those of the base.
"""

import json
import sys
import types
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip import factory
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPVisionModelWithProjection

from compendium.worlds.clip import layouts
from compendium.worlds.clip.sources.fusionbench import BASES, TASKS

TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
TINY: Mapping[str, dict[str, Any]] = {
    "ViT-B-32": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT},
    "ViT-B-16": {"embed_dim": 16, "vision_cfg": VISION | {"patch_size": 8}, "text_cfg": TEXT},
    "ViT-L-14": {"embed_dim": 24, "vision_cfg": VISION | {"width": 48, "layers": 3}, "text_cfg": TEXT},
}
"""What stands for the paper's backbones: as with these, the first two differ in nothing but their patches."""

_frozen = {"proj"}

MODELING = """
import torch

class Preprocess:
    def __init__(self, size):
        self.size, self.itself = size, self

class ImageEncoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.train_preprocess, self.val_preprocess = model, Preprocess(224), Preprocess(224)

class ClassificationHead(torch.nn.Linear):
    def __init__(self, normalize, weights):
        super().__init__(*reversed(weights.shape))
        self.normalize = normalize
        self.weight = torch.nn.Parameter(weights.clone())
        self.bias = torch.nn.Parameter(torch.zeros_like(self.bias))
"""
"""Stands for the code that files of Task Arithmetic were pickled with, and which nobody has when these are read."""


@contextmanager
def tiny_backbones(folder: Path, described: Mapping[str, dict[str, Any]] = TINY) -> Iterator[None]:
    """Let open_clip describe small models under these names while the block runs; writes their files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in described.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    try:
        yield
    finally:
        factory._MODEL_CONFIG_PATHS.remove(folder)
        for name in described:
            del factory._MODEL_CONFIGS[name]
        factory._rescan_model_configs()


@contextmanager
def projection_trained() -> Iterator[None]:
    """Let experts have a projection of their own while the block runs, as those of open_clip's layout have."""
    _frozen.clear()
    try:
        yield
    finally:
        _frozen.add("proj")


def clip(backbone: str, task: str | None) -> open_clip.CLIP:
    """Return the expert of a task, or the base for None."""
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(backbone.encode()))
        model = open_clip.CLIP(**open_clip.get_model_config(backbone), quick_gelu=True).eval()
        torch.manual_seed(zlib.crc32(f"{backbone} {task}".encode()))
        for name, parameter in model.visual.named_parameters():
            if task is not None and name not in _frozen:
                parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def encoder(backbone: str, task: str | None) -> dict[str, Tensor]:
    """Return the tensors of its image encoder (``visual.*``)."""
    return {key: tensor for key, tensor in clip(backbone, task).state_dict().items() if key.startswith("visual.")}


def head(backbone: str, task: str, classes: int = 3) -> Tensor:
    """Return a classifier that is a function of backbone and task."""
    embed = open_clip.get_model_config(backbone)["embed_dim"]
    return torch.randn(
        classes, embed, generator=torch.Generator().manual_seed(zlib.crc32(f"{backbone}{task}".encode()))
    )


def write_tall_masks(
    folder: Path, backbone: str, tasks: Sequence[str], *, zero_shot: bool = True, heads: bool = True
) -> None:
    """Write experts as TALL-masks and the paper's authors did, the base beside that of MNIST, and classifiers."""
    for task in tasks:
        _save(_published(backbone, task), folder / backbone / f"{task}Val" / "nonlinear_finetuned.pt")
        if heads:
            _save(_head(backbone, task), folder / backbone / f"head_{task}Val.pt")
    if zero_shot:
        _save(_published(backbone, None), folder / backbone / "MNISTVal" / "nonlinear_zeroshot.pt")


write_tsv = write_tall_masks


def write_openai(folder: Path, backbone: str) -> None:
    """Write the weights that all began with as the hub has them for open_clip: both towers, no prefix."""
    file = folder / backbone / "openai" / "open_clip_model.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(clip(backbone, None).state_dict(), file)


def write_task_arithmetic(folder: Path, backbone: str, tasks: Sequence[str]) -> None:
    """Write experts, base and classifiers as Task Arithmetic did: whole modules, with the code that made them."""
    for task in tasks:
        _save(_module(backbone, task), folder / backbone / task / "finetuned.pt")
        _save(_head(backbone, task), folder / backbone / f"head_{task}.pt")
    _save(_module(backbone, None), folder / backbone / "zeroshot.pt")


def write_fusion_bench(
    folder: Path, backbone: str, tasks: Sequence[str], *, owner: bool = True, pickled: bool = False, prefix: bool = True
) -> None:
    """Write experts and base as the hub has them for transformers.

    Without ``owner`` folders are named as after a clone; ``pickled`` is the older kind of file, with a buffer that has
    gone since; without ``prefix`` names begin as transformers has saved them since its version 5.
    """
    base = BASES.get(backbone, backbone)
    model = _transformers(backbone)
    model.save_pretrained(folder / "openai" / base if owner else folder / base)
    for task in tasks:
        place = (folder / "tanganke" if owner else folder) / f"{base}_{TASKS[task]}"
        place.mkdir(parents=True, exist_ok=True)
        model.config.vision_config.save_pretrained(place)
        state = layouts.split(encoder(backbone, task))
        state = {key if prefix else key.removeprefix("vision_model."): tensor for key, tensor in state.items()}
        if pickled:
            positions = state["vision_model.embeddings.position_embedding.weight"].shape[0]
            state["vision_model.embeddings.position_ids"] = torch.arange(positions)[None]
            torch.save(state, place / "pytorch_model.bin")
        else:
            own = {key: tensor.contiguous() for key, tensor in state.items()}
            save_file(own, place / "model.safetensors", metadata={"format": "pt"})


def features(backbone: str, state: Mapping[str, Tensor], images: Tensor, projection: Tensor | None = None) -> Tensor:
    """Return what an encoder makes of images in the library of its layout; with a projection, that is transformers."""
    if projection is None:
        model = clip(backbone, None).visual
        model.load_state_dict({key.removeprefix("visual."): tensor for key, tensor in state.items()})
        with torch.inference_mode():
            return model(images)
    theirs = CLIPVisionModelWithProjection(_transformers(backbone).config.vision_config).eval()
    theirs.load_state_dict({**state, "visual_projection.weight": projection}, strict=True)
    with torch.inference_mode():
        return theirs(images).image_embeds


def _published(backbone: str, task: str | None) -> dict[str, Tensor]:
    """Return the state dict of what the code of the paper trains: a CLIP without text layers, inside of a module."""
    model = clip(backbone, task)
    return {f"model.{key}": value for key, value in model.state_dict().items() if not key.startswith("transformer.")}


def _module(backbone: str, task: str | None) -> Any:
    model = clip(backbone, task)
    del model.transformer
    return "ImageEncoder", model


def _head(backbone: str, task: str) -> Any:
    return "ClassificationHead", True, head(backbone, task)


def _save(content: Any, file: Path) -> None:
    """Save a state dict, or a module that is named with what it is made of, whose code is gone afterwards."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        torch.save(content, file)
        return
    code = {"src": types.ModuleType("src"), "src.modeling": types.ModuleType("src.modeling")}
    assert not code.keys() & sys.modules.keys()
    sys.modules.update(code)
    try:
        exec(MODELING, code["src.modeling"].__dict__)
        name, *parts = content
        torch.save(getattr(code["src.modeling"], name)(*parts), file)
    finally:
        for name in code:
            del sys.modules[name]


def _transformers(backbone: str) -> CLIPModel:
    """Return the base in transformers' layout."""
    described, ours = open_clip.get_model_config(backbone), clip(backbone, None)
    vision, embed = described["vision_cfg"], described["embed_dim"]
    config = {
        "hidden_size": vision["width"], "intermediate_size": 4 * vision["width"],
        "num_hidden_layers": vision["layers"], "num_attention_heads": vision["width"] // vision["head_width"],
        "image_size": vision["image_size"], "patch_size": vision["patch_size"],
        "projection_dim": embed, "hidden_act": "quick_gelu",
    }  # fmt: skip
    text = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 50, "max_position_embeddings": 8, "projection_dim": embed}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    model = CLIPModel(CLIPConfig(vision_config=config, text_config=text, projection_dim=embed)).eval()
    there = layouts.split(encoder(backbone, None)) | {"visual_projection.weight": ours.visual.proj.data.T}
    left = model.load_state_dict(there, strict=False)
    assert not left.unexpected_keys
    assert all(key.startswith(("text_", "logit_scale")) for key in left.missing_keys)
    return model
