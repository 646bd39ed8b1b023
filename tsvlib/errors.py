# SPDX-License-Identifier: MIT
"""The one exception that is meant for users."""


class InputError(Exception):
    """A user's mistake or a broken file, told in one sentence: what is wrong, where, and what to do.

    >>> str(InputError("a.csv: line 3 has no column `task`; add it."))
    'a.csv: line 3 has no column `task`; add it.'
    """
