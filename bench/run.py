# SPDX-License-Identifier: MIT
"""``python -m bench.run merge paper memory storage gpu figure`` measures, one step after the other.

Every step prints a table and puts its rows into ``bench/results/bench.csv``; ``figure`` draws that file.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click

from bench import backbone, drawing, gpu, steps, table
from bench.steps import Settings
from bench.table import Row
from compendium import paths
from tsvlib import devices
from tsvlib.cli import exits

RESULTS = paths.ROOT / "bench" / "results"
FOLDER = paths.build() / "bench"
MEASUREMENTS: dict[str, Callable[[Settings], list[Row]]] = {
    "merge": steps.merge,
    "paper": backbone.paper,
    "memory": steps.memory,
    "storage": steps.storage,
    "gpu": gpu.gpu,
}
TINY = ("tiny", 3)


def run(names: Sequence[str], settings: Settings, results: Path) -> None:
    """Do the steps of these names; the table is written after each of them."""
    file = results / "bench.csv"
    for name in names:
        if name == "figure":
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
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", help="Of `gpu`.")
@click.option("--tiny", is_flag=True, help="Try the code on a tiny model, with results in the folder.")
def _command(names: tuple[str, ...], folder: Path, workers: int | None, repeats: int, device: str, tiny: bool) -> None:
    """Measure this library, one step after the other."""
    settings = Settings(folder, workers or devices.default_workers(devices.choose("cpu")), repeats, device=device)
    if tiny:
        settings = replace(
            settings, merged=TINY, large=TINY, backbone="tiny", stored=("tiny",), suites=(2, 3), sizes=(8,)
        )
    run(names, settings, folder / "results" if tiny else RESULTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status (see ``tsvlib.cli.exits``)."""
    return exits.run(_command, "python -m bench.run", arguments, "the steps that are in the table need not run again.")


if __name__ == "__main__":
    raise SystemExit(main())
