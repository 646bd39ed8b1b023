# SPDX-License-Identifier: MIT
"""The table of all measurements: one number per row, every step with rows of its own."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tsvlib.files import replacing

STEPS = ("merge", "methods", "paper", "memory", "storage", "gpu", "encoding", "models")


class Row(NamedTuple):
    """One measured, computed or counted number."""

    step: str
    case: str
    quantity: str
    value: float
    unit: str


def read(path: Path) -> list[Row]:
    """Return the rows of a table, none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        _, *lines = csv.reader(file)
    return [Row(step, case, quantity, float(value), unit) for step, case, quantity, value, unit in lines]


def replace(path: Path, step: str, rows: Iterable[Row]) -> None:
    """Put the rows of one step in the place of its earlier ones; rows of other steps stay as they are."""
    kept = [row for row in read(path) if row.step != step]
    every = sorted([*kept, *rows], key=lambda row: STEPS.index(row.step))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(
            (step, case, quantity, _written(value, 6), unit) for step, case, quantity, value, unit in every
        )


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    cells = [["case", "quantity", "value"], ["---", "---", "---:"]]
    cells += [[row.case, row.quantity, f"{_written(row.value, 3)} {row.unit}".strip()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _written(value: float, digits: int) -> str:
    """Return a number with so many digits, or with all of them where it counts something."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.{digits}g}"
