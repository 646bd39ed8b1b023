# SPDX-License-Identifier: MIT
"""Tensors of every kind, and what tests of reading them expect."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsvlib.checkpoints import Checkpoint, TensorInfo, open_checkpoint
from tsvlib.errors import InputError

HUB = [
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
]
"""The names that model hubs give their files, those that are read first in front."""


def state() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "visual.proj": torch.randn(3, 4, generator=random),
        "a.weight": torch.randn(2, 3, generator=random).half(),
        "bf16": torch.randn(5, generator=random).bfloat16(),
        "double": torch.randn(2, dtype=torch.float64, generator=random),
        "logit_scale": torch.tensor(4.6),
        "none": torch.empty(0, 3),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "signed": torch.arange(-1, 2, dtype=torch.int8),
        "short": torch.arange(3, dtype=torch.int16),
        "int": torch.arange(3, dtype=torch.int32),
        "flags": torch.tensor([True, False, True]),
        "position_ids": torch.arange(7).reshape(1, 7),
    }


def same(checkpoint: Checkpoint, expected: dict[str, Tensor]) -> bool:
    """Tell whether a checkpoint announces and holds just these tensors."""
    layout = {key: TensorInfo(tensor.dtype, tuple(tensor.shape)) for key, tensor in sorted(expected.items())}
    return list(checkpoint.layout.items()) == list(layout.items()) and all(
        tensor.dtype == expected[key].dtype and torch.equal(tensor, expected[key])
        for key, tensor in ((key, checkpoint.read(key)) for key in checkpoint.layout)
    )


def refused(
    path: Path, reason: str, read: Callable[[Path], object] = open_checkpoint, where: Path | None = None
) -> str:
    """Expect one sentence that begins with the file, tells the reason and says what to do."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{where or path}: ")
    assert reason in message
    assert "; " in message
    assert message.endswith(".")
    assert "\n" not in message
    return message
