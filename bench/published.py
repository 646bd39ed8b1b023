# SPDX-License-Identifier: MIT
"""Checkpoints with random weights as TALL-masks published them, and the CLIP they began with as open_clip has it.

The models are open_clip's own, so names, shapes and folders are those that a reader will meet. Experts differ from the
base as in ``synthetic``: in all visual tensors, by matrices of decaying spectrum.
"""

from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from bench import layouts, synthetic
from compendium.worlds.clip import registry
from compendium.worlds.clip.sources import backbones, openclip
from compendium.worlds.clip.sources.openclip import TALL_MASKS
from tsvlib import checkpoints, files

TOY = Path(__file__).with_name("toy.json")


def introduce_toy() -> None:
    """Let open_clip, in this process, describe a small model that stands for the published ones in tests."""
    if open_clip.get_model_config(TOY.stem) is None:
        open_clip.add_model_config(TOY)


def check_described(backbone: str) -> None:
    """Raise InputError unless open_clip describes a backbone as the published files have it."""
    described = {layouts.PREFIX + key: shape for key, shape in backbones.published(backbone).items()}
    layouts.check(backbone, described, f"{backbone} of open_clip")


def tasks(experts: int) -> tuple[str, ...]:
    """Return the names of so many tasks, the first ones of the paper."""
    return tuple(registry.tasks())[:experts]


def size(backbone: str, experts: int) -> int:
    """Return how many bytes all files take."""
    return backbones.size(backbones.whole(backbone)) + (1 + experts) * backbones.size(backbones.published(backbone))


def write(folder: Path, backbone: str, experts: int) -> None:
    """Write a whole CLIP, the base and so many experts; the same random numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = open_clip.CLIP(**{**open_clip.get_model_config(backbone), "quick_gelu": True}).state_dict()
    checkpoints.save(openclip.openai_file(folder, backbone), whole, {"made by": "bench.published"}, durable=False)
    base = {layouts.PREFIX + key: tensor for key, tensor in whole.items() if not key.startswith("transformer.")}
    _save(base, folder / backbone / TALL_MASKS.base)
    for number, task in enumerate(tasks(experts), start=1):
        _save(_expert(base, number), folder / backbone / TALL_MASKS.expert.format(task=task))


def _expert(base: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """Return what the base becomes when its visual tensors are changed; the others are the very same."""
    return {
        key: tensor + synthetic.change(0, key, tuple(tensor.shape), number)
        if key.startswith(layouts.VISUAL)
        else tensor
        for key, tensor in base.items()
    }


def _save(state: Mapping[str, Tensor], file: Path) -> None:
    with files.replacing(file, durable=False) as draft, draft.open("wb") as stream:
        torch.save(dict(state), stream)
