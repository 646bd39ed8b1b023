# SPDX-License-Identifier: MIT
"""Devices, random matrices and task vectors, and the papers' algorithms in float64, transcribed line by line."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tsvlib.linalg import Factors

Array = npt.NDArray[np.float64]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")),
]


def matrix(rows: int, columns: int, seed: int) -> Tensor:
    """Return a float64 matrix of normal numbers."""
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    """Return a float64 matrix with orthonormal columns."""
    q: Tensor = torch.linalg.qr(matrix(rows, columns, seed)).Q
    return q


def flipped(factors: Factors, seed: int) -> Factors:
    """Return the same matrix with other signs of singular vectors."""
    signs = matrix(1, len(factors.s), seed).sign()
    return Factors(factors.u * signs, factors.s, factors.vh * signs.T)


def task_vectors(
    shapes: Mapping[str, tuple[int, ...]], n_tasks: int, seed: int, dtype: torch.dtype
) -> list[dict[str, Tensor]]:
    """Return the task vectors of a suite, all of normal numbers."""
    random = torch.Generator().manual_seed(seed)
    return [
        {key: torch.randn(shape, dtype=dtype, generator=random) for key, shape in shapes.items()}
        for _ in range(n_tasks)
    ]


def algorithm_1(deltas: Sequence[Array], floor: float = 0.0) -> Array:
    """Transcribe the paper's Algorithm 1 for one layer; components below ``floor`` times the largest are left out."""
    k = min(deltas[0].shape) // len(deltas)
    u_blocks, s_blocks, v_blocks = [], [], []
    for delta in deltas:
        u, s, vh = np.linalg.svd(delta, full_matrices=False)
        kept = min(k, int((s >= floor * s[0]).sum()))
        u_blocks.append(u[:, :kept])
        s_blocks.append(s[:kept])
        v_blocks.append(vh[:kept].T)
    u, sigma, v = np.hstack(u_blocks), np.diag(np.concatenate(s_blocks)), np.hstack(v_blocks)
    p_u, _, q_u = np.linalg.svd(u, full_matrices=False)
    p_v, _, q_v = np.linalg.svd(v, full_matrices=False)
    merged: Array = (p_u @ q_u) @ sigma @ (p_v @ q_v).T
    return merged


def equation_6(factors: Sequence[Factors]) -> Tensor:
    """Transcribe the matrix of Equation 6 of the paper, (UᵀU - I) Σ (VᵀV - I), for any factors of one layer."""
    sides = zip(*((f.u, f.s, f.vh.T) for f in factors), strict=True)
    u, s, v = (torch.cat(parts, -1).double() for parts in sides)
    identity = torch.eye(len(s), dtype=torch.float64)
    found: Tensor = (u.T @ u - identity) @ s.diag() @ (v.T @ v - identity)
    return found


def ties(vectors: Array, share: float, mean: bool) -> Array:
    """Transcribe Algorithm 1 of TIES on whole task vectors, one row per task, which have no equal magnitudes."""
    trimmed = np.zeros_like(vectors)
    for row, vector in zip(trimmed, vectors, strict=True):
        kept = np.argsort(-np.abs(vector))[: int(share * len(vector))]
        row[kept] = vector[kept]
    elected = np.sign(trimmed.sum(0))
    merged = np.zeros(vectors.shape[1])
    for p in range(vectors.shape[1]):
        agreeing = [row[p] for row in trimmed if row[p] != 0 and np.sign(row[p]) == elected[p]]
        if agreeing:
            merged[p] = np.mean(agreeing) if mean else np.sum(agreeing)
    return merged
