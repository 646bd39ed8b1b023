# SPDX-License-Identifier: MIT
"""Task Singular Vectors: merge and compress fine-tuned models, and measure their interference.

On files, with the defaults of the command line: ``plan``, ``merge``, ``compress``, ``expand``, ``interference``,
``spectra``; ``Rank`` says how many components. In memory: ``task_vector`` and ``TaskVector``, ``merged_update`` with a
method of ``METHODS``, ``search_alpha`` with a score of one's own. Mistakes are an ``InputError``, what rounding takes
is a ``LostUpdate``. Everything else is in modules that are imported by name, such as ``from tsvlib import linalg``.
Names are fetched when they are used, because torch takes a second.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tsvlib.cli.frontdoor import compress as compress
    from tsvlib.cli.frontdoor import expand as expand
    from tsvlib.cli.frontdoor import interference as interference
    from tsvlib.cli.frontdoor import merge as merge
    from tsvlib.cli.frontdoor import plan as plan
    from tsvlib.cli.frontdoor import spectra as spectra
    from tsvlib.compression import Rank as Rank
    from tsvlib.errors import InputError as InputError
    from tsvlib.errors import LostUpdate as LostUpdate
    from tsvlib.merging import merged_update as merged_update
    from tsvlib.methods import METHODS as METHODS
    from tsvlib.search import search_alpha as search_alpha
    from tsvlib.taskvectors import TaskVector as TaskVector
    from tsvlib.taskvectors import task_vector as task_vector

__version__ = "0.2.0.dev0"

_PLACES = {
    "METHODS": "methods",
    "InputError": "errors",
    "LostUpdate": "errors",
    "Rank": "compression",
    "TaskVector": "taskvectors",
    "compress": "cli.frontdoor",
    "expand": "cli.frontdoor",
    "interference": "cli.frontdoor",
    "merge": "cli.frontdoor",
    "merged_update": "merging",
    "plan": "cli.frontdoor",
    "search_alpha": "search",
    "spectra": "cli.frontdoor",
    "task_vector": "taskvectors",
}
__all__ = [*_PLACES]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module 'tsvlib' has no attribute {name!r}; it offers {', '.join(sorted(_PLACES))}")
        return getattr(importlib.import_module(f"tsvlib.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
