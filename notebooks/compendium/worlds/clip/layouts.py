# SPDX-License-Identifier: MIT
"""One image encoder in two layouts: queries, keys and values in one matrix (open_clip), or in three (transformers).

Task matrices, ranks and Procrustes problems differ between the two, and so do merged models.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

ATTENTION = ("q_proj", "k_proj", "v_proj")
PLAIN = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.(.+)")
LAYER = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.(.+)")


def split(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an encoder in open_clip's layout (``visual.*``) in that of transformers (``vision_model.*``).

    The projection, which transformers keeps outside of its image encoder, is left out.
    """
    return {name: tensor for key, whole in state.items() for name, tensor in _split(key, whole)}


def fused(state: Mapping[str, Tensor], projection: Float[Tensor, "embed width"]) -> dict[str, Tensor]:
    """Return an encoder in transformers' layout, with the projection of its CLIP, in that of open_clip (``visual.*``).

    KeyError when a tensor is missing, ValueError when there is one that no encoder has.
    """
    left = dict(state)
    found = {"visual.proj": projection.T.contiguous()}
    for theirs in tuple(state):
        if theirs in left:
            key, parts = _whole(theirs)
            found[key] = torch.cat([left.pop(part) for part in parts])
    return found


def _split(key: str, whole: Tensor) -> Iterator[tuple[str, Tensor]]:
    if key == "visual.proj":
        return
    if block := BLOCK.fullmatch(key):
        place, inside = f"vision_model.encoder.layers.{block[1]}.", block[2]
        if inside.startswith("attn.in_proj_"):
            end = inside.removeprefix("attn.in_proj_")
            yield from (
                (f"{place}self_attn.{name}.{end}", part) for name, part in zip(ATTENTION, whole.chunk(3), strict=True)
            )
        else:
            yield place + _renamed(inside, IN_BLOCK), whole
    else:
        yield f"vision_model.{_renamed(key.removeprefix('visual.'), PLAIN)}", whole


def _whole(theirs: str) -> tuple[str, list[str]]:
    """Return the name in open_clip's layout of what a tensor is, or is a part of, and the names of all its parts."""
    if layer := LAYER.fullmatch(theirs):
        place, inside = f"visual.transformer.resblocks.{layer[1]}.", layer[2]
        if inside.startswith("self_attn.") and not inside.startswith("self_attn.out_proj"):
            end = inside.rpartition(".")[2]
            own = theirs.removesuffix(inside)
            return f"{place}attn.in_proj_{end}", [f"{own}self_attn.{name}.{end}" for name in ATTENTION]
        return place + _renamed(inside, {theirs: ours for ours, theirs in IN_BLOCK.items()}), [theirs]
    ours = _renamed(theirs.removeprefix("vision_model."), {theirs: ours for ours, theirs in PLAIN.items()})
    return f"visual.{ours}", [theirs]


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """Return a name in other words; ValueError when it is none that an encoder has."""
    for begin, other in names.items():
        if name == begin or name.startswith(f"{begin}."):
            return other + name.removeprefix(begin)
    raise ValueError(name)
