# SPDX-License-Identifier: MIT
"""The options that commands share, in words for newcomers; their defaults are those of the front door's functions."""

import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsvlib.cli import frontdoor
from tsvlib.errors import InputError

if TYPE_CHECKING:
    from tsvlib.cli.recipes import Recipe

CHECKPOINT = (
    "a .safetensors, .pt, .pth, .bin or .ckpt file with a state dict, its .index.json, a folder of a model hub or of "
    "its cache, or hf://OWNER/NAME"
)
FINE_TUNED = "A fine-tuned model, or a LoRA adapter of the base in a folder of PEFT"
METHODS = (
    "tsv-m, tsv-m-alpha-1, tsv-m-eigen, tsv-m-exchanged, tsv-m-gavish-donoho, tsv-m-marchenko-pastur, tsv-m-energy, "
    "low-rank, interference-reduction, dc-merge, iso-c, iso-cts, regmean-from-differences, swudi, aswudi, wudi, star, "
    "cart, knots-ties, ties, dare, breadcrumbs, consensus-ta, task-arithmetic or weight-averaging"
)
PROCESSES = "svc, svc-shrinking, boosting or lines"
REPLACED = "an older one is replaced when all is done"
RANK = "Components to keep of each matrix: a share (1/8 or 0.1), a number (64) or energy=0.99."
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
PATH = click.Path(path_type=Path)
_LOOK_IN = "tsvlib.look_in"


def default(function: Callable[..., Any], name: str) -> Any:
    """Return the default of an argument of a function."""
    return inspect.signature(function).parameters[name].default


def _follow(context: click.Context, _: click.Parameter, file: Path | None) -> "Recipe | None":
    """Take settings from the recipe of a file, and its inputs from wherever they lie, where they are not given."""
    if file is None:
        return None
    from tsvlib.cli.recipes import ALONE, Recipe, Search

    recipe = Recipe.read(file)
    if recipe.command != context.info_name:
        raise InputError(f"{file}: it was not made by `{context.info_name}`; name a file that was.")
    # Settings alone: a recipe that somebody else wrote has no say in where files are read or written.
    options = (option for option in context.command.params if isinstance(option, click.Option))
    own = {option.name: option for option in options if not isinstance(option.type, click.Path)}
    kept = {name: value for name, value in recipe.settings.items() if name in own}
    settings = {name: _typed(file, own[name], value) for name, value in kept.items()}

    @cache
    def search() -> Search:
        # Not before all folders to look in are known, and only for what is not given.
        return Search(recipe, context.meta[_LOOK_IN] or tuple(dict.fromkeys((file.parent, Path()))))

    one = {role: lambda role=role: search().found(role)[0] for role in ALONE}
    context.default_map = settings | one | dict.fromkeys(("expert", "experts"), lambda: search().found("expert"))
    return recipe


def _typed(file: Path, option: click.Option, value: object) -> bool | str | list[str]:
    """Return a setting as somebody would have typed it."""
    every = value if option.multiple and isinstance(value, list) else [value]
    # Python takes True for the number one.
    if not all(isinstance(each, str | float | int) and isinstance(each, bool) == option.is_flag for each in every):
        raise InputError(f"{file}: its recipe gives `{option.name}` as {value!r}; give that setting here.")
    if option.multiple:
        return [str(each) for each in every]
    return value if isinstance(value, bool) else str(value)


class _Alphas(click.ParamType[float | tuple[float, ...]]):
    """A number, or several between commas."""

    name = "float[,float...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | tuple[float, ...]:
        """Return the number itself where there is one."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        found = tuple(click.FLOAT(part, param, ctx) for part in value.split(","))
        return found if len(found) > 1 else found[0]


BASE = click.option("--base", type=PATH, required=True, help=f"The model before fine-tuning: {CHECKPOINT}.")
EXPERTS = click.option(
    "--expert",
    "experts",
    type=PATH,
    multiple=True,
    required=True,
    help=f"{FINE_TUNED}; repeat it for every expert.",
)
EXPERT = click.option("--expert", type=PATH, multiple=True, required=True, help=f"{FINE_TUNED}; once.")
FACTORS = click.option("--factors", type=PATH, required=True, help="A file that `compress` made.")
WEIGHTS = click.option("--out", type=PATH, required=True, help=f"The file to write, *.safetensors; {REPLACED}.")
MODEL = click.option(
    "--out",
    type=click.Path(),
    required=True,
    help=f"The file to write, *.safetensors ({REPLACED}), or a new or empty folder, FOLDER/, for shards, index and "
    "configuration like those of the base.",
)
PLACE = click.option("--out", type=click.Path(), help="What `merge` would write; where it may lie is checked too.")
TABLE = click.option("--out", type=PATH, required=True, help=f"The file to write, *.csv; {REPLACED}.")
RECIPE = click.option(
    "--recipe",
    type=PATH,
    is_eager=True,
    callback=_follow,
    help="A file or folder written earlier: take its settings and find its inputs, where they are not given here.",
)
LOOK_IN = click.option(
    "--look-in",
    type=PATH,
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, folders: context.meta.update({_LOOK_IN: folders}),
    show_default="that of the recipe and the working folder",
    help="A folder in which, and below which, inputs of the recipe are found by their SHA-256; repeat it.",
)
ALPHA = click.option(
    "--alpha",
    type=_Alphas(),
    default=default(frontdoor.merge, "alpha"),
    help="How much of the update to add; several, as 0.5,1.0,1.5, write a file each, with alpha in its name.",
)
LEAVE_OUT = click.option(
    "--leave-out",
    multiple=True,
    metavar="PATTERN",
    help="Keep these tensors as in the base: a name, or that of a part of the model, * for any text; repeat it.",
)
WEIGHT = click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    show_default="1 for each",
    help="How much the changes of an expert count; once for each expert, in their order.",
)
TYPE = click.option(
    "--dtype",
    default=default(frontdoor.merge, "dtype"),
    help="Type of all weights in the file: float64, float32, float16, bfloat16, or base for those of the base.",
)
AS_ADAPTER = click.option(
    "--as-adapter",
    type=click.IntRange(min=1),
    metavar="RANK",
    help="Write one LoRA adapter of this rank, in a new folder that PEFT loads, in place of a model.",
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
