# SPDX-License-Identifier: MIT
"""What looking for something that a run needs gave: there, made later, doubtful, not as it should be, or missing."""

from dataclasses import dataclass
from typing import Literal

State = Literal["present", "made later", "doubtful", "wrong", "missing"]
"""``made later``: not there, and the run makes it; ``doubtful``: a run may do without, or may not be what is meant."""


@dataclass(frozen=True)
class Finding:
    """The state of one thing that a run needs, and a sentence on it: where it lies, how it is wrong, how to get it.

    ``bytes`` is what it takes on disk where it is present, what it will take where it is made later, and else what
    there is to download; None where that is not known.
    """

    state: State
    told: str
    bytes: int | None = None

    @property
    def is_in_the_way(self) -> bool:
        """Tell whether a run would fail over it."""
        return self.state in ("wrong", "missing")


def size(count: int) -> str:
    """Return a number of bytes in words.

    >>> size(39_000_000_000), size(11_600_000), size(70_000)
    ('39.0 GB', '12 MB', '0.1 MB')
    """
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e6:.1f} MB"
