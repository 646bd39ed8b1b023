# SPDX-License-Identifier: MIT
"""What ``data/costs.toml`` says that runs take, and how fast it takes devices to be."""

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from compendium import paths

GIGABYTE = 10**9
FILE = paths.ROOT / "data" / "costs.toml"


@dataclass(frozen=True)
class Cost:
    """A whole run of a profile: bytes that it keeps in the cache, bytes of memory, minutes, and where they passed.

    What is not known is None.
    """

    cache: int | None = None
    memory: int | None = None
    minutes: tuple[int, int] | None = None
    on: str = ""


@dataclass(frozen=True)
class Rate:
    """What is assumed of a kind of device: operations in a second, and inputs that it gets in a second at most."""

    title: str
    operations: float
    inputs: float

    def seconds(self, inputs: int, operations: int) -> float:
        """Return how long so many inputs take, with so many operations for each.

        >>> Rate("a device", 1e9, 100.0).seconds(1000, 10**6), Rate("a device", 1e9, 100.0).seconds(1000, 10**8)
        (10.0, 100.0)
        """
        return max(inputs / self.inputs, inputs * operations / self.operations)


def of(profile: str) -> Cost:
    """Return what is known of a profile, perhaps nothing."""
    found = _content()["runs"].get(profile, {})
    sizes = {name: int(found[name] * GIGABYTE) for name in ("cache", "memory") if name in found}
    least_and_most = found.get("minutes")
    return Cost(
        **sizes, minutes=(least_and_most[0], least_and_most[1]) if least_and_most else None, on=found.get("on", "")
    )


def gpu(name: str) -> Rate:
    """Return what is assumed of a GPU by its name.

    >>> gpu("NVIDIA H100 80GB HBM3").title, gpu("Tesla T4").title
    ('a GPU such as H100', 'a GPU with 16 GB')
    """
    found = next(row for row in _content()["rates"] if any(word in name for word in row["words"]) or not row["words"])
    return Rate(found["title"], float(found["operations"]), float(found["inputs"]))


def cores(count: int) -> Rate:
    """Return what is assumed of so many CPU cores."""
    found = _content()["cores"]
    return Rate(found["title"], count * float(found["operations"]), float("inf"))


@cache
def _content() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))
