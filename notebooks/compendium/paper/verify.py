# SPDX-License-Identifier: MIT
"""Are result tables what this checkout computes? ``make verify`` asks twice.

``python -m compendium compare LEFT RIGHT`` tells in which numbers two folders of tables differ, and
``python -m compendium check-tables FOLDER`` which tables this checkout would compute from something else.
"""

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

    Keys and text are compared exactly, numbers within the tolerances that the sidecars of ``left`` state, and hits by
    the share of inputs that only one table has right; tables and rows that only one folder has are differences.

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
    if sidecar["code"] != sourcecode.digest(notebook, sidecar.get("named", ())):
        found.append(f"{sidecar['notebook']} or a module that it imports")
    return found + provenance.changed(sidecar["inputs"])


def _differences(left: Path, right: Path) -> list[tuple[object, ...]]:
    notes = results.sidecar(left)
    tolerances, relative = notes["tolerances"], notes["relative"]
    old, new = results.read(left), results.read(right)
    if list(old.columns) != list(new.columns):
        return [("header", "all", ", ".join(old.columns), ", ".join(new.columns), "")]
    keys = results.keys_of(old, new)
    measured = [column for column in old.columns if column not in keys]
    rows = [dict(zip(map(tuple, f[keys].astype(str).values), f[measured].values, strict=True)) for f in (old, new)]
    found: list[tuple[object, ...]] = []
    for key in sorted(rows[0].keys() | rows[1].keys()):
        label = ", ".join(key)
        present = [key in side for side in rows]
        if not all(present):
            found.append((label, "all", *("present" if here else "missing" for here in present), ""))
            continue
        metric = dict(zip(keys, key, strict=True)).get("metric", "")
        for column, a, b in zip(measured, rows[0][key], rows[1][key], strict=True):
            if column == results.HITS:
                tolerance = tolerances.get(column, results.TOLERANCE)
                if _share_of_others(a, b) > tolerance:
                    found.append((label, column, a, b, tolerance))
                continue
            tolerance = max(
                tolerances.get(metric, tolerances.get(column, results.TOLERANCE)), relative * max(abs(a), abs(b))
            )
            if not (abs(a - b) <= tolerance or (pd.isna(a) and pd.isna(b))):
                found.append((label, column, results.FLOAT % a, results.FLOAT % b, tolerance))
    return found


def _share_of_others(left: str, right: str) -> float:
    """Return the share of inputs that only one of two texts of hits has right; 1 when they are of other lengths.

    >>> _share_of_others("f0", "f1"), _share_of_others("f0", "f000"), _share_of_others("", "")
    (0.125, 1.0, 0.0)
    """
    if len(left) != len(right):
        return 1.0
    return (int(left or "0", 16) ^ int(right or "0", 16)).bit_count() / max(1, 4 * len(left))


def told(tables: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line for each table that differs from this checkout in something, as ``check`` found it."""
    return [f"{table}: {_listed(parts)}" for table, parts in tables.items() if parts]


def _listed(parts: Sequence[str]) -> str:
    shown = ", ".join(parts[:SHOWN])
    return shown if len(parts) <= SHOWN else f"{shown} and {len(parts) - SHOWN} more"
