# SPDX-License-Identifier: MIT
"""The page on sheets of A4: the same items, captions, figures and tables as a PDF with a table of contents."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
from fpdf import FPDF, FontFace
from fpdf.enums import Align, TableBordersLayout, XPos, YPos
from fpdf.outline import OutlineSection

from compendium.paper.contents import Entry, Figure, Table

FONT = "DejaVu"
FACES = {"": "DejaVuSans.ttf", "B": "DejaVuSans-Bold.ttf", "I": "DejaVuSans-Oblique.ttf"}
MARGIN = 18
WIDTH, HEIGHT = 210 - 2 * MARGIN, 215
"""Largest figure in millimetres, which leaves room for heading and caption on a sheet."""
INCH = 25.4
LINE = 0.5
"""Height of a line in millimetres for each point of its letters."""
SMALL, TEXT, HEADING, TITLE = 7.5, 9.0, 11.0, 16.0
TABLE_SIZES = (8.0, 7.5, 7.0, 6.5, 6.0, 5.5, 5.0)
PADDING = 0.8
SLACK = 0.1


class Sheets(FPDF):
    """A document in the fonts that matplotlib ships, whose bytes depend on nothing but its content."""

    def __init__(self, title: str) -> None:
        super().__init__(format="A4")
        self.set_title(title)
        self.set_lang("en")
        # Every PDF has a date; a true one would change the bytes of the same content.
        self.set_creation_date(datetime(2000, 1, 1, tzinfo=UTC))
        self.set_margin(MARGIN)
        self.set_auto_page_break(True, MARGIN)
        for style, file in FACES.items():
            self.add_font(FONT, style, Path(mpl.get_data_path()) / "fonts" / "ttf" / file)
        self.set_font(FONT, size=TEXT)
        self.add_page()

    def footer(self) -> None:
        """Number the sheet."""
        self.set_y(-MARGIN + 5)
        self.say(str(self.page_no()), SMALL, align="C")

    def say(self, text: str, size: float = TEXT, style: str = "", *, align: str = "L", gap: float = 0.0) -> None:
        """Write a paragraph, and leave a ``gap`` of so many millimetres."""
        self.set_font(FONT, style, size)
        self.multi_cell(0, LINE * size, text, align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(gap)

    def open(self, name: str, level: int, *, room: float) -> None:
        """Begin a section (level 0) or an item (level 1), on a new sheet where less than ``room`` is left."""
        self.ln(5)
        if self.will_page_break(room):
            self.add_page()
        self.start_section(name, level)
        self.say(name, HEADING - 1.5 * level, "B", gap=1.0)


def pdf(title: str, preface: Sequence[str], entries: Sequence[Entry]) -> bytes:
    """Return the document: title, preface, contents with page numbers, and every item."""
    sheets = Sheets(title)
    sheets.say(title, TITLE, "B", gap=2.0)
    for paragraph in preface:
        sheets.say(paragraph, gap=1.0)
    sheets.insert_toc_placeholder(_contents, allow_extra_pages=True)
    for section, group in groupby(entries, lambda entry: entry.item.section):
        members = list(group)
        sheets.open(section, 0, room=10 + _room(members[0]))
        for entry in members:
            _entry(sheets, entry)
    return bytes(sheets.output())


def _contents(sheets: FPDF, outline: Sequence[OutlineSection]) -> None:
    sheets.ln(3)
    for part in outline:
        link = sheets.add_link(page=part.page_number)
        sheets.set_font(FONT, "" if part.level else "B", TEXT)
        sheets.set_x(MARGIN + 4 * part.level)
        sheets.cell(sheets.epw - 4 * part.level - 12, LINE * TEXT, part.name, link=link)
        sheets.cell(
            12, LINE * TEXT, str(part.page_number), align=Align.R, link=link, new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )


def _room(entry: Entry) -> float:
    """Return the millimetres that heading, caption and figure of an item must find on one sheet."""
    return 30.0 + max((_size(exhibit)[1] for exhibit in entry.exhibits if isinstance(exhibit, Figure)), default=0)


def _entry(sheets: Sheets, entry: Entry) -> None:
    sheets.open(f"{entry.item.name}: {entry.item.title}", 1, room=_room(entry))
    sheets.say(entry.item.caption, gap=1.0)
    for exhibit in entry.exhibits:
        if isinstance(exhibit, Figure):
            width, height = _size(exhibit)
            sheets.image(io.BytesIO(exhibit.png), Align.C, w=width, h=height, alt_text=exhibit.alt)
            sheets.ln(1)
        else:
            _table(sheets, exhibit)
            sheets.say(exhibit.note, SMALL, gap=1.0)
    if entry.elsewhere:
        sheets.say(f"Shown with {entry.elsewhere.name}.")
    if entry.missing:
        sheets.say("not run", style="I")
    if entry.steps:
        steps = ", ".join(f"{step.notebook} ({step.run_time})" for step in entry.steps)
        sheets.say(f"From {steps}.", SMALL)


def _size(figure: Figure) -> tuple[float, float]:
    """Return width and height in millimetres: as drawn, or smaller where the sheet is."""
    width, height = figure.inches * INCH, figure.inches * INCH * figure.size[1] / figure.size[0]
    shrink = min(1, WIDTH / width, HEIGHT / height)
    return width * shrink, height * shrink


def _table(sheets: Sheets, table: Table) -> None:
    """Print a table in the largest letters that break no word."""
    texts = [table.head, *([cell.text for cell in row] for row in table.rows)]
    for size in TABLE_SIZES:
        sheets.set_font(FONT, "B", size)
        words, cells = ([_widest(sheets, column, unit) for column in zip(*texts, strict=True)] for unit in (" ", None))
        if sum(words) <= sheets.epw:
            break
    widths = _widths(words, cells, sheets.epw)
    look = {"borders_layout": TableBordersLayout.HORIZONTAL_LINES, "text_align": "LEFT", "v_align": "TOP"}
    look |= {"col_widths": widths, "width": min(sum(widths), sheets.epw), "line_height": LINE * size}
    sheets.set_font(FONT, size=size)
    with sheets.table(padding=PADDING, **look) as rows:
        rows.row(table.head)
        for row in table.rows:
            line = rows.row()
            for cell in row:
                line.cell(cell.text, style=FontFace(emphasis="BOLD") if cell.best else None)
    sheets.ln(1)


def _widest(sheets: Sheets, column: Sequence[str], separator: str | None) -> float:
    """Return the width of the widest piece in a column between separators, with its padding."""
    pieces = [piece for text in column for piece in (text.split(separator) if separator else [text])]
    return max(sheets.get_string_width(piece) for piece in pieces) + 2 * PADDING + SLACK


def _widths(words: Sequence[float], cells: Sequence[float], room: float) -> tuple[float, ...]:
    """Share the room among columns as browsers do: longest words first, the rest in proportion to what is wanted.

    Where not even the longest words fit, all columns are equal, and words break.

    >>> _widths([10.0, 10.0], [10.0, 50.0], 40.0), _widths([10.0, 10.0], [10.0, 20.0], 40.0)
    ((10.0, 30.0), (10.0, 20.0))
    """
    if sum(cells) <= room:
        return tuple(cells)
    if (spare := room - sum(words)) <= 0:
        return (room / len(words),) * len(words)
    share = spare / (sum(cells) - sum(words))
    return tuple(word + share * (cell - word) for word, cell in zip(words, cells, strict=True))
