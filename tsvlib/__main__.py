# SPDX-License-Identifier: MIT
"""``python -m tsvlib plan|merge|compress|expand|interference|spectra``: the method on checkpoints of your own."""

import sys
from collections.abc import Sequence

from tsvlib import commands
from tsvlib.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when done, 1 with one sentence for bad input, 2 for a wrong command line, 130 for Ctrl-C."""
    options = commands.parser().parse_args(arguments)
    try:
        sys.stdout.write(f"{commands.run(options)}\n")
        return 0
    except KeyboardInterrupt:
        return _tell("interrupted; nothing was written, and the same command starts again.", 130)
    except commands.UsageError as error:
        return _tell(str(error), 2)
    except InputError as error:
        return _tell(str(error), 1)
    except OSError as error:
        return _tell(
            f"{error.filename or 'a file'}: {error.strerror}; free space or give permission, then run again.", 1
        )


def _tell(sentence: str, code: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
