# SPDX-License-Identifier: MIT
"""What measurements say about speed on CPUs, each method and models at true size, as tables in ``bench/README.md``.

``python -m bench.summary`` writes them there anew; a test compares the two.
"""

from collections.abc import Sequence

from bench import counts, table
from bench.run import RESULTS
from bench.table import Row
from tsvlib.files import replacing

README = RESULTS.parent / "README.md"
BEGIN = "<!-- `python -m bench.summary` writes this table. -->\n"
METHODS = "<!-- `python -m bench.summary` writes this table of methods. -->\n"
MODELS = "<!-- `python -m bench.summary` writes this table of models. -->\n"
NOT_RUN = "Not run."
OF_MODELS = (
    "reading, checking and writing anew, each file",
    "merging, from files to a file",
    "head of 8 classes in 8 prompts",
    "encoding in float32",
    "time, from these files to classes",
    "peak memory",
)
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


def of_methods(rows: Sequence[Row]) -> str:
    """Return time and memory of every method as Markdown, the quickest first; ``NOT_RUN`` where there are none."""
    values = {(row.case, row.quantity): row.value for row in rows if row.step == "methods"}
    times = {case: value for (case, quantity), value in values.items() if quantity == "time"}
    lines = {
        f"`{name.replace('_', '-')}`": [f"{times[name]:,.1f} s", f"{values[name, 'peak beyond import torch']:.2f} GB"]
        for name in sorted(times, key=lambda name: times[name])
    }
    return counts.markdown(["", "time", "peak memory beyond `import torch`"], lines) if lines else NOT_RUN


def of_models(rows: Sequence[Row]) -> str:
    """Return what was measured of each model on CPUs as Markdown; ``NOT_RUN`` where there is nothing."""
    told = {(row.case, row.quantity): f"{row.value:.3g} {row.unit}" for row in rows if row.step == "models"}
    names = [case for case, quantity in told if quantity == "peak memory" and case.endswith(", cpu")]
    lines = {what: [told[name, what] for name in names] for what in OF_MODELS}
    return counts.markdown(["", *(name.removesuffix(", cpu") for name in names)], lines) if names else NOT_RUN


def renewed(readme: str, rows: Sequence[Row]) -> str:
    """Return the README with its tables as the rows have them now."""
    for begin, text in ((BEGIN, summary(rows)), (METHODS, of_methods(rows)), (MODELS, of_models(rows))):
        before, found, rest = readme.partition(begin)
        assert found, f"{README}: the line {begin.strip()!r} is missing; put it back."
        _, blank, after = rest.partition("\n\n")
        readme = before + begin + text + blank + after
    return readme


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
    """Write the README's tables anew."""
    text = renewed(README.read_text(encoding="utf-8"), table.read(RESULTS / "bench.csv"))
    with replacing(README) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
