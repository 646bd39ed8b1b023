# SPDX-License-Identifier: MIT
"""What the table of measurements says about speed on CPUs, as the table in ``bench/README.md``.

``python -m bench.summary`` writes it there anew; a test compares the two.
"""

from collections.abc import Sequence

from bench import counts, table
from bench.run import RESULTS
from bench.table import Row
from tsvlib.files import replacing

README = RESULTS.parent / "README.md"
BEGIN = "<!-- `python -m bench.summary` writes this table. -->\n"
_HEAD = ["", "literal", "ours", "ratio"]


def summary(rows: Sequence[Row]) -> str:
    """Return times of both sides and their ratio as Markdown; a step that has no rows is left out."""
    values = {(row.step, row.case, row.quantity): row.value for row in rows}
    lines = _merge(values) if ("merge", "ours", "speed-up") in values else {}
    for row in rows:
        if row.step == "paper" and row.quantity == "speed-up":
            published, own = (values["paper", row.case, side] for side in ("literal, extrapolated", "ours"))
            lines[f"`paper`: {row.case}"] = _line(published, own, row.value)
    return counts.markdown(_HEAD, lines)


def renewed(readme: str, rows: Sequence[Row]) -> str:
    """Return the README with its table as the rows have it now."""
    before, begin, rest = readme.partition(BEGIN)
    assert begin, f"{README}: the line {BEGIN.strip()!r} is missing; put it back."
    _, blank, after = rest.partition("\n\n")
    return before + begin + summary(rows) + blank + after


def _merge(values: dict[tuple[str, str, str], float]) -> dict[str, list[str]]:
    whole, unchanged = (values["merge", "literal", name] for name in ("time", "time of unchanged matrices"))
    own = values["merge", "ours", "time"]
    with_unchanged = values["merge", "ours", "speed-up with unchanged matrices"]
    return {
        "`merge`": _line(whole - unchanged, own, values["merge", "ours", "speed-up"]),
        "`merge`, unchanged matrices decomposed too": _line(whole, own, with_unchanged),
    }


def _line(literal: float, ours: float, ratio: float) -> list[str]:
    return [f"{literal:,.0f} s", f"{ours:,.0f} s", f"{ratio:.1f}"]


def main() -> None:
    """Write the README's table anew."""
    text = renewed(README.read_text(encoding="utf-8"), table.read(RESULTS / "bench.csv"))
    with replacing(README) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
