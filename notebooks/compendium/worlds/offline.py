# SPDX-License-Identifier: MIT
"""Whether the network is forbidden, by the variables that the hub's own libraries heed as well."""

import os

SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
YES = ("1", "ON", "YES", "TRUE")


def switch() -> str | None:
    """Return the first variable that forbids the network, or None where none does."""
    return next((name for name in SWITCHES if os.environ.get(name, "").upper() in YES), None)
