# SPDX-License-Identifier: MIT
"""What of a model is merged and what is not, by one rule for every command and for state dicts in memory.

``rules`` gives each tensor its part, ``names`` sees through the names that wrappers give, ``ties`` finds tensors that
are one, and ``patterns`` reads what a user leaves out.
"""

from tsvlib.selection.names import aligned
from tsvlib.selection.patterns import left_out
from tsvlib.selection.rules import Selection, is_whole, select
from tsvlib.selection.sources import Held, Info, Source

__all__ = ["Held", "Info", "Selection", "Source", "aligned", "is_whole", "left_out", "select"]
