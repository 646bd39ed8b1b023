# SPDX-License-Identifier: MIT
"""The paper's items in its order, and what a profile has to show for each of them.

``items.toml`` beside this file lists the items, ``compared.toml`` those that show several worlds. Figures, tables and
executed notebooks are looked up where the runner put them. What is not there is told as missing, never an error.
"""

import io
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import nbformat
from PIL import Image

from compendium import paths
from tsvlib.files import unreadable

COLOURS = 256
PROSE = 30
"""Number of characters beyond which a table cell counts as a sentence."""


class Item(NamedTuple):
    """An item of the paper: ``stems`` of files in the figures folder, and tables of ``published`` numbers."""

    section: str
    name: str
    title: str
    caption: str
    notebook: str
    stems: tuple[str, ...] = ()
    published: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Return the item's name as the fragment of a link."""
        return re.sub(r"\W+", "-", self.name.lower()).strip("-")


class Figure(NamedTuple):
    """A figure as PNG of few colours, its size in pixels, its width in print, and what it shows in words."""

    stem: str
    png: bytes
    size: tuple[int, int]
    inches: float
    alt: str

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Return the formats in which the figure lies in its folder."""
        return "pdf", "svg", "png"


class Cell(NamedTuple):
    """A table cell, and whether it is marked as the best."""

    text: str
    best: bool


class Table(NamedTuple):
    """A printed table; the first column names the rows, ``note`` is its own caption."""

    stem: str
    head: list[str]
    rows: list[list[Cell]]
    note: str

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Return the formats in which the table lies in its folder."""
        return "csv", "md", "tex"

    def is_prose(self, column: int) -> bool:
        """Tell whether a column holds sentences, which need more room than numbers."""
        return any(len(row[column].text) > PROSE for row in self.rows)


class Step(NamedTuple):
    """An executed notebook behind an item, and how long it runs."""

    notebook: str
    run_time: str


class Entry(NamedTuple):
    """What there is to show of an item: ``elsewhere`` is the earlier item that shows the same files."""

    item: Item
    exhibits: list[Figure | Table]
    elsewhere: Item | None
    steps: list[Step]
    missing: bool


def items(profile: str = paths.DEFAULT) -> list[Item]:
    """Return the paper's items in its order, or those that show several worlds."""
    file = Path(__file__).with_name("compared.toml" if profile == paths.COMPARED else "items.toml")
    sections = tomllib.loads(file.read_text(encoding="utf-8"))
    plain, lists = ("name", "title", "caption", "notebook"), ("stems", "published")
    return [
        Item(section, *(row[key] for key in plain), *(tuple(row.get(key, ())) for key in lists))
        for section, rows in sections.items()
        for row in rows
    ]


def entries(profile: str) -> list[Entry]:
    """Return what a profile has to show, item by item.

    Raises:
        InputError: a figure, a table or an executed notebook is there but cannot be read.
    """
    remedy = f"delete it and run `{paths.command('paper', profile)}` again"
    copies = sorted(paths.notebooks(profile).glob("*.ipynb"))
    headers = {file.stem: header(_first_cell(file, remedy)) for file in copies}
    shown: dict[str, Item] = {}
    found = []
    for item in items(profile):
        folder = paths.figures(profile)
        exhibits = {stem: _exhibit(stem, folder, remedy) for stem in item.stems if stem not in shown}
        elsewhere = next((shown[stem] for stem in item.stems if stem in shown), None)
        there = {stem: exhibit for stem, exhibit in exhibits.items() if exhibit}
        missing = len(there) < len(exhibits) or item.notebook not in headers
        found.append(Entry(item, list(there.values()), elsewhere, _steps(item, headers, profile), missing))
        shown |= dict.fromkeys(there, item)
    return found


def header(first_cell: str) -> dict[str, str]:
    """Return the table at the top of a notebook: Reads, Writes, Paper item, Run time."""
    return dict(re.findall(r"^\| *([A-Z][a-z ]+?) *\| *(.+?) *\|$", first_cell, re.MULTILINE))


def files_in(row: str) -> list[str]:
    """Return the files that a row of a notebook's header names, those in braces one by one.

    >>> files_in("`figures/<profile>/{a,b}.{svg,png}`; the experts")
    ['figures/<profile>/a.svg', 'figures/<profile>/a.png', 'figures/<profile>/b.svg', 'figures/<profile>/b.png']
    """
    return [file for pattern in re.findall(r"`([^`]+)`", row) for file in _expanded(pattern)]


def run_time(row: str, profile: str) -> str:
    """Return what a notebook's row "Run time" says about a profile.

    >>> run_time("mini: about 9 minutes; smoke: seconds", "smoke"), run_time("under a minute", "mini")
    ('seconds', 'under a minute')
    """
    parts = dict(part.split(": ", 1) for part in row.split("; ") if ": " in part)
    return parts.get(profile, row)


def _expanded(pattern: str) -> list[str]:
    head, brace, rest = pattern.partition("{")
    choices, _, tail = rest.partition("}")
    return [head + one + more for one in choices.split(",") for more in _expanded(tail)] if brace else [pattern]


def _first_cell(notebook: Path, remedy: str) -> str:
    try:
        return str(nbformat.read(notebook, as_version=4).cells[0].source)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, IndexError) as error:
        raise unreadable(notebook, OSError(str(error)), remedy) from error


def _steps(item: Item, headers: Mapping[str, Mapping[str, str]], profile: str) -> list[Step]:
    """Return the executed notebook of an item, after those that computed what it reads."""
    if item.notebook not in headers:
        return []
    reads = _result_tables(headers[item.notebook].get("Reads", ""))
    makers = [name for name, rows in headers.items() if reads & _result_tables(rows.get("Writes", ""))]
    return [Step(name, run_time(headers[name].get("Run time", ""), profile)) for name in [*makers, item.notebook]]


def _result_tables(row: str) -> set[str]:
    """Return the names of the result tables in a row of a notebook's header.

    >>> sorted(_result_tables("`data/results/<profile>/{merge,compress}.csv`, `data/published/claims.csv`"))
    ['compress', 'merge']
    """
    files = [Path(file) for file in files_in(row) if file.endswith(".csv")]
    folder = Path("data/results/<profile>")
    return {file.stem for file in files if file.parent == Path() or folder in file.parents}


def _exhibit(stem: str, folder: Path, remedy: str) -> Figure | Table | None:
    picture, table = folder / f"{stem}.png", folder / f"{stem}.md"
    if picture.exists():
        return _figure(stem, picture, remedy)
    return _table(stem, table) if table.exists() else None


def _figure(stem: str, file: Path, remedy: str) -> Figure:
    """Read a figure. Line art needs few colours, and fewer of them take a third of the bytes."""
    buffer = io.BytesIO()
    try:
        with Image.open(file) as image:
            inches = image.width / image.info.get("dpi", (300,))[0]
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
            alt = file.with_suffix(".txt").read_text(encoding="utf-8").strip()
            return Figure(stem, buffer.getvalue(), image.size, round(inches, 2), alt)
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(file, OSError(str(error)), remedy) from error


def _table(stem: str, file: Path) -> Table:
    """Read a table from its Markdown, which marks the best cells and ends in the caption."""
    text, _, note = file.read_text(encoding="utf-8").strip().rpartition("\n\n")
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines())
    return Table(stem, head, [[_cell(cell) for cell in row] for row in rows], note)


def _cell(text: str) -> Cell:
    plain = re.sub(r"^\*\*(.+)\*\*†$", r"\1†", text)
    # A number and its spread belong on one line.
    return Cell(plain.replace(" ± ", "\u00a0±\u00a0"), plain != text)
