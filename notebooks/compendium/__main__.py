# SPDX-License-Identifier: MIT
"""``python -m compendium``: see :mod:`compendium.commands`."""

from compendium.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
