# SPDX-License-Identifier: MIT
"""The low-rank curve: an expert from more and more of the leading singular components of its task matrices."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from compendium.profiles import Profile
from compendium.study.evaluation import packed, shares
from compendium.study.runs import Row, Run
from compendium.study.studies import HITS
from tsvlib.compression import Rank
from tsvlib.errors import InputError

COLUMNS = {
    "backbone": "model that was fine-tuned",
    "seed": "seed of the expert's fine-tuning",
    "task": "task of the expert, on which it is measured",
    "percent": "share of the singular components of each task matrix that is kept, in percent",
    "components": "how many that are, to the nearest, of how many in task matrices of each size",
    "accuracy": "share of correct test inputs in [0, 1]",
    "bytes": "what the task vector takes, in float32: as factors (TSV-C), or whole in the row with 100 %",
    "hits": HITS,
}


@dataclass(frozen=True)
class Nearest(Rank):
    """A share of the components, rounded to the nearest number where methods round down as the paper's code does."""

    def count(self, most: int) -> int:
        """Return how many of ``most`` components to keep, at least one; halves are rounded up.

        >>> Nearest(fraction=0.03).count(256), Nearest(fraction=0.05).count(10), Nearest(fraction=0.01).count(20)
        (8, 1, 1)
        """
        return max(1, math.floor(most * (self.fraction or 0) * (1 + 1e-12) + 0.5))


def fractions(profile: Profile, percents: str) -> tuple[float, ...]:
    """Return the shares at which a profile measures experts, and those that a text adds in percent, in rising order.

    InputError for what is no whole percent from 1 to 99.
    """
    words = re.findall(r"[^\s,]+", percents)
    if strays := [word for word in words if not re.fullmatch("[1-9][0-9]?", word)]:
        raise InputError(f"{strays[0]!r} is no share of components; give whole percents from 1 to 99, such as 4, 15.")
    return tuple(sorted({*profile.fractions, *(int(word) / 100 for word in words)}))


def curve(run: Run, task: str, fractions: Sequence[float]) -> list[Row]:
    """Return the rows of one expert for some shares of its components, and for the whole of it as 100 %."""
    ranks = [Nearest(fraction=fraction) for fraction in fractions]
    whole = run.individual("test", [task])[task], run.task_vector(task).stored_bytes
    measured = [*zip(ranks, run.truncated(task, ranks), strict=True), (Nearest(fraction=1.0), whole)]
    sizes = sorted({min(layer.shape) for layer in run.matrices([task])}, reverse=True)
    return [
        {
            "backbone": run.backbone,
            "seed": run.seed,
            "task": task,
            "percent": round(100 * (rank.fraction or 0)),
            "components": ", ".join(f"{rank.count(size)} of {size}" for size in sizes),
            "accuracy": shares({task: hits})[task],
            "bytes": float(size),
            "hits": packed(hits),
        }
        for rank, (hits, size) in measured
    ]
