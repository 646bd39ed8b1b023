# SPDX-License-Identifier: MIT
"""From checkpoints on disk to tables on disk: interference between experts, and what their singular values tell."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tsvlib import compression, linalg, sti
from tsvlib.cli import outputs
from tsvlib.cli.workflows import Inputs, Session, check_place
from tsvlib.files import replacing
from tsvlib.layers import CheckpointSuite, Layer, task_matrices
from tsvlib.taskvectors import check_enough

if TYPE_CHECKING:
    import pandas as pd

ENERGIES = (0.5, 0.9, 0.99)


def interference(inputs: Inputs, out: Path | None, rank: str, session: Session) -> "pd.DataFrame":
    """Write singular task interference of every task matrix as CSV to ``out``, if it is given, and return it.

    Columns: ``key``, ``part`` (of a tensor that holds several matrices), ``rows``, ``columns``, ``tasks`` (that
    changed it), ``components`` (of all tasks), ``entrywise`` and ``induced`` (norms of Eq. 6, see ``tsvlib.sti``).
    """
    check_enough(len(inputs.experts))
    kept = compression.Rank.parse(rank)
    if out:
        check_place(out, outputs.TABLE, inputs, session)
    inputs.inspect(session)

    def row(layer: Layer) -> dict[str, object]:
        factors = [kept.cut(each) for each in layer.factors(kept.count(min(layer.shape)))]
        norms = sti.singular_task_interference(factors)
        sizes = {"tasks": len(factors), "components": sum(len(each.s) for each in factors)}
        return _names(layer) | sizes | norms._asdict()

    with session.over(row, _matrices(inputs.suite, session), "measuring interference") as rows:
        return _table(out, rows)


def spectra(inputs: Inputs, out: Path | None, session: Session) -> "pd.DataFrame":
    """Write what the singular values of every task matrix tell as CSV to ``out``, if it is given, and return it.

    Columns: ``key``, ``part``, ``rows``, ``columns``, ``expert`` (number, in the order given), ``norm``
    (Frobenius), ``largest`` singular value, ``stable_rank`` (norm² / largest²), and how many components hold a share of
    the energy: ``energy_0.5`` and so on. Matrices that an expert did not change have no row.
    """
    if out:
        check_place(out, outputs.TABLE, inputs, session)
    inputs.inspect(session)
    suites = {number: CheckpointSuite(inputs.base, [expert]) for number, expert in enumerate(inputs.experts, 1)}
    items = [(number, layer) for number, suite in suites.items() for layer in _matrices(suite, session)]

    def row(item: tuple[int, Layer]) -> list[dict[str, object]]:
        number, layer = item
        found = layer.factors(min(layer.shape))
        return [_names(layer) | {"expert": number} | _profile(factors) for factors in found]

    with session.over(row, items, "decomposing") as found:
        return _table(out, (row for rows in found for row in rows))


def _profile(factors: linalg.Factors) -> dict[str, object]:
    largest = float(factors.s[0])
    stable_rank = float((factors.s.double() / largest).square().sum())
    row: dict[str, object] = {"norm": largest * math.sqrt(stable_rank), "largest": largest, "stable_rank": stable_rank}
    shares = {f"energy_{share}": len(compression.Rank(energy=share).cut(factors).s) for share in ENERGIES}
    return row | shares


def _names(layer: Layer) -> dict[str, object]:
    return {"key": layer.key, "part": layer.part, "rows": layer.shape[0], "columns": layer.shape[1]}


def _matrices(suite: CheckpointSuite, session: Session) -> list[Layer]:
    # Tensors of whole numbers, such as the position numbers of published models, may have two dimensions as well.
    keys = [key for key, info in suite.base.layout.items() if info.dtype.is_floating_point]
    return task_matrices(suite, keys, session)


def _table(out: Path | None, rows: Iterable[dict[str, object]]) -> "pd.DataFrame":
    # Imported here because weights are merged without it.
    import pandas as pd

    frame = pd.DataFrame(list(rows))
    if out:
        with replacing(out) as temporary:
            frame.to_csv(temporary, index=False, lineterminator="\n")
    return frame
