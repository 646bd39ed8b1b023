# SPDX-License-Identifier: MIT
"""From checkpoints on disk to tables on disk: interference between experts, and what their singular values tell."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tsvlib import compression, linalg, sti
from tsvlib.cli import memory, outputs
from tsvlib.cli.sessions import Session
from tsvlib.cli.workflows import Inputs, check_place, tell
from tsvlib.files import replacing
from tsvlib.layers import Layer, task_matrices
from tsvlib.suites import CheckpointSuite
from tsvlib.taskvectors import check_enough

if TYPE_CHECKING:
    import pandas as pd

ENERGIES = (0.5, 0.9, 0.99)
_PLACE = ("key", "part", "rows", "columns")


@memory.planned
def interference(inputs: Inputs, out: Path | None, rank: str, session: Session) -> "pd.DataFrame":
    """Write singular task interference of every task matrix as CSV to ``out``, if it is given, and return it.

    Columns as ``tsvlib.interference`` states them.
    """
    check_enough(len(inputs.experts))
    kept = compression.Rank.parse(rank)
    if out:
        check_place(out, outputs.TABLE, inputs, session)
    tell(inputs, session)
    inputs.inspect(session)

    def row(layer: Layer) -> dict[str, object]:
        factors = [kept.cut(each) for each in layer.factors(kept.count(min(layer.shape)))]
        norms = sti.singular_task_interference(factors)
        sizes = {"tasks": len(factors), "components": sum(len(each.s) for each in factors)}
        return _names(layer) | sizes | norms._asdict()

    with session.over(row, _matrices(inputs.suite, session), "measuring interference", _key) as rows:
        return _table(out, rows, [*_PLACE, "tasks", "components", *sti.Interference._fields])


@memory.planned
def spectra(inputs: Inputs, out: Path | None, session: Session) -> "pd.DataFrame":
    """Write what the singular values of every task matrix tell as CSV to ``out``, if it is given, and return it.

    Columns as ``tsvlib.spectra`` states them.
    """
    if out:
        check_place(out, outputs.TABLE, inputs, session)
    tell(inputs, session)
    inputs.inspect(session)
    suites = {number: inputs.suite.alone(number - 1) for number in range(1, len(inputs.experts) + 1)}
    items = [(number, layer) for number, suite in suites.items() for layer in _matrices(suite, session)]

    def row(item: tuple[int, Layer]) -> list[dict[str, object]]:
        number, layer = item
        found = layer.factors(min(layer.shape))
        return [_names(layer) | {"expert": number} | _profile(factors) for factors in found]

    with session.over(row, items, "decomposing", lambda item: _key(item[1])) as found:
        shares = [f"energy_{share}" for share in ENERGIES]
        every = (row for rows in found for row in rows)
        return _table(out, every, [*_PLACE, "expert", "norm", "largest", "stable_rank", *shares])


def _profile(factors: linalg.Factors) -> dict[str, object]:
    largest = float(factors.s[0])
    stable_rank = float((factors.s.double() / largest).square().sum())
    row: dict[str, object] = {"norm": largest * math.sqrt(stable_rank), "largest": largest, "stable_rank": stable_rank}
    shares = {f"energy_{share}": len(compression.Rank(energy=share).cut(factors).s) for share in ENERGIES}
    return row | shares


def _key(layer: Layer) -> str:
    return layer.key


def _names(layer: Layer) -> dict[str, object]:
    return dict(zip(_PLACE, (layer.key, layer.part, *layer.shape), strict=True))


def _matrices(suite: CheckpointSuite, session: Session) -> list[Layer]:
    return task_matrices(suite, suite.selection.merged, session)


def _table(out: Path | None, rows: Iterable[dict[str, object]], columns: Sequence[str]) -> "pd.DataFrame":
    # Imported here because weights are merged without it.
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(columns))
    if out:
        with replacing(out) as temporary:
            frame.to_csv(temporary, index=False, lineterminator="\n")
    return frame
