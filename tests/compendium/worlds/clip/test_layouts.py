# SPDX-License-Identifier: MIT
"""The layouts of open_clip and of transformers hold the same encoder: same features, and back without a change."""

import open_clip
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from compendium.worlds.clip import layouts

CONFIG = {"image_size": 32, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8}


@pytest.fixture
def ours() -> torch.nn.Module:
    torch.manual_seed(0)
    text = {"context_length": 8, "vocab_size": 50, "width": 64, "heads": 2, "layers": 1}
    return open_clip.CLIP(embed_dim=48, vision_cfg=CONFIG, text_cfg=text, quick_gelu=True).visual.eval()


@pytest.fixture
def state(ours: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"visual.{key}": tensor for key, tensor in ours.state_dict().items()}


def test_both_layouts_give_the_same_features(ours: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    config = CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8,
        projection_dim=48, hidden_act="quick_gelu",
    )  # fmt: skip
    theirs = CLIPVisionModelWithProjection(config).eval()
    there = layouts.split(state) | {"visual_projection.weight": state["visual.proj"].T}
    assert {key for key in theirs.state_dict() if not key.endswith("position_ids")} == there.keys()
    theirs.load_state_dict(there)
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(images).image_embeds, ours(images), rtol=1e-5, atol=1e-5)


def test_there_and_back_changes_nothing(state: dict[str, torch.Tensor]) -> None:
    back = layouts.fused(layouts.split(state), state["visual.proj"].T)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())


def test_what_is_missing_or_too_much_is_no_encoder(state: dict[str, torch.Tensor]) -> None:
    there = layouts.split(state)
    with pytest.raises(ValueError, match="pooler"):
        layouts.fused(there | {"vision_model.pooler.weight": torch.ones(1)}, state["visual.proj"].T)
    del there["vision_model.encoder.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(KeyError):
        layouts.fused(there, state["visual.proj"].T)
