# SPDX-License-Identifier: MIT
"""The choice of methods to compare."""

import re
from collections.abc import Sequence

from tsvlib.errors import InputError
from tsvlib.methods import named
from tsvlib.methods.base import Method


def further(names: str, known: Sequence[str], *, searched: bool = False) -> list[Method]:
    """Return the methods that a text names, with commas or spaces between, beyond those that are ``known``.

    InputError for a name that no method has, or, where alpha is to be ``searched``, for one with a single alpha.
    """
    found = [named(name) for name in dict.fromkeys(re.findall(r"[^\s,]+", names))]
    if searched and (single := [method.name for method in found if not method.searches_alpha]):
        raise InputError(f"`{single[0]}` has one alpha, so there is nothing to search; choose another method.")
    return [method for method in found if method.name not in known]
