# SPDX-License-Identifier: MIT
"""Are result tables what this checkout computes? ``make verify`` asks twice.

``python -m compendium.paper.verify compare LEFT RIGHT`` tells in which numbers two folders of tables differ, and
``python -m compendium.paper.verify check FOLDER`` which tables this checkout would compute from something else.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from compendium import paths, provenance, sourcecode
from compendium.paper import results
from tsvlib.errors import InputError

SHOWN = 3
"""How many differences of one table are named; a table can rest on a hundred experts."""


def compare(left: Path, right: Path) -> pd.DataFrame:
    """Return every difference between the tables of two folders: ``table, row, column, left, right, tolerance``.

    Keys and text are compared exactly, numbers within the tolerances that the sidecars of ``left`` state; tables
    and rows that only one folder has are differences.

    Raises:
        InputError: a folder without tables, or an unreadable table.
    """
    tables = {folder: {file.name for file in _tables(folder)} for folder in (left, right)}
    differences: list[tuple[object, ...]] = []
    for name in sorted(tables[left] | tables[right]):
        present = [name in tables[folder] for folder in (left, right)]
        if all(present):
            differences += [(name, *found) for found in _differences(left / name, right / name)]
        else:
            differences.append((name, "all", "all", *("present" if here else "missing" for here in present), ""))
    return pd.DataFrame(differences, columns=["table", "row", "column", "left", "right", "tolerance"])


def check(folder: Path) -> dict[str, list[str]]:
    """Return for each table of a folder what this checkout has otherwise than it was when the table was computed.

    That is code, parameters or inputs; a table that does not tell them differs as well. Inputs in the cache are
    compared where they are there.

    Raises:
        InputError: a folder without tables, or an unreadable sidecar.
    """
    return {table.stem: _otherwise(results.sidecar(table), folder.name) for table in _tables(folder)}


def _tables(folder: Path) -> list[Path]:
    tables = sorted(folder.glob("*.csv"))
    if not tables:
        raise InputError(f"{folder}: there are no result tables in this folder; run `make paper` or `make verify`.")
    return tables


def _otherwise(sidecar: Mapping[str, Any], profile: str) -> list[str]:
    notebook = paths.ROOT / (sidecar.get("notebook") or "")
    if not notebook.is_file():
        return ["its notebook is unknown"]
    expected = sourcecode.parameters(notebook) | {"profile": profile}
    found = [f"parameters {sidecar['parameters']} and not {expected}"] if sidecar["parameters"] != expected else []
    if sidecar["code"] != sourcecode.digest(notebook):
        found.append(f"{sidecar['notebook']} or a module that it imports")
    return found + provenance.changed(sidecar["inputs"])


def _differences(left: Path, right: Path) -> list[tuple[object, ...]]:
    notes = results.sidecar(left)
    tolerances, relative = notes["tolerances"], notes["relative"]
    old, new = results.read(left), results.read(right)
    if list(old.columns) != list(new.columns):
        return [("header", "all", ", ".join(old.columns), ", ".join(new.columns), "")]
    numbers = [c for c in old.columns if pd.api.types.is_float_dtype(old[c]) or pd.api.types.is_float_dtype(new[c])]
    keys = [column for column in old.columns if column not in numbers]
    rows = [dict(zip(map(tuple, f[keys].astype(str).values), f[numbers].values, strict=True)) for f in (old, new)]
    found: list[tuple[object, ...]] = []
    for key in sorted(rows[0].keys() | rows[1].keys()):
        label = ", ".join(key)
        present = [key in side for side in rows]
        if not all(present):
            found.append((label, "all", *("present" if here else "missing" for here in present), ""))
            continue
        metric = dict(zip(keys, key, strict=True)).get("metric", "")
        for column, a, b in zip(numbers, rows[0][key], rows[1][key], strict=True):
            tolerance = max(
                tolerances.get(metric, tolerances.get(column, results.TOLERANCE)), relative * max(abs(a), abs(b))
            )
            if not (abs(a - b) <= tolerance or (pd.isna(a) and pd.isna(b))):
                found.append((label, column, results.FLOAT % a, results.FLOAT % b, tolerance))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how tables differ from others, or from this checkout; exit code 1 when any does, 2 for bad folders."""
    parser = argparse.ArgumentParser(
        prog="python -m compendium.paper.verify", description="Compare and check result tables."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    comparing = actions.add_parser("compare", help="tell in which numbers two folders of tables differ")
    comparing.add_argument("left", type=Path, help="the tables to trust, for example data/results/mini")
    comparing.add_argument("right", type=Path, help="the tables to check")
    checking = actions.add_parser("check", help="tell which tables this checkout would compute from something else")
    checking.add_argument("folder", type=Path, help="the tables to check, for example data/results/mini")
    options = parser.parse_args(arguments)
    try:
        return _check(options.folder) if options.action == "check" else _compare(options.left, options.right)
    except InputError as error:
        print(error)
        return 2


def _compare(left: Path, right: Path) -> int:
    differences = compare(left, right)
    if differences.empty:
        print(f"{right} agrees with {left} within the tolerances of the sidecars.")
        return 0
    print(differences.to_markdown(index=False))
    print(f"{len(differences)} differences; to accept the new tables, copy them over {left} and commit.")
    return 1


def _check(folder: Path) -> int:
    tables = check(folder)
    differing = {table: parts for table, parts in tables.items() if parts}
    if not differing:
        print(f"{folder}: code, parameters and inputs of all {len(tables)} tables are those of this checkout.")
        return 0
    for table, parts in differing.items():
        print(f"{table}: {_listed(parts)}")
    remedy = "to compute them again, delete their sidecars and run `make paper`"
    print(f"{folder}: this checkout differs for {len(differing)} of {len(tables)} tables in what is named; {remedy}.")
    return 1


def _listed(parts: Sequence[str]) -> str:
    shown = ", ".join(parts[:SHOWN])
    return shown if len(parts) <= SHOWN else f"{shown} and {len(parts) - SHOWN} more"


if __name__ == "__main__":
    raise SystemExit(main())
