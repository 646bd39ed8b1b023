# SPDX-License-Identifier: MIT
"""The whole paper on one page: ``python -m compendium page`` writes it as HTML and as PDF.

Both hold everything that they show; the same figures, tables and notebooks give the same bytes.
"""

import base64
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import jinja2

from compendium import paths, profiles
from compendium.paper import contents, sheets
from compendium.paper.contents import Entry
from compendium.paper.results import write_text
from tsvlib.files import replacing

TITLE = "Task Singular Vectors: an executable paper"
AUTHORS = "Gargiulo, Crisostomi, Bucarelli, Scardapane, Silvestri and Rodolà"
PAPER = f"{AUTHORS}, Task Singular Vectors: Reducing Task Interference in Model Merging, CVPR 2025, arXiv 2412.00081"


def build(name: str, backbones: str = "", suites: str = "") -> list[Path]:
    """Write ``paper.html`` and ``paper.pdf`` into the figures folder of a profile, or of all, and return their paths.

    ``backbones`` and ``suites`` are those of a part of the profile, where it is that what was run.

    Raises:
        InputError: something that there is to show cannot be read, or the files cannot be written.
    """
    folder = paths.figures(name)
    entries = contents.entries(name)
    paragraphs = preface(name, entries, backbones, suites)
    write_text(folder / "paper.html", html(name, entries, paragraphs))
    with replacing(folder / "paper.pdf") as temporary:
        temporary.write_bytes(sheets.pdf(TITLE, paragraphs, entries))
    return [folder / "paper.html", folder / "paper.pdf"]


def preface(name: str, entries: Sequence[Entry], backbones: str = "", suites: str = "") -> list[str]:
    """Return the paragraphs that say what was computed on what, and how much of it is missing."""
    if name == paths.COMPARED:
        return [f"What {PAPER} shows, in several worlds side by side. Each world has a page of its own."]
    profile = profiles.load(name, backbones, suites)
    missing = sum(entry.missing for entry in entries)
    meaning = "not the paper's" if profile.pretrained else "and they mean nothing, because the models are random"
    own = f"The numbers are those of the profile {profile.name} alone, {meaning}."
    left = f" Not run yet: {missing} of {len(entries)} items." if missing else ""
    return [
        f"The figures and tables of {PAPER}, in the paper's order, computed on {profile.title}."
        f"{profiles.left_out(profile)}",
        f"{own} The paper's own stand beside them or in data/published.{left}",
    ]


def html(name: str, entries: Sequence[Entry], paragraphs: Sequence[str]) -> str:
    """Return the page, which begins with a preface: one HTML document without scripts that asks for no other file."""
    surroundings = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    surroundings.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    folder = paths.figures(name)
    return surroundings.get_template("page.html.j2").render(
        title=TITLE,
        name=name,
        preface=paragraphs,
        sections={name: list(members) for name, members in groupby(entries, lambda entry: entry.item.section)},
        notebooks=Path(os.path.relpath(paths.notebooks(name), folder)).as_posix(),
        published=Path(os.path.relpath(paths.published(), folder)).as_posix(),
    )
