# SPDX-License-Identifier: MIT
"""Tidy result tables with a sidecar that says what is in them, where it comes from and how exact it is."""

import json
from collections.abc import Callable, Collection, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from compendium import paths, provenance
from tsvlib.errors import InputError
from tsvlib.files import replacing

FLOAT = "%.6g"
TOLERANCE = 0.0126
"""Default tolerance of a number: a point of accuracy, five of 400 test inputs, which machines may differ by."""

HITS = "hits"
"""Column of the bits that an accuracy is the mean of, as hexadecimal digits; no key, and compared bit by bit."""

TEXTS = {HITS: str, "order": str, "names": str}
"""Columns in which digits are no numbers."""

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

    Rows are sorted by the key columns, which are all but floating-point numbers and ``HITS``; no two rows may share
    a key. ``columns`` describes every column, with its unit. ``tolerances`` are absolute, by column, or by metric for
    the column ``value``; of ``HITS`` they are the share that may differ; the default is ``TOLERANCE``. A number also
    agrees if it differs by no more than the share ``relative`` of the larger of the two. What else the sidecar holds
    is ``provenance.record``.

    Raises:
        ValueError: a column without description or the reverse, or two rows with one key.
        InputError: the files cannot be written.
    """
    if set(columns) != set(frame.columns):
        raise ValueError(f"{name}: described columns {sorted(columns)} are not the columns {sorted(frame.columns)}")
    notes = provenance.record() | {
        "columns": dict(columns),
        "profile": profile,
        "relative": relative,
        "tolerances": dict(tolerances or {}),
    }
    target = paths.results(profile) / f"{name}.csv"
    table = frame.sort_values(_distinct(name, frame)).to_csv(index=False, float_format=FLOAT, lineterminator="\n")
    text = json.dumps(notes, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    _write(target, profile, {".csv": table, ".json": text})
    return target


def load(name: str, profile: str) -> pd.DataFrame:
    """Return the table ``name`` of a profile, which becomes an input of what is saved later.

    Raises:
        InputError: the table or its sidecar is missing or unreadable, the sidecar belongs to another profile, or the
            table has changed since it was loaded first.
    """
    table = paths.results(profile) / f"{name}.csv"
    remedy = f"run `{paths.command('paper', profile)}` to compute it"
    owner = sidecar(table, remedy)["profile"]
    if owner != profile:
        raise InputError(f"{table}: the sidecar says profile {owner!r}; {remedy}.")
    return read(table, remedy, provenance.read)


def stated(name: str, profile: str) -> str:
    """Return what the world of the table ``name`` said of its experts and inputs, with a space before it, or nothing.

    Raises:
        InputError: the sidecar is missing or unreadable.
    """
    told = sidecar(paths.results(profile) / f"{name}.csv").get("stated", "")
    return f" {told}" if told else ""


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


def _write(target: Path, profile: str, texts: Mapping[str, str]) -> None:
    """Write texts by suffix to where ``target`` has to be written now."""
    place = paths.staged(target, profile)
    for suffix, text in texts.items():
        write_text(place.with_suffix(suffix), text)
    paths.tell_draft(target, profile)


def keys_of(*frames: pd.DataFrame) -> list[str]:
    """Return the columns that tell rows of tables with the same columns apart, none of which holds measurements."""
    return [
        column
        for column in frames[0].columns
        if column != HITS and not any(pd.api.types.is_float_dtype(frame[column]) for frame in frames)
    ]


def _distinct(name: str, frame: pd.DataFrame) -> list[str]:
    keys = keys_of(frame)
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


def read(table: Path, remedy: str = REMEDY, content: Callable[[Path], bytes] = Path.read_bytes) -> pd.DataFrame:
    """Return a table; InputError, ending in ``remedy``, when it cannot be read."""
    try:
        frame = pd.read_csv(BytesIO(content(table)), keep_default_na=False, na_values=[""], dtype=TEXTS)
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: not a readable table ({error}); {remedy}.") from error
    return frame.fillna(dict.fromkeys(TEXTS, ""))


def sidecar(table: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """Return what the sidecar of a table says; InputError, ending in ``remedy``, when it cannot be read."""
    file = table.with_suffix(".json")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not {"profile", "tolerances", "relative"} <= content.keys():
            raise ValueError
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: missing or unreadable; {remedy}.") from error
    return content
