# SPDX-License-Identifier: MIT
"""``python -m bench.run merge paper memory storage figure`` measures, one step after the other.

Every step prints a table and puts its rows into ``bench/results/bench.csv``; ``figure`` draws that file.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import backbone, drawing, steps, table
from bench.steps import Settings
from bench.table import Row
from compendium import paths
from tsvlib import devices
from tsvlib.errors import InputError

RESULTS = paths.ROOT / "bench" / "results"
FOLDER = paths.build() / "bench"
MEASUREMENTS: dict[str, Callable[[Settings], list[Row]]] = {
    "merge": steps.merge,
    "paper": backbone.paper,
    "memory": steps.memory,
    "storage": steps.storage,
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 when a step fails for a reason that the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measure this library.")
    parser.add_argument("names", nargs="+", choices=[*MEASUREMENTS, "figure"], metavar="NAME", help=_HELP)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for synthetic checkpoints (default build/bench)")
    parser.add_argument("--workers", type=int, default=_WORKERS, help="ours, and threads of the literal algorithm")
    parser.add_argument("--repeats", type=int, default=1, help="of `merge`, whose median time counts")
    parser.add_argument("--tiny", action="store_true", help="try the code on a tiny model, with results in the folder")
    options = parser.parse_args(arguments)
    settings, results = Settings(options.folder, options.workers, options.repeats), RESULTS
    if options.tiny:
        settings = Settings(options.folder, options.workers, options.repeats, TINY, TINY, "tiny", ("tiny",), (2, 3))
        results = options.folder / "results"
    try:
        run(options.names, settings, results)
    except (InputError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


_WORKERS = devices.default_workers(devices.choose("cpu"))
_HELP = f"{', '.join(MEASUREMENTS)} or figure"

if __name__ == "__main__":
    raise SystemExit(main())
