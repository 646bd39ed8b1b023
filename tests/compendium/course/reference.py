# SPDX-License-Identifier: MIT
"""Right answers to every exercise: those of the notebooks, and here those of assignments whose notebook is to come."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import torch
from torch import Tensor

from compendium import paths

Function = Callable[..., Any]
FOLDER = paths.ROOT / "notebooks" / "course"


def notebook(assignment: str) -> Path:
    """Return the source of an assignment, a0 to a4."""
    (found,) = FOLDER.glob(f"{assignment}_*.py")
    return found


def of_notebook(assignment: str) -> dict[str, Function]:
    """Return the functions of a notebook's solution cells by their names."""
    cells = [cell for cell in jupytext.read(notebook(assignment)).cells if cell.cell_type == "code"]
    solved = [cell.source for cell in cells if cell.metadata.get("nbgrader", {}).get("solution")]
    found: dict[str, Any] = {"torch": torch, "math": __import__("math")}
    for source in solved:
        exec(source, found)
    names = [node.name for source in solved for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {name: found[name] for name in names}


def polar(x: Tensor) -> Tensor:
    p, _, qh = torch.linalg.svd(x, full_matrices=False)
    return p @ qh


def side_by_side(blocks: list[Tensor]) -> Tensor:
    return torch.cat(blocks, dim=1)


def similarity(x: Tensor) -> Tensor:
    return x.mT @ x


def sti(u: Tensor, s: Tensor, v: Tensor) -> float:
    eye = torch.eye(len(s))
    return float(((u.mT @ u - eye) @ torch.diag(s) @ (v.mT @ v - eye)).abs().sum())


def whiten(x: Tensor) -> Tensor:
    values, q = torch.linalg.eigh(x.mT @ x)
    return x @ (q * values.rsqrt()) @ q.mT


def procrustes_error(x: Tensor) -> Tensor:
    return (torch.linalg.svdvals(x) - 1).square().sum().sqrt()


def ablation(deltas: list[Tensor], low_rank: bool, orthogonal: bool) -> Tensor:
    rank = min(deltas[0].shape)
    k = max(1, rank // len(deltas)) if low_rank else rank
    parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
    u = torch.cat([u[:, :k] for u, _, _ in parts], dim=1)
    s = torch.cat([s[:k] for _, s, _ in parts])
    v = torch.cat([vh[:k].mT for _, _, vh in parts], dim=1)
    if orthogonal:
        u, v = polar(u), polar(v)
    return (u * s) @ v.mT


def tsv_m(deltas: list[Tensor]) -> Tensor:
    return ablation(deltas, True, True)


def merge(base: dict[str, Tensor], experts: list[dict[str, Tensor]], alpha: float) -> dict[str, Tensor]:
    merged = {}
    for name, weight in base.items():
        deltas = [expert[name] - weight for expert in experts]
        is_matrix = weight.ndim == 2 and name != "text_projection"
        merged[name] = weight + alpha * (tsv_m(deltas) if is_matrix else sum(deltas) / len(deltas))
    return merged


def own_method(deltas: list[Tensor]) -> Tensor:
    total = torch.stack(deltas).sum(0)
    return total * (sum(delta.norm() for delta in deltas) / total.norm())


REFERENCES: dict[str, dict[str, Function]] = {
    **{assignment: of_notebook(assignment) for assignment in ("a0", "a1", "a2")},
    "a3": {function.__name__: function for function in (side_by_side, similarity, sti, whiten, procrustes_error)},
    "a4": {function.__name__: function for function in (tsv_m, merge, ablation, own_method)},
}
