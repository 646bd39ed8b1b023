# SPDX-License-Identifier: MIT
"""The options that commands share, in words for newcomers; their defaults are those of the front door's functions."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tsvlib.cli import frontdoor
from tsvlib.errors import InputError

CHECKPOINT = "a .safetensors, .pt, .pth or .bin file with a state dict, its .index.json, or a folder of a model hub"
METHODS = (
    "tsv-m, tsv-m-eigen, low-rank, interference-reduction, task-arithmetic, weight-averaging, consensus-ta, ties or "
    "iso-c"
)
REPLACED = "an older one is replaced when all is done"
RANK = "Components to keep of each matrix: a share (1/8 or 0.1), a number (64) or energy=0.99."
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
PATH = click.Path(path_type=Path)


def default(function: Callable[..., Any], name: str) -> Any:
    """Return the default of an argument of a function."""
    return inspect.signature(function).parameters[name].default


def _follow(context: click.Context, _: click.Parameter, file: Path | None) -> Path | None:
    """Take defaults from the recipe of a file, and remember its digest."""
    if file is None:
        return None
    from tsvlib import checkpoints

    remedy = "name a file that this command wrote"
    recipe = checkpoints.recipe(file, remedy)
    if recipe.get("command") != context.info_name:
        raise InputError(f"{file}: it was not made by `{context.info_name}`; name a file that was.")
    named = recipe["arguments"]
    context.default_map = named | {"experts": named.get("expert")}
    context.obj = checkpoints.digest(file, remedy)
    return file


BASE = click.option("--base", type=PATH, required=True, help=f"The model before fine-tuning: {CHECKPOINT}.")
EXPERTS = click.option(
    "--expert",
    "experts",
    type=PATH,
    multiple=True,
    required=True,
    help="A fine-tuned model; repeat it for every expert.",
)
EXPERT = click.option("--expert", type=PATH, multiple=True, required=True, help="A fine-tuned model; once.")
FACTORS = click.option("--factors", type=PATH, required=True, help="A file that `compress` made.")
WEIGHTS = click.option("--out", type=PATH, required=True, help=f"The file to write, *.safetensors; {REPLACED}.")
TABLE = click.option("--out", type=PATH, required=True, help=f"The file to write, *.csv; {REPLACED}.")
RECIPE = click.option(
    "--recipe",
    type=PATH,
    is_eager=True,
    callback=_follow,
    help="A file written earlier: take inputs and settings from it, where they are not given here.",
)
ALPHA = click.option(
    "--alpha", type=float, default=default(frontdoor.merge, "alpha"), help="How much of the update to add."
)
TYPE = click.option(
    "--dtype",
    default=default(frontdoor.merge, "dtype"),
    help="Type of all weights in the file: float64, float32, float16, bfloat16, or base for those of the base.",
)
COMPUTING = (
    click.option(
        "--split-qkv/--no-split-qkv",
        default=False,
        help="Take attention weights that hold q, k and v in one as three matrices.",
    ),
    click.option(
        "--convolutions/--no-convolutions",
        default=False,
        help="Take convolution kernels as matrices, a row per output channel.",
    ),
    click.option(
        "--device",
        default=default(frontdoor.session_of, "device"),
        help="auto (a CUDA GPU if there is one, else the CPU), cpu, cuda or mps.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        show_default="as many as CPUs, 1 on a GPU",
        help="Matrices to work on at once; changes no bit.",
    ),
    click.option("--store", type=PATH, help="A folder to keep decompositions in for the next command."),
    click.option(
        "--store-limit",
        type=click.FloatRange(min=0, min_open=True),
        default=frontdoor.STORE_LIMIT,
        metavar="GB",
        help="Size of that folder; what was not used for longest goes.",
    ),
)
