# SPDX-License-Identifier: MIT
"""What the command line offers, in words for newcomers, and how it reaches the library.

Help must be quick, so nothing here imports torch before there is work to do.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsvlib import files
from tsvlib.errors import InputError

if TYPE_CHECKING:
    from tsvlib.cli.workflows import Inputs, Session

CHECKPOINT = "a .safetensors, .pt, .pth or .bin file with a state dict, its .index.json, or a folder of a model hub"
METHODS = (
    "tsv-m, tsv-m-eigen, low-rank, interference-reduction, task-arithmetic, weight-averaging, consensus-ta, ties or "
    "iso-c"
)
# What holds when neither the command line nor a recipe says otherwise.
SETTINGS: dict[str, Any] = {
    "method": "tsv-m",
    "alpha": 1.0,
    "rank": "1/8",
    "dtype": "base",
    "split_qkv": False,
    "convolutions": False,
    "device": "auto",
}
OWN_SETTINGS: dict[str, dict[str, Any]] = {"interference": {"rank": "1.0"}, "compress": {"dtype": "float32"}}
GIGABYTE = 10**9

_DESCRIPTIONS = {
    "plan": "Check from the headers alone whether a base and its experts fit each other, and estimate the time and "
    "memory that merging them takes. Nothing is written.",
    "merge": "Merge experts, which were fine-tuned from one base, into one model: base + alpha * update. The whole "
    "models are never in memory.",
    "compress": "Store one expert as the leading singular components of what fine-tuning changed (TSV-C). The file is "
    "safetensors; `expand` turns it back into a checkpoint.",
    "expand": "Turn a file that `compress` made back into a checkpoint: base + alpha * task vector.",
    "interference": "Measure singular task interference (equation 6 of the paper) of every task matrix and write it as "
    "CSV. It is zero when tasks use directions of their own, and grows the more they share.",
    "spectra": "Decompose the task matrices of experts and write as CSV how many singular components hold their "
    "energy. With --list or --clear, look after a store of decompositions instead.",
}
_EXAMPLES = {
    "plan": "--base base.safetensors --expert cars.safetensors --expert svhn.safetensors",
    "merge": "--base base.safetensors --expert cars.safetensors --expert svhn.safetensors --method tsv-m --alpha 1.0 "
    "--out merged.safetensors",
    "compress": "--base base.safetensors --expert cars.safetensors --rank 1/8 --out cars.tsvc.safetensors",
    "expand": "--base base.safetensors --factors cars.tsvc.safetensors --out cars.safetensors",
    "interference": "--base base.safetensors --expert cars.safetensors --expert svhn.safetensors --out sti.csv",
    "spectra": "--base base.safetensors --expert cars.safetensors --out spectra.csv",
}


class UsageError(InputError):
    """A command line that lacks something or contradicts itself."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    main = argparse.ArgumentParser(
        prog="python -m tsvlib", description="Task Singular Vectors on checkpoints of your own.", allow_abbrev=False
    )
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, description in _DESCRIPTIONS.items():
        example = f"Example: python -m tsvlib {name} {_EXAMPLES[name]}"
        first = description.partition(": ")[0].partition(". ")[0]
        command = commands.add_parser(name, help=first, description=description, epilog=example, allow_abbrev=False)
        _add_inputs(command, name)
        _add_choices(command, name)
        _add_computing(command)
    return main


def run(options: argparse.Namespace) -> str:
    """Do what the command line says, and return the sentence that tells what came of it."""
    recipe = _recall(options) if getattr(options, "recipe", None) else {}
    _complete(options)
    session = _session(options)
    if options.command == "spectra" and (options.list or options.clear):
        return _look_after_store(options, session)
    from tsvlib.cli import workflows

    _require(options)
    inputs = workflows.Inputs(options.base, options.expert, options.recipe if recipe else None)
    told = _COMMANDS[options.command](options, inputs, session)
    return told + _compared(options, recipe["digest"]) if recipe else told


def _plan(_: argparse.Namespace, inputs: "Inputs", session: "Session") -> str:
    from tsvlib import taskvectors
    from tsvlib.cli import planning

    taskvectors.check_enough(len(inputs.experts))
    return str(planning.plan(inputs.base, inputs.experts, rule=session.rule, workers=session.workers))


