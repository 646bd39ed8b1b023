# SPDX-License-Identifier: MIT
"""Tidy result tables with a sidecar that says what is in them, where it comes from and how exact it is.

``python -m tsvlib.results compare LEFT RIGHT`` compares two folders of tables, as ``make verify`` does, and
``python -m tsvlib.results check FOLDER`` tells which tables this checkout would compute from something else.
"""

import argparse
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from tsvlib import paths, provenance, sourcecode
from tsvlib.errors import InputError
from tsvlib.files import replacing

FLOAT = "%.6g"
TOLERANCE = 0.0134
"""Default tolerance of a number: a point of accuracy, two of 150 test images, which machines may differ by."""

REMEDY = "compute the table again"

_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "†": r"$^\dagger$"}


def save(
    name: str,
    frame: pd.DataFrame,
    profile: str,
    columns: Mapping[str, str],
    *,
    tolerances: Mapping[str, float] | None = None,
    relative: float = 0.0,
) -> Path:
    """Write ``frame`` as ``<results>/<name>.csv`` with the sidecar ``<name>.json`` and return the table's path.

    Rows are sorted by the key columns, which are all that hold no floating-point numbers; no two rows may share
    a key. ``columns`` describes every column, with its unit. ``tolerances`` are absolute, by column, or by metric for
    the column ``value``; the default is ``TOLERANCE``. A number also agrees if it differs by no more than the share
    ``relative`` of the larger of the two. What else the sidecar holds is ``provenance.record``.

    Raises:
        ValueError: a column without description or the reverse, or two rows with one key.
        InputError: the files cannot be written.
    """
    if set(columns) != set(frame.columns):
        raise ValueError(f"{name}: described columns {sorted(columns)} are not the columns {sorted(frame.columns)}")
    sidecar = provenance.record() | {
        "columns": dict(columns),
        "profile": profile,
        "relative": relative,
        "tolerances": dict(tolerances or {}),
    }
    target = paths.results(profile) / f"{name}.csv"
    table = frame.sort_values(_keys(name, frame)).to_csv(index=False, float_format=FLOAT, lineterminator="\n")
    notes = json.dumps(sidecar, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    _write(target, profile, {".csv": table, ".json": notes})
    return target


def load(name: str, profile: str) -> pd.DataFrame:
    """Return the table ``name`` of a profile, which becomes an input of what is saved later.

    Raises:
        InputError: the table or its sidecar is missing or unreadable, the sidecar belongs to another profile, or the
            table has changed since it was loaded first.
    """
    table = paths.results(profile) / f"{name}.csv"
    remedy = f"run `{paths.command('paper', profile)}` to compute it"
    owner = _sidecar(table, remedy)["profile"]
    if owner != profile:
        raise InputError(f"{table}: the sidecar says profile {owner!r}; {remedy}.")
    return _read(table, remedy, provenance.read)


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
    return {table.stem: _otherwise(_sidecar(table), folder.name) for table in _tables(folder)}


def save_table(
    stem: str, frame: pd.DataFrame, profile: str, caption: str, *, best: Collection[tuple[str, str]] = ()
) -> None:
    """Write ``frame`` as ``<figures>/<stem>.csv``, ``.md`` and ``.tex`` under ``caption``.

    The cells are texts as a reader should see them, the index names the rows. ``best`` lists (row, column) pairs
    that print bold with a dagger; the CSV stays plain.

    Raises:
        ValueError: no caption, or a cell of ``best`` that the frame does not have.
        InputError: the files cannot be written.
    """
    if not caption.strip():
        raise ValueError(f"{stem}: a table needs a caption")
    if strays := [cell for cell in best if cell[0] not in frame.index or cell[1] not in frame.columns]:
        raise ValueError(f"{stem}: no such cell {strays[0]}")
    plain = frame.to_csv(lineterminator="\n")
    marked = _marked(frame, best, "**{}**†").to_markdown(disable_numparse=True)
    escaped = frame.map(_escaped).rename(index=_escaped, columns=_escaped)
    cells = [(_escaped(row), _escaped(column)) for row, column in best]
    layout = "l" + "r" * len(frame.columns)
    text = _marked(escaped, cells, r"\textbf{{{}}}$^\dagger$").style.to_latex(
        hrules=True, caption=_escaped(caption), label=f"tab:{stem}", column_format=layout, position_float="centering"
    )
    texts = {".csv": plain, ".md": f"{marked}\n\n{caption}\n", ".tex": text}
    _write(paths.figures(profile) / f"{stem}.csv", profile, texts)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, atomically, as UTF-8 with LF."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


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


def _write(target: Path, profile: str, texts: Mapping[str, str]) -> None:
    """Write texts by suffix to where ``target`` has to be written now."""
    place = paths.staged(target, profile)
    for suffix, text in texts.items():
        write_text(place.with_suffix(suffix), text)
    paths.tell_draft(target, profile)


def _keys(name: str, frame: pd.DataFrame) -> list[str]:
    keys = [column for column in frame.columns if not pd.api.types.is_float_dtype(frame[column])]
    if frame.duplicated(keys).any():
        raise ValueError(f"{name}: two rows share one key of {', '.join(keys)}")
    return keys


def _marked(frame: pd.DataFrame, cells: Collection[tuple[str, str]], pattern: str) -> pd.DataFrame:
    marked = frame.copy()
    for row, column in cells:
        marked.loc[row, column] = pattern.format(marked.loc[row, column])
    return marked


def _escaped(text: str) -> str:
    r"""Escape what LaTeX reads as commands.

    >>> _escaped("90 % ± 0.1 of tsv_m")
    '90 \\% $\\pm$ 0.1 of tsv\\_m'
    """
    return "".join(_LATEX.get(character, character) for character in text)


def _differences(left: Path, right: Path) -> list[tuple[object, ...]]:
    sidecar = _sidecar(left)
    tolerances, relative = sidecar["tolerances"], sidecar["relative"]
    old, new = _read(left), _read(right)
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
            tolerance = max(tolerances.get(metric, tolerances.get(column, TOLERANCE)), relative * max(abs(a), abs(b)))
            if not (abs(a - b) <= tolerance or (pd.isna(a) and pd.isna(b))):
                found.append((label, column, FLOAT % a, FLOAT % b, tolerance))
    return found


def _read(table: Path, remedy: str = REMEDY, read: Callable[[Path], bytes] = Path.read_bytes) -> pd.DataFrame:
    try:
        return pd.read_csv(BytesIO(read(table)), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: not a readable table ({error}); {remedy}.") from error


def _sidecar(table: Path, remedy: str = REMEDY) -> dict[str, Any]:
    file = table.with_suffix(".json")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not {"profile", "tolerances", "relative"} <= content.keys():
            raise ValueError
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: missing or unreadable; {remedy}.") from error
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how tables differ from others, or from this checkout; exit code 1 when any does, 2 for bad folders."""
    parser = argparse.ArgumentParser(prog="python -m tsvlib.results", description="Compare and check result tables.")
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
        print(f"{table}: {', '.join(parts)}")
    remedy = "to compute them again, delete their sidecars and run `make paper`"
    print(f"{folder}: this checkout differs for {len(differing)} of {len(tables)} tables in what is named; {remedy}.")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
