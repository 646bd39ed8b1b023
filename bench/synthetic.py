# SPDX-License-Identifier: MIT
"""Checkpoints with the real names, shapes and types, and task matrices of decaying spectrum.

The base is Gaussian. Every expert adds to each visual matrix a change of 3 % of its norm: directions whose strength
falls as a power of their number, partly shared between tasks so that these interfere, on a floor of noise where that
power ends. Other visual tensors change by noise, text tensors not at all, as in the paper's checkpoints. Every
tensor is a function of seed, key and task, so any of them can be had alone. The numbers stand for no real task.

``python -m bench.synthetic --backbone ViT-B-32 --tasks 8 --folder build/bench`` writes files.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from jaxtyping import Float
from torch import Tensor

from bench import layouts
from tsvlib import checkpoints, devices, progress
from tsvlib.checkpoints import TensorInfo
from tsvlib.errors import InputError

SCALE = 0.02
"""Standard deviation of weights."""

CHANGE = 0.03
"""Norm of a change over that of the weights."""

DECAY = 0.7
"""Exponent of the power law."""

SHARED = 0.5
"""Cosine between a direction of a task and the corresponding one of what all tasks share; task vectors then have a
cosine of about its fourth power."""


def base_tensor(seed: int, key: str, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of the base, float32."""
    return SCALE * torch.randn(shape, generator=_random(seed, key, "base"))


def change(seed: int, key: str, shape: tuple[int, ...], task: int) -> Tensor:
    """Return what expert ``task`` (counted from 1) changed in a tensor, float32: zero outside the visual part."""
    if not key.startswith(layouts.VISUAL):
        return torch.zeros(shape)
    random = _random(seed, key, f"task {task}")
    if len(shape) != 2:
        return CHANGE * SCALE * torch.randn(shape, generator=random)
    delta = _matrix(shape[0], shape[1], random, _random(seed, key, "shared"))
    norm = CHANGE * SCALE * delta.numel() ** 0.5
    return delta.mul_(norm / delta.norm())


def write(folder: Path, backbone: str, tasks: int, *, seed: int = 0, workers: int = 1) -> tuple[Path, list[Path]]:
    """Write the base and so many experts to ``folder``/``backbone``, and return their paths.

    Files that are complete are kept. The same seed gives the same bytes. InputError for an unknown backbone or when
    there is too little space.
    """
    shapes = layouts.layout(backbone)
    names = ["base", *(f"expert-{task:02}" for task in range(1, tasks + 1))]
    paths = [folder / backbone / f"{name}.safetensors" for name in names]
    missing = [(task, path) for task, path in enumerate(paths) if not _complete(path, _recipe(backbone, seed, task))]
    check_space(folder, len(missing) * 4 * layouts.parameters(shapes))
    with progress.track(len(missing), f"writing {backbone}") as bar:
        # One thread per file: the order of floating-point sums, and so the bytes, must not depend on their number.
        for _ in devices.ordered(lambda item: _write(item[1], backbone, seed, item[0]), missing, workers):
            bar.update()
    return paths[0], paths[1:]


def _write(path: Path, backbone: str, seed: int, task: int) -> None:
    """Write one file tensor by tensor; task 0 is the base."""
    shapes = layouts.layout(backbone)
    layout = {key: TensorInfo(torch.float32, shape) for key, shape in shapes.items()}

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for key in checkpoints.file_order(layout):
            tensor = base_tensor(seed, key, shapes[key])
            # Text tensors keep their very bits.
            changed = task > 0 and key.startswith(layouts.VISUAL)
            yield key, tensor.add_(change(seed, key, shapes[key], task)) if changed else tensor

    checkpoints.write(path, layout, _recipe(backbone, seed, task), tensors())


def _matrix(rows: int, columns: int, random: torch.Generator, shared: torch.Generator) -> Float[Tensor, "rows columns"]:
    """Return a task matrix of any norm.

    Gaussian factors with few columns are nearly orthogonal, which saves a decomposition. The noise is as strong as
    the last of them: the largest singular value of a Gaussian matrix is close to the sum of the roots of its sides.
    """
    rank = max(1, min(rows, columns) // 4)
    strengths = torch.arange(1, rank + 1) ** -DECAY
    u, v = (_directions(size, rank, random, shared) for size in (rows, columns))
    floor = float(strengths[-1]) / (rows**0.5 + columns**0.5)
    noise = torch.randn(rows, columns, generator=random)
    return torch.addmm(noise, u * strengths, v.mT, beta=floor)


def _directions(size: int, rank: int, random: torch.Generator, shared: torch.Generator) -> Float[Tensor, "size rank"]:
    own, common = (torch.randn(size, rank, generator=source) for source in (random, shared))
    return own.mul_((1 - SHARED**2) ** 0.5).add_(common, alpha=SHARED).div_(size**0.5)


def _random(seed: int, key: str, use: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{key}/{use}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _recipe(backbone: str, seed: int, task: int) -> dict[str, object]:
    construction = {"scale": SCALE, "change": CHANGE, "decay": DECAY, "shared": SHARED}
    return {"made by": "bench.synthetic", **construction, "backbone": backbone, "seed": seed, "task": task}


def _complete(path: Path, recipe: dict[str, object]) -> bool:
    try:
        return checkpoints.recipe(path) == recipe
    except InputError:
        return False


def check_space(folder: Path, needed: int) -> None:
    """Raise InputError unless so many bytes are free where a folder is or will be."""
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if (free := shutil.disk_usage(place).free) < needed:
        raise InputError(
            f"{folder}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; free some space."
        )


@click.command(context_settings={"show_default": True})
@click.option("--backbone", type=click.Choice(list(layouts.ENCODERS)), default="ViT-B-32")
@click.option("--tasks", type=int, default=8)
@click.option("--seed", type=int, default=0)
@click.option("--workers", type=int, default=1)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build/bench"))
def main(backbone: str, tasks: int, seed: int, workers: int, folder: Path) -> None:
    """Write synthetic checkpoints."""
    write(folder, backbone, tasks, seed=seed, workers=workers)


if __name__ == "__main__":
    main()
