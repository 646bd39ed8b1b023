# SPDX-License-Identifier: MIT
"""Which tensors a backbone has, by open_clip's description of it; nothing is loaded, and no number is made for that."""

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from compendium.worlds.clip import layouts
from compendium.worlds.clip.sources.protocol import Layout, Opened
from tsvlib.checkpoints.layout import TensorInfo
from tsvlib.errors import InputError
from tsvlib.precision import is_finite

Shape = tuple[int, ...]

EXACT = (torch.float32, torch.float16, torch.bfloat16)
"""Types whose numbers are also float32 numbers."""


def encoder(backbone: str, layout: Layout) -> dict[str, Shape]:
    """Return the shapes of the image encoder's tensors, named ``visual.*`` (open_clip) or ``vision_model.*``.

    Raises:
        InputError: open_clip describes no such backbone.
    """
    visual = {key: tensor for key, tensor in _described(backbone).items() if key.startswith("visual.")}
    held = visual if layout == "open_clip" else layouts.split(visual)
    return {key: tuple(tensor.shape) for key, tensor in held.items()}


def published(backbone: str) -> dict[str, Shape]:
    """Return the shapes of all that files of the paper hold: a CLIP without the layers of its text tower."""
    return {key: shape for key, shape in whole(backbone).items() if not key.startswith("transformer.")}


def whole(backbone: str) -> dict[str, Shape]:
    """Return the shapes of all tensors of a CLIP, both towers."""
    return {key: tuple(tensor.shape) for key, tensor in _described(backbone).items()}


def size(shapes: Mapping[str, Shape]) -> int:
    """Return how many bytes tensors take in float32.

    >>> size({"visual.proj": (3, 5), "logit_scale": ()})
    64
    """
    return 4 * sum(math.prod(shape) for shape in shapes.values())


def matched(
    file: Path, layout: Mapping[str, TensorInfo], wanted: Mapping[str, Shape], begin: str, spare: "re.Pattern[str]"
) -> dict[str, str]:
    """Return what a file calls each wanted tensor: its name after ``begin``.

    Args:
        file: named in errors.
        layout: of what is in the file.
        wanted: shapes of tensors that must be there.
        begin: in front of every name in the file, perhaps nothing.
        spare: names, without ``begin``, of what may be there as well.

    Raises:
        InputError: a tensor is missing, is not known, or has another shape or type, with file and name.
    """
    if missing := [key for key in wanted if begin + key not in layout]:
        raise InputError(f"{file}: `{begin}{missing[0]}` is missing; download the file again or choose another one.")
    if surplus := [key for key in layout if not _is_known(key, begin, wanted, spare)]:
        raise InputError(f"{file}: `{surplus[0]}` is not part of that backbone; choose another file.")
    for key, shape in wanted.items():
        found = layout[begin + key]
        if found.shape != shape:
            shapes = f"{_written(found.shape)}, but {_written(shape)} in that backbone"
            raise InputError(f"{file}: `{begin}{key}` is {shapes}; put a checkpoint of that backbone there.")
        if found.dtype not in EXACT:
            raise InputError(f"{file}: `{begin}{key}` has type {found.dtype}; save it anew as float32.")
    return {key: begin + key for key in wanted}


def read(file: Path, opened: Opened, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return tensors in float32 by our names for them; InputError, with file and name, at the first NaN or Inf."""
    found = {}
    for ours, theirs in names.items():
        found[ours] = opened.read(theirs).to(torch.float32)
        if not is_finite(found[ours]):
            raise InputError(f"{file}: `{theirs}` holds NaN or Inf; download the file again or choose another one.")
    return found


def _described(backbone: str) -> dict[str, Tensor]:
    import open_clip

    config = open_clip.get_model_config(backbone)
    if config is None:
        known = "ViT-B-32, ViT-B-16 or ViT-L-14"
        raise InputError(f"backbone {backbone}: open_clip describes no model of that name; choose {known}.")
    # By what is described, as names may be given to other models.
    return _tensors(json.dumps(config, sort_keys=True))


@cache
def _tensors(config: str) -> dict[str, Tensor]:
    import open_clip

    with torch.device("meta"):
        return dict(open_clip.CLIP(**json.loads(config)).state_dict())


def _is_known(key: str, begin: str, wanted: Mapping[str, Shape], spare: "re.Pattern[str]") -> bool:
    name = key.removeprefix(begin)
    return key.startswith(begin) and (name in wanted or spare.fullmatch(name) is not None)


def _written(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a single number"
