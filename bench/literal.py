# SPDX-License-Identifier: MIT
"""The published algorithm, word for word: the measure of speed in float32, and of exactness in float64.

Merging does step by step what the released code does (its ``compute_and_sum_svd_mem_reduction``): all checkpoints and
all task vectors are in memory at once; every two-dimensional tensor but the text projection is decomposed in full for
every task, never-trained ones too; the kept components go side by side into buffers of full size, the rest of which
stays zero; their polar factors come from two more full decompositions; the product has a dense diagonal matrix;
everything else is a running mean. Truncation decomposes again for each fraction, as the released scripts do.

No code for singular task interference was released. What stands here is Equation 6 of the paper, written as one
would who has all singular vectors in memory: the diagonal matrix scales columns, for a dense one would double the work.
Nothing here is meant to be good.

``python -m bench.literal --base W0 --expert W1 --expert W2 --out M.safetensors`` merges files.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import click
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

Matrix = Float[Tensor, "rows columns"]
StateDict = dict[str, Tensor]
DTYPES = {"float32": torch.float32, "float64": torch.float64}
_FILE = click.Path(path_type=Path)
FRACTIONS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Of singular components, at which the paper measures accuracy (Fig. 2)."""


def task_vectors(base: StateDict, experts: Sequence[StateDict], dtype: torch.dtype) -> list[StateDict]:
    """Return expert minus base for every expert and every tensor, all at once."""
    return [{key: expert[key].to(dtype) - start.to(dtype) for key, start in base.items()} for expert in experts]


def is_matrix(key: str, tensor: Tensor) -> bool:
    """Tell whether TSV-M decomposes a tensor."""
    return tensor.dim() == 2 and "text_projection" not in key


def tsv_m(vectors: Sequence[StateDict]) -> StateDict:
    """Return the update of TSV-M, in the type of the task vectors."""
    update = {}
    for key, first in vectors[0].items():
        merge = tsv_m_matrix if is_matrix(key, first) else running_mean
        update[key] = merge([vector[key] for vector in vectors])
    return update


def tsv_m_matrix(deltas: Sequence[Matrix]) -> Matrix:
    """Return the update of one task matrix (Algorithm 1)."""
    rows, columns = deltas[0].shape
    rank = min(rows, columns)
    k = int(rank * (1 / len(deltas)))
    sum_u, sum_s, sum_v = (deltas[0].new_zeros(shape) for shape in ((rows, rank), (rank,), (rank, columns)))
    for task, delta in enumerate(deltas):
        u, s, v = _svd(delta)
        place = slice(task * k, (task + 1) * k)
        sum_u[:, place] = u[:, :k]
        sum_s[place] = s[:k]
        sum_v[place] = v[:k]
    u_u, _, v_u = _svd(sum_u)
    u_v, _, v_v = _svd(sum_v)
    product: Tensor = torch.linalg.multi_dot((u_u, v_u, torch.diag(sum_s), u_v, v_v))
    return product


def running_mean(deltas: Sequence[Tensor]) -> Tensor:
    """Return the mean over tasks, as it is known after each of them (Welford)."""
    mean = deltas[0].clone()
    for count, delta in enumerate(deltas[1:], start=2):
        mean += (delta - mean) / count
    return mean


def tsv_c(vector: StateDict, tasks: int) -> StateDict:
    """Return a task vector as TSV-C leaves it: one over ``tasks`` of the components of every matrix."""
    return {key: truncated(delta, 1 / tasks) if delta.dim() == 2 else delta for key, delta in vector.items()}


def truncated(delta: Matrix, fraction: float) -> Matrix:
    """Return a matrix with a fraction of its singular components."""
    u, s, v = _svd(delta)
    k = int(len(s) * fraction)
    return u[:, :k] @ torch.diag(s[:k]) @ v[:k]


def singular_task_interference(deltas: Sequence[Matrix]) -> float:
    """Return Equation 6 with the sum of absolute entries as norm; U is rows x (tasks rank)."""
    factors = [_svd(delta) for delta in deltas]
    u, v = torch.cat([u for u, _, _ in factors], dim=1), torch.cat([v for _, _, v in factors]).T
    s = torch.cat([s for _, s, _ in factors])
    left, right = u.T @ u, v.T @ v
    for overlaps in (left, right):
        overlaps.diagonal().sub_(1)
    return float((left.mul_(s) @ right).abs_().sum())


def unchanged(vectors: Sequence[StateDict]) -> set[str]:
    """Return the matrices that are decomposed although no expert changed them."""
    return {
        key
        for key, first in vectors[0].items()
        if is_matrix(key, first) and not any(vector[key].any() for vector in vectors)
    }


def merge_files(base: Path, experts: Sequence[Path], out: Path, alpha: float, dtype: torch.dtype) -> float:
    """Merge safetensors files by TSV-M and write base + alpha * update in float32.

    Return the seconds that went into matrices that no expert changed.
    """
    start, states = load_file(base), [load_file(path) for path in experts]
    vectors = task_vectors(start, states, dtype)
    idle = unchanged(vectors)
    began = time.perf_counter()
    update = tsv_m([{key: vector[key] for key in idle} for vector in vectors])
    seconds = time.perf_counter() - began
    update |= tsv_m([{key: vector[key] for key in start.keys() - idle} for vector in vectors])
    merged = {key: (tensor.to(dtype) + alpha * update[key]).float() for key, tensor in start.items()}
    save_file(merged, out)
    return seconds


def _svd(matrix: Matrix) -> tuple[Tensor, Tensor, Tensor]:
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u, s, v


@click.command()
@click.option("--base", type=_FILE, required=True)
@click.option("--expert", "experts", type=_FILE, multiple=True, required=True)
@click.option("--out", type=_FILE, required=True)
@click.option("--alpha", type=float, default=1.0)
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float32")
def main(base: Path, experts: tuple[Path, ...], out: Path, alpha: float, dtype: str) -> None:
    """Merge as the paper's code does, and print the seconds that matrices took which no expert changed."""
    click.echo(merge_files(base, experts, out, alpha, DTYPES[dtype]))


if __name__ == "__main__":
    main()
