# SPDX-License-Identifier: MIT
"""Small checkpoints on disk in the layout of real ones, and the paper's algorithm on them in float64."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsvlib import checkpoints, files

SHAPES = {
    "visual.attn.in_proj_weight": (24, 12),
    "visual.proj": (12, 15),
    "visual.conv1.weight": (8, 3, 2, 2),
    "visual.ln.bias": (5,),
    "token_embedding.weight": (9, 6),
    "text_projection": (6, 6),
    "logit_scale": (),
}
UNTRAINED = {"token_embedding.weight", "text_projection", "logit_scale"}
MATRICES = {"visual.attn.in_proj_weight", "visual.proj"}


def state(seed: int) -> dict[str, Tensor]:
    """Return the base (seed 0) or an expert, with a buffer of whole numbers as published models have one."""
    random = torch.Generator().manual_seed(0)
    base = {key: torch.randn(shape, generator=random) for key, shape in SHAPES.items()}
    random = torch.Generator().manual_seed(seed)
    changes = {
        key: 0.1 * torch.randn(tensor.shape, generator=random) * (seed > 0 and key not in UNTRAINED)
        for key, tensor in base.items()
    }
    return {key: base[key] + changes[key] for key in base} | {"visual.position_ids": torch.arange(7)[None]}


def trained(seed: int) -> dict[str, Tensor]:
    """Return the state without what fine-tuning leaves as it was."""
    return {key: tensor for key, tensor in state(seed).items() if key in SHAPES.keys() - UNTRAINED}


def write(folder: Path, n_experts: int = 3) -> tuple[Path, list[Path]]:
    """Write a base and experts as safetensors, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "base.safetensors", *(folder / f"expert{seed}.safetensors" for seed in range(1, n_experts + 1))]
    for seed, path in enumerate(paths):
        checkpoints.save(path, state(seed), {})
    return paths[0], paths[1:]


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder by its name."""
    return {str(path.relative_to(folder)): files.sha256(path) for path in folder.rglob("*") if path.is_file()}


def merged(
    n_experts: int, alpha: float, states: Sequence[dict[str, Tensor]] | None = None
) -> dict[str, npt.NDArray[np.float64]]:
    """Return base + alpha * Algorithm 1 in float64, tensors that are no task matrices averaged."""
    states = states or [state(seed) for seed in range(n_experts + 1)]
    base, *experts = ({key: tensor.double().numpy() for key, tensor in each.items()} for each in states)
    found = {}
    for key, start in base.items():
        deltas = [expert[key] - start for expert in experts]
        found[key] = start + alpha * (_matrix(deltas) if key in MATRICES else np.mean(deltas, axis=0))
    return found


def _matrix(deltas: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    k = min(deltas[0].shape) // len(deltas)
    parts = [np.linalg.svd(delta, full_matrices=False) for delta in deltas]
    u, v = np.hstack([u[:, :k] for u, _, _ in parts]), np.hstack([vh[:k].T for _, _, vh in parts])
    s = np.concatenate([s[:k] for _, s, _ in parts])
    (p_u, _, q_u), (p_v, _, q_v) = (np.linalg.svd(x, full_matrices=False) for x in (u, v))
    product: npt.NDArray[np.float64] = (p_u @ q_u) * s @ (p_v @ q_v).T
    return product