def _merge(options: argparse.Namespace, inputs: "Inputs", session: "Session") -> str:
    from tsvlib.cli import planning, workflows

    plan = planning.plan(inputs.base, inputs.experts, rule=session.rule, workers=session.workers)
    sys.stderr.write(f"{plan.brief}\n")
    done = workflows.merge(inputs, options.out, options.method, options.alpha, session, options.dtype)
    return _written(options.out, *done)


def _compress(options: argparse.Namespace, inputs: "Inputs", session: "Session") -> str:
    from tsvlib.cli import workflows

    return _written(options.out, workflows.compress(inputs, options.out, options.rank, options.dtype, session))


def _expand(options: argparse.Namespace, inputs: "Inputs", session: "Session") -> str:
    from tsvlib.cli import workflows

    done = workflows.expand(inputs, options.factors, options.out, options.alpha, session, options.dtype)
    return _written(options.out, *done)


def _interference(options: argparse.Namespace, inputs: "Inputs", session: "Session") -> str:
    from tsvlib.cli import measurements

    frame = measurements.interference(inputs, options.out, options.rank, session)
    return f"Interference of {len(frame)} task matrices in {_written(options.out)}"


def _spectra(options: argparse.Namespace, inputs: "Inputs", session: "Session") -> str:
    from tsvlib.cli import measurements

    frame = measurements.spectra(inputs, options.out, session)
    return f"Spectra of {len(frame)} task matrices in {_written(options.out)}"


_COMMANDS: dict[str, Callable[[argparse.Namespace, "Inputs", "Session"], str]] = {
    "plan": _plan,
    "merge": _merge,
    "compress": _compress,
    "expand": _expand,
    "interference": _interference,
    "spectra": _spectra,
}


def _add_inputs(command: argparse.ArgumentParser, name: str) -> None:
    group = command.add_argument_group("files")
    group.add_argument("--base", type=Path, help=f"the model before fine-tuning: {CHECKPOINT}")
    if name != "expand":
        many = "; once" if name == "compress" else "; repeat it for every expert"
        group.add_argument("--expert", type=Path, action="append", default=[], help=f"a fine-tuned model{many}")
    if name == "expand":
        group.add_argument("--factors", type=Path, help="a file that `compress` made")
    if name != "plan":
        suffix = ".csv" if name in ("interference", "spectra") else ".safetensors"
        text = f"the file to write, *{suffix}; an older one is replaced when all is done"
        group.add_argument("--out", type=Path, help=text)
    if name in ("merge", "compress", "expand"):
        group.add_argument(
            "--recipe", type=Path, help="a file written earlier: take inputs and settings from it, not from here"
        )


def _add_choices(command: argparse.ArgumentParser, name: str) -> None:
    group = command.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    if name == "merge":
        group.add_argument("--method", help=f"how to combine the experts: {METHODS} (default: {SETTINGS['method']})")
    if name in ("merge", "expand"):
        group.add_argument("--alpha", type=float, help="how much of the update to add (default: 1.0)")
        text = "of all weights in the file: float64, float32, float16 or bfloat16 (default: those of the base)"
        group.add_argument("--dtype", help=text)
    if name in ("compress", "interference"):
        default = SETTINGS["rank"] if name == "compress" else "1.0, all"
        text = "components to keep of each matrix: a share (1/8 or 0.1), a number (64) or energy=0.99"
        group.add_argument("--rank", help=f"{text} (default: {default})")
    if name == "compress":
        group.add_argument("--dtype", help="of singular vectors: float32 (default), float64, float16 or bfloat16")
    if name == "spectra":
        either = command.add_argument_group("the store").add_mutually_exclusive_group()
        either.add_argument("--list", action="store_true", help="list what the folder of --store holds")
        either.add_argument("--clear", action="store_true", help="empty the folder of --store")
    texts = {
        "--split-qkv": "take attention weights that hold q, k and v in one as three matrices (default: as one)",
        "--convolutions": "take convolution kernels as matrices, a row per output channel (default: as no matrices)",
    }
    for option, text in texts.items():
        idle = "changes nothing here: the file says how it was compressed"
        group.add_argument(option, action="store_true", help=idle if name == "expand" else text)


