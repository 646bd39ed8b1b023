# SPDX-License-Identifier: MIT
"""The published CLIPs through open_clip: image encoders with given weights, and the text tower that makes heads.

OpenAI trained them with QuickGELU, x sigmoid(1.702 x), while the names that open_clip has for them stand for GELU. The
wrong one raises no error and costs points, so the right one is no option here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import VisionTransformer
from torch import Tensor

from compendium.worlds.clip import images
from tsvlib.checkpoints import open_checkpoint
from tsvlib.errors import InputError

TOGETHER = 256
"""Texts to embed at once."""


def image_encoder(backbone: str, state: Mapping[str, Tensor]) -> VisionTransformer:
    """Return an image encoder in evaluation mode that holds the very tensors of a state (names ``visual.*``).

    RuntimeError when ``state`` does not name exactly the encoder's tensors.
    """
    visual = empty_encoder(backbone)
    visual.load_state_dict({key.removeprefix("visual."): tensor for key, tensor in state.items()}, assign=True)
    return visual


def empty_encoder(backbone: str) -> VisionTransformer:
    """Return an image encoder in evaluation mode whose tensors have shapes and no content."""
    with torch.device("meta"):
        visual: VisionTransformer = _described(backbone).visual.eval().requires_grad_(False)
    return visual


def image_size(backbone: str) -> int:
    """Return the rows, and columns, of the images that a backbone reads."""
    return int(_config(backbone)["vision_cfg"]["image_size"])


def encode(visual: VisionTransformer, pixels: UInt8[Tensor, "n 3 size size"]) -> Float[Tensor, "n embed"]:
    """Return the normalised features of images, on the device of the encoder."""
    inputs = images.normalise(pixels, visual.proj.device)
    return torch.nn.functional.normalize(visual(inputs).float(), dim=-1)


def zero_shot_head(
    backbone: str, weights: Path, classes: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "classes embed"]:
    """Return the classifier that the text tower in a file makes of the names of classes, by the rule of the paper.

    Each row is the mean of the normalised embeddings of a class in all templates (``{}`` stands for its name), again
    normalised, times the exponential of the model's logit scale.

    Raises:
        InputError: the file is damaged, or holds no CLIP of that backbone.
    """
    model = _text_tower(backbone, weights)
    tokens = SimpleTokenizer(context_length=model.context_length)(
        [template.format(name) for name in classes for template in templates]
    )
    with torch.inference_mode():
        embedded = torch.cat([model.encode_text(part, normalize=True) for part in torch.split(tokens, TOGETHER)])
        mean = embedded.view(len(classes), len(templates), -1).mean(1)
        head: Tensor = torch.nn.functional.normalize(mean, dim=-1) * model.logit_scale.exp()
    return head.clone()


def _text_tower(backbone: str, weights: Path) -> CLIP:
    """Return a CLIP whose text tower has its weights; the image encoder, which makes no heads, has none."""
    opened = open_checkpoint(weights)
    with torch.device("meta"):
        model = _described(backbone).eval()
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if not key.startswith("visual.")}
    for key, shape in wanted.items():
        if key not in opened.layout or opened.layout[key].shape != shape:
            raise InputError(
                f"{weights}: `{key}` of the text tower of {backbone} is missing or has another shape; download the "
                "file again or choose another one."
            )
    model.load_state_dict({key: opened.read(key).float() for key in wanted}, strict=False, assign=True)
    mask = torch.full((model.context_length, model.context_length), float("-inf"))
    model.attn_mask = torch.triu(mask, diagonal=1)
    return model


def _described(backbone: str) -> CLIP:
    return CLIP(**{**_config(backbone), "quick_gelu": True})


def _config(backbone: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, dict[str, int]] | None = open_clip.get_model_config(backbone)
    if config is None:
        raise InputError(
            f"backbone {backbone}: open_clip describes no model of that name; choose ViT-B-32, ViT-B-16 or ViT-L-14."
        )
    return config
