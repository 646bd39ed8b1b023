# SPDX-License-Identifier: MIT
"""The one exception and the one warning that are meant for users."""


class InputError(Exception):
    """A user's mistake or a broken file, told in one sentence: what is wrong, where, and what to do.

    >>> str(InputError("a.csv: line 3 has no column `task`; add it."))
    'a.csv: line 3 has no column `task`; add it.'
    """


class LostUpdate(UserWarning):
    """Rounding to the type of the weights took much of an update, as the message says."""