def _add_computing(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("computing")
    text = "auto (default: a CUDA GPU if there is one, else the CPU), cpu, cuda or mps"
    group.add_argument("--device", default=argparse.SUPPRESS, help=text)
    text = "matrices to work on at once; changes no bit (default: as many as CPUs, 1 on a GPU)"
    group.add_argument("--workers", type=int, help=text)
    group.add_argument("--store", type=Path, help="a folder to keep decompositions in for the next command")
    text = "size of that folder; what was not used for longest goes (default: 50)"
    group.add_argument("--store-limit", type=float, default=50.0, metavar="GB", help=text)


def _recall(options: argparse.Namespace) -> dict[str, Any]:
    """Fill the options from the recipe of a file; return the recipe with the digest of that file."""
    from tsvlib import checkpoints

    named = [name for name in ("base", "expert", "factors") if getattr(options, name, None)]
    if surplus := named + [name for name in SETTINGS if name in options and name != "device"]:
        option = surplus[0].replace("_", "-")
        raise UsageError(f"{options.recipe}: its recipe names inputs and settings; leave --{option} out.")
    remedy = "name a file that this command wrote"
    recipe = checkpoints.recipe(options.recipe, remedy)
    if recipe.get("command") != options.command:
        raise InputError(f"{options.recipe}: it was not made by `{options.command}`; name a file that was.")
    for name, value in recipe["arguments"].items():
        if name in ("base", "factors"):
            setattr(options, name, Path(value))
        elif name == "expert":
            options.expert = [Path(path) for path in value]
        elif name in SETTINGS and name not in options:
            setattr(options, name, value)
    return recipe | {"digest": checkpoints.digest(options.recipe, remedy)}


def _complete(options: argparse.Namespace) -> None:
    """Set what neither the command line nor a recipe said."""
    for name, value in (SETTINGS | OWN_SETTINGS.get(options.command, {})).items():
        setattr(options, name, getattr(options, name, value))


def _compared(options: argparse.Namespace, digest: str) -> str:
    """Tell whether the new file is the one whose recipe was followed."""
    from tsvlib import checkpoints

    if checkpoints.digest(options.out) == digest:
        return f" These are the bytes of {options.recipe}."
    return f" {options.recipe} has other bytes; other versions, another processor or device made it."


def _require(options: argparse.Namespace) -> None:
    """Raise InputError for files that the command needs and the command line does not name."""
    if not hasattr(options, "expert"):
        options.expert = []
    needed = ["base", *(["factors"] if options.command == "expand" else ["expert"])]
    needed += [] if options.command == "plan" else ["out"]
    if lacking := [name for name in needed if not getattr(options, name)]:
        raise UsageError(f"{options.command} needs --{lacking[0]}; see python -m tsvlib {options.command} --help.")
    if options.command == "compress" and len(options.expert) > 1:
        raise UsageError(f"compress takes one expert, and {len(options.expert)} are named; run it once for each.")


def _session(options: argparse.Namespace) -> "Session":
    # What is imported stays to the end: searching it for cycles, again and again, would take most of a second.
    gc.disable()
    from tsvlib import devices
    from tsvlib.cli import workflows
    from tsvlib.store import Spectra
    from tsvlib.taskvectors import MatrixRule

    gc.freeze()
    gc.enable()
    device = devices.choose(options.device)
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: choose at least one.")
    if options.store_limit <= 0:
        raise UsageError(f"--store-limit {options.store_limit:g}: choose a size above zero.")
    store = Spectra(options.store, int(options.store_limit * GIGABYTE)) if options.store else None
    rule = MatrixRule(options.split_qkv, options.convolutions)
    return workflows.Session(rule, device, store, options.workers or devices.default_workers(device))


def _look_after_store(options: argparse.Namespace, session: "Session") -> str:
    if session.spectra is None:
        raise UsageError("spectra --list and --clear need --store; name the folder.")
    if options.clear:
        return f"{options.store}: {session.spectra.clear() / 1e6:.1f} MB freed."
    entries: list[Any] = session.spectra.list()
    for entry in entries:
        size, last_use = f"{entry.shape[0]} x {entry.shape[1]}", f"{entry.last_use:%F %T}"
        text = f"{entry.name[:12]}  {size:>14}  rank {entry.rank:>5}  {entry.bytes / 1e6:9.2f} MB  {last_use}"
        sys.stdout.write(f"{text}\n")
    return f"{options.store}: {len(entries)} decompositions, {sum(entry.bytes for entry in entries) / 1e6:.1f} MB."


def _written(out: Path, digest: str = "", loss: str = "") -> str:
    kind = "digest" if digest else "SHA-256"
    told = f" But {loss}; a wider --dtype keeps it." if loss else ""
    return f"{out}: {out.stat().st_size:,} bytes, {kind} {(digest or files.sha256(out))[:12]}.{told}"
