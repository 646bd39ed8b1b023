# SPDX-License-Identifier: MIT
"""``python -m tsvlib`` is ``tsvlib``, the command line."""

from tsvlib.cli.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
