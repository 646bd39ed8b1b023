# SPDX-License-Identifier: MIT
"""What looking for a file, a data set or a head gave: there, not as it should be, or missing, and what to do then."""

from dataclasses import dataclass
from typing import Literal

State = Literal["present", "wrong", "missing"]


@dataclass(frozen=True)
class Finding:
    """The state of one thing that a run needs, and a sentence on it: where it lies, how it is wrong, how to get it.

    ``bytes`` is what it takes on disk where it is present, and else what there is to download, if that is known.
    """

    state: State
    told: str
    bytes: int | None = None
