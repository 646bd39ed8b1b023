# SPDX-License-Identifier: MIT
"""How far merged files are from what the published algorithm gives in float64."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench import layouts, literal
from tsvlib import progress
from tsvlib.checkpoints import Checkpoint, open_checkpoint

ROUNDED = "oracle, rounded"
"""The exact result in the type of the files: no float32 file can be closer, but by chance."""


def sample(shapes: layouts.Layout) -> list[str]:
    """Return the keys that are compared: all outside the blocks, and those of the first, middle and last block."""
    blocks = sorted({int(block) for key in shapes if (block := layouts.block(key))})
    chosen = {str(blocks[index]) for index in (0, len(blocks) // 2, -1)}
    return [key for key in shapes if layouts.block(key) in {"", *chosen}]


def errors(base: Path, experts: Sequence[Path], merged: Mapping[str, Path], keys: Sequence[str]) -> dict[str, float]:
    """Return by name the relative Frobenius error of merged updates (alpha 1), over the tensors ``keys``.

    The float64 result is made tensor by tensor. ``ROUNDED`` names its own error after rounding to float32.
    """
    start, ends = open_checkpoint(base), [open_checkpoint(path) for path in experts]
    candidates = {name: open_checkpoint(path) for name, path in merged.items()}
    squares = dict.fromkeys([*candidates, ROUNDED], 0.0)
    total = 0.0
    with progress.track(len(keys), "comparing with float64") as bar:
        for key in keys:
            weights = start.read(key).double()
            update = _update(weights, ends, key)
            total += float(update.square().sum())
            found = {name: candidate.read(key) for name, candidate in candidates.items()}
            found[ROUNDED] = (weights + update).float()
            for name, tensor in found.items():
                squares[name] += float((tensor.double() - weights - update).square().sum())
            bar.update()
    return {name: (square / total) ** 0.5 for name, square in squares.items()}


def _update(weights: Tensor, experts: Sequence[Checkpoint], key: str) -> Tensor:
    deltas = [expert.read(key).double() - weights for expert in experts]
    # Decomposing zeros exactly gives zeros.
    if not any(delta.any() for delta in deltas):
        return torch.zeros_like(weights)
    return literal.tsv_m([{key: delta} for delta in deltas])[key]
