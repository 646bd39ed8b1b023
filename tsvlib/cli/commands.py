# SPDX-License-Identifier: MIT
"""What the command line offers, in words for newcomers: one typed function for each command.

Help must be quick, so nothing here imports torch before there is work to do. A recipe gives defaults, which explicit
options override.
"""

import gc
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from tsvlib import files
from tsvlib.cli import exits, frontdoor, options
from tsvlib.cli.frontdoor import Options
from tsvlib.errors import InputError, LostUpdate

if TYPE_CHECKING:
    from tsvlib.cli.recipes import Recipe
    from tsvlib.cli.sums import Alphas

PROGRAM = "tsvlib"
_AFTER_A_STOP = "nothing was written, and the same command starts again."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status (see ``tsvlib.cli.exits``)."""
    return exits.run(cli, PROGRAM, arguments, _AFTER_A_STOP)


@click.group(context_settings={"show_default": True, "max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tsvlib", prog_name=PROGRAM)
def cli() -> None:
    """Task Singular Vectors on checkpoints of your own."""


def _command(function: Callable[..., Any], example: str, *own: options.Decorator) -> Callable[..., Any]:
    """Make a command of a function, with its own options first and those of computing last."""
    for option in (*own, *options.COMPUTING)[::-1]:
        function = option(function)
    name = function.__name__.strip("_")
    return cli.command(name, epilog=f"Example: {PROGRAM} {name} {example}")(function)


def _plan(base: Path, experts: tuple[Path, ...], out: str | None, **how: Any) -> int:
    """Check from the headers alone whether experts fit, what is merged, and what that takes.

    Give it the options of `merge`. Nothing is written; the exit status is 0 if all fits.
    """
    found = frontdoor.plan(base, experts, out, **how)
    _say(str(found))
    return 1 if found.troubles else 0


def _merge(
    base: Path,
    experts: tuple[Path, ...],
    out: str,
    recipe: "Recipe | None",
    method: str,
    then: tuple[str, ...],
    alpha: "Alphas",
    dtype: str,
    leave_out: tuple[str, ...],
    weights: tuple[float, ...],
    as_adapter: int | None,
    **how: Unpack[Options],
) -> None:
    """Merge experts, which were fine-tuned from one base, into one model.

    That is base + alpha * update. The whole models are never in memory, and what LoRA adapters change is never
    multiplied out by methods that can do without.
    """
    from tsvlib.cli import adapting, sums, workflows

    with _telling(recipe) as done:
        inputs = frontdoor.inputs_of(base, experts, recipe, leave_out=leave_out, weights=weights)
        session, alphas = frontdoor.session_of(**how), sums.numbers(alpha)
        if as_adapter is not None:
            done(adapting.merge(inputs, Path(out), as_adapter, method, alphas, session, dtype, then))
        else:
            done(workflows.merge(inputs, out, method, alphas, session, dtype, then))


def _compress(
    base: Path,
    expert: tuple[Path, ...],
    out: Path,
    recipe: "Recipe | None",
    rank: str,
    dtype: str,
    leave_out: tuple[str, ...],
    **how: Unpack[Options],
) -> None:
    """Store one expert as the leading singular components of what fine-tuning changed (TSV-C).

    The file is safetensors; `expand` turns it back into a checkpoint.
    """
    if len(expert) > 1:
        raise click.UsageError(f"compress takes one expert, and {len(expert)} are named; run it once for each.")
    from tsvlib.cli import workflows

    with _telling(recipe) as done:
        inputs = frontdoor.inputs_of(base, expert, recipe, leave_out=leave_out)
        done({out: workflows.compress(inputs, out, rank, dtype, frontdoor.session_of(**how))})


def _expand(
    base: Path,
    factors: Path,
    out: str,
    recipe: "Recipe | None",
    alpha: "Alphas",
    dtype: str,
    **how: Unpack[Options],
) -> None:
    """Turn a file that `compress` made back into a checkpoint.

    That is base + alpha * task vector. The file says how matrices were taken, whatever is asked for here.
    """
    from tsvlib.cli import sums, workflows

    with _telling(recipe) as done:
        inputs = frontdoor.inputs_of(base, [], recipe)
        done(workflows.expand(inputs, factors, out, sums.numbers(alpha), frontdoor.session_of(**how), dtype))


def _interference(
    base: Path,
    experts: tuple[Path, ...],
    out: Path,
    rank: str,
    leave_out: tuple[str, ...],
    **how: Unpack[Options],
) -> None:
    """Measure singular task interference (equation 6 of the paper) of every task matrix and write it as CSV.

    It is zero when tasks use directions of their own, and grows the more they share.
    """
    frame = frontdoor.interference(base, experts, out, rank=rank, leave_out=leave_out, **how)
    _say(f"Interference of {len(frame)} task matrices in {_table(out)}")


def _spectra(
    base: Path | None,
    experts: tuple[Path, ...],
    out: Path | None,
    leave_out: tuple[str, ...],
    listed: bool,
    clear: bool,
    **how: Unpack[Options],
) -> None:
    """Decompose task matrices and write as CSV how many singular components hold their energy.

    With --list or --clear, look after a store of decompositions instead.
    """
    if listed or clear:
        return _look_after_store(listed, clear, how)
    if base is None or out is None or not experts:
        lacking = "--base" if base is None else "--expert" if not experts else "--out"
        raise click.UsageError(f"Missing option '{lacking}'.")
    frame = frontdoor.spectra(base, experts, out, leave_out=leave_out, **how)
    return _say(f"Spectra of {len(frame)} task matrices in {_table(out)}")


_TWO = "--base base.safetensors --expert cars.safetensors --expert svhn.safetensors"
_METHOD = click.option(
    "--method", default=options.default(frontdoor.merge, "method"), help=f"How to combine experts: {options.METHODS}."
)
_THEN = click.option(
    "--then", multiple=True, help=f"What changes the update, one after the other: {options.PROCESSES}."
)
_command(
    _plan,
    _TWO,
    options.BASE, options.EXPERTS, options.PLACE,
    _METHOD, _THEN, options.ALPHA, options.TYPE, options.LEAVE_OUT, options.WEIGHT,
)  # fmt: skip
_command(
    _merge,
    f"{_TWO} --method tsv-m --alpha 1.0 --out merged.safetensors",
    options.BASE, options.EXPERTS, options.MODEL, options.RECIPE, options.LOOK_IN,
    _METHOD, _THEN, options.ALPHA, options.TYPE, options.LEAVE_OUT, options.WEIGHT, options.AS_ADAPTER,
)  # fmt: skip
_command(
    _compress,
    "--base base.safetensors --expert cars.safetensors --rank 1/8 --out cars.tsvc.safetensors",
    options.BASE,
    options.EXPERT,
    options.WEIGHTS,
    options.RECIPE,
    options.LOOK_IN,
    click.option("--rank", default=options.default(frontdoor.compress, "rank"), help=options.RANK),
    click.option(
        "--dtype",
        default=options.default(frontdoor.compress, "dtype"),
        help="Type of singular vectors: float32, float64, float16 or bfloat16.",
    ),
    options.LEAVE_OUT,
)
_command(
    _expand,
    "--base base.safetensors --factors cars.tsvc.safetensors --out cars.safetensors",
    options.BASE, options.FACTORS, options.MODEL, options.RECIPE, options.LOOK_IN, options.ALPHA, options.TYPE,
)  # fmt: skip
_command(
    _interference,
    f"{_TWO} --out sti.csv",
    options.BASE,
    options.EXPERTS,
    options.TABLE,
    click.option("--rank", default=options.default(frontdoor.interference, "rank"), help=f"{options.RANK} 1.0 is all."),
    options.LEAVE_OUT,
)
_command(
    _spectra,
    "--base base.safetensors --expert cars.safetensors --out spectra.csv",
    click.option("--base", type=options.PATH, help=f"The model before fine-tuning: {options.CHECKPOINT}."),
    click.option(
        "--expert",
        "experts",
        type=options.PATH,
        multiple=True,
        help=f"{options.FINE_TUNED}; repeat it for every expert.",
    ),
    click.option("--out", type=options.PATH, help=f"The file to write, *.csv; {options.REPLACED}."),
    options.LEAVE_OUT,
    click.option("--list", "listed", is_flag=True, help="List what the folder of --store holds."),
    click.option("--clear", is_flag=True, help="Empty the folder of --store."),
)


@contextmanager
def _telling(recipe: "Recipe | None") -> Iterator[Callable[[dict[Path, str]], None]]:
    """Tell about files of weights what is to be known: size, digest, what types lost, whether a recipe was met."""
    digests: dict[Path, str] = {}
    _spare_the_collector()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", UserWarning)
        yield digests.update
    from tsvlib.cli import outputs

    lost = "".join(f" But {each.message}" for each in found if issubclass(each.category, LostUpdate))
    for each in found:
        if not issubclass(each.category, LostUpdate):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    for number, (out, digest) in enumerate(digests.items(), start=1):
        losses = lost if number == len(digests) else ""
        _say(f"{out}: {outputs.described(out)}, digest {digest[:12]}.{losses}{_compared(digest, recipe)}")


def _compared(digest: str, recipe: "Recipe | None") -> str:
    """Tell whether the new file is the one whose recipe was followed."""
    if recipe is None:
        return ""
    if digest == recipe.digest:
        return f" These are the bytes of {recipe.path}."
    return f" {recipe.path} has other bytes; other settings, versions, another processor or device made it."


def _table(out: Path) -> str:
    return f"{out}: {out.stat().st_size:,} bytes, SHA-256 {files.sha256(out)[:12]}."


def _look_after_store(listed: bool, clear: bool, how: Options) -> None:
    folder = how.get("store")
    if (listed and clear) or folder is None:
        raise click.UsageError("spectra takes either --list or --clear, and --store to name the folder.")
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: there is no folder of that name; name one that an earlier command had by --store.")
    spectra = frontdoor.session_of(**how).spectra
    assert spectra is not None
    if clear:
        return _say(f"{folder}: {spectra.clear() / 1e6:.1f} MB freed.")
    entries: list[Any] = spectra.list()
    for entry in entries:
        size, last_use = f"{entry.shape[0]} x {entry.shape[1]}", f"{entry.last_use:%F %T}"
        _say(f"{entry.name[:12]}  {size:>14}  rank {entry.rank:>5}  {entry.bytes / 1e6:9.2f} MB  {last_use}")
    return _say(f"{folder}: {len(entries)} decompositions, {sum(entry.bytes for entry in entries) / 1e6:.1f} MB.")


def _spare_the_collector() -> None:
    # What is imported stays to the end: searching it for cycles, again and again, would take most of a second.
    gc.disable()
    from tsvlib.cli import workflows  # noqa: F401

    gc.freeze()
    gc.enable()


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
