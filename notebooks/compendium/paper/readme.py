# SPDX-License-Identifier: MIT
"""The README's tables: of notebooks, made of the table at the top of each, of worlds, and of methods to choose from."""

from pathlib import Path

import jupytext

from compendium import paths
from compendium.paper import choosing, contents
from tsvlib.errors import InputError

PROFILE = "mini"
BEGIN = "<!-- `make notebooks` writes this table. -->\n"
WORLDS = "<!-- `make compare` writes this table. -->\n"
CHOICES = "<!-- `make notebooks` writes this table of methods. -->\n"
_HEAD = "| Notebook | Shows | Paper item | Writes | Run time |\n|---|---|---|---|---|\n"
_SHOWN = (".svg", ".md")
"""Of the formats of a figure or a printed table, the one that a browser shows."""


def renewed(readme: str) -> str:
    """Return the README with its tables as they are now; InputError when one is missing, or has no place there."""
    rows = [_row(source) for source in sorted((paths.ROOT / "notebooks").glob("*.py"))]
    overview = paths.ROOT / "figures" / paths.COMPARED / "overview.md"
    if not overview.is_file():
        raise InputError(f"{overview}: this table of the README is missing; restore it from git or run `make compare`.")
    worlds = overview.read_text(encoding="utf-8").rpartition("\n\n")[0]
    tables = {BEGIN: _HEAD + "\n".join(rows), WORLDS: worlds, CHOICES: choosing.table()}
    for begin, table in tables.items():
        readme = _replaced(readme, begin, table)
    return readme


def _replaced(readme: str, begin: str, table: str) -> str:
    before, found, rest = readme.partition(begin)
    if not found:
        raise InputError(f"{paths.ROOT / 'README.md'}: the line {begin.strip()!r} is missing; put it back.")
    _, blank, after = rest.partition("\n\n")
    return before + begin + table + blank + after


def _row(source: Path) -> str:
    first = str(jupytext.read(source).cells[0].source)
    header = contents.header(first)
    title = first.partition("\n")[0].removeprefix("# ")
    time = contents.run_time(header["Run time"], PROFILE).replace(" on 2 CPU cores", "")
    written = ", ".join(filter(None, map(_link, contents.files_in(header["Writes"])))) or "nothing"
    return f"| [{source.stem}](notebooks/{source.stem}.ipynb) | {title} | {header['Paper item']} | {written} | {time} |"


def _link(file: str) -> str:
    place = Path(file.replace("<profile>", PROFILE))
    shown = place.suffix in _SHOWN or place.is_relative_to("data")
    return f"[{place.name}]({place.as_posix()})" if shown else ""
