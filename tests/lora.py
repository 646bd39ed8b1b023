# SPDX-License-Identifier: MIT
"""LoRA adapters on disk in the layout of PEFT, and what they change."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

PREFIX = "base_model.model."
Pairs = Mapping[str, tuple[Tensor, Tensor]]


def pairs(modules: Mapping[str, tuple[int, int]], rank: int, seed: int, dtype: torch.dtype = torch.float32) -> Pairs:
    """Return A (rank x inputs) and B (outputs x rank) for modules with weights of such shapes."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=dtype)

    return {name: (normal(rank, inputs), normal(outputs, rank)) for name, (outputs, inputs) in modules.items()}


def named(found: Pairs) -> dict[str, Tensor]:
    """Return pairs by the names that PEFT gives them."""
    first = {f"{PREFIX}{module}.lora_A.weight": a for module, (a, _) in found.items()}
    return first | {f"{PREFIX}{module}.lora_B.weight": b for module, (_, b) in found.items()}


def write(folder: Path, tensors: Mapping[str, Tensor], **settings: Any) -> Path:
    """Write an adapter of rank 2 and scaling 2, or as ``settings`` say, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": []} | settings
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder
