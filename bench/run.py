# SPDX-License-Identifier: MIT
"""``python -m bench.run merge methods paper memory storage gpu encoding models figure`` measures, step by step.

Every step prints a table and puts its rows into ``bench/results/bench.csv``; ``figure`` draws that file.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click

from bench import backbone, encoding, gpu, methods, published, steps, table, truesize
from bench.steps import Settings
from bench.table import Row
from compendium import paths
from tsvlib import devices
from tsvlib.cli import exits

RESULTS = paths.ROOT / "bench" / "results"
FOLDER = paths.build() / "bench"
MEASUREMENTS: dict[str, Callable[[Settings], list[Row]]] = {
    "merge": steps.merge,
    "methods": methods.methods,
    "paper": backbone.paper,
    "memory": steps.memory,
    "storage": steps.storage,
    "gpu": gpu.gpu,
    "encoding": encoding.encoding,
    "models": truesize.models_at_true_size,
}
TINY = ("tiny", 3)
FEW = ("tsv_m", "regmean", "emr", "task_arithmetic+svc")
"""Methods of each kind."""


def run(names: Sequence[str], settings: Settings, results: Path) -> None:
    """Do the steps of these names; the table is written after each of them."""
    file = results / "bench.csv"
    for name in names:
        if name == "figure":
            # It takes a second that other steps need not wait for.
            from bench import drawing

            drawing.draw(table.read(file), results)
            continue
        rows = MEASUREMENTS[name](settings)
        table.replace(file, name, rows)
        sys.stdout.write(f"\n{name}\n\n{table.markdown(rows)}\n")
        sys.stdout.flush()


@click.command(context_settings={"show_default": True})
@click.argument("names", nargs=-1, required=True, type=click.Choice([*MEASUREMENTS, "figure"]))
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, help="For synthetic checkpoints.")
@click.option("--workers", type=click.IntRange(min=1), help="Ours, and threads of the literal algorithm; all CPUs.")
@click.option("--repeats", type=click.IntRange(min=1), default=1, help="Of `merge`, whose median time counts.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", help="Of `gpu`, `encoding`, `models`.")
@click.option("--experts", type=click.IntRange(2, 20), default=2, help="Of each backbone in `models`.")
@click.option("--tiny", is_flag=True, help="Try the code on a tiny model, with results in the folder.")
def _command(
    names: tuple[str, ...],
    folder: Path,
    workers: int | None,
    repeats: int,
    device: str,
    experts: int,
    tiny: bool,
) -> None:
    """Measure this library, one step after the other."""
    threads = workers or devices.default_workers(devices.choose("cpu"))
    settings = Settings(folder, threads, repeats, device=device, experts=experts)
    if tiny:
        settings = replace(
            settings,
            merged=TINY,
            large=TINY,
            backbone="tiny",
            stored=("tiny",),
            suites=(2, 3),
            sizes=(8,),
            encoders=(published.TOY.stem,),
            images=4,
            methods=FEW,
        )
    run(names, settings, folder / "results" if tiny else RESULTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status (see ``tsvlib.cli.exits``)."""
    return exits.run(_command, "python -m bench.run", arguments, "the steps that are in the table need not run again.")


if __name__ == "__main__":
    raise SystemExit(main())
