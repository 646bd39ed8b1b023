# SPDX-License-Identifier: MIT
"""The README's table of notebooks, made of the table at the top of each."""

from pathlib import Path

import jupytext

from compendium import paths
from compendium.paper import contents
from tsvlib.errors import InputError

PROFILE = "mini"
BEGIN = "<!-- `make notebooks` writes this table. -->\n"
_HEAD = "| Notebook | Shows | Paper item | Writes | Run time |\n|---|---|---|---|---|\n"
_SHOWN = (".svg", ".md")
"""Of the formats of a figure or a printed table, the one that a browser shows."""


def renewed(readme: str) -> str:
    """Return the README with its table as the notebooks have it now; InputError when it has no place for one."""
    before, begin, rest = readme.partition(BEGIN)
    if not begin:
        raise InputError(f"{paths.ROOT / 'README.md'}: the line {BEGIN.strip()!r} is missing; put it back.")
    _, blank, after = rest.partition("\n\n")
    rows = [_row(source) for source in sorted((paths.ROOT / "notebooks").glob("*.py"))]
    return before + begin + _HEAD + "\n".join(rows) + blank + after


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
