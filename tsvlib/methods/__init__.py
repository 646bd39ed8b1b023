# SPDX-License-Identifier: MIT
"""All ways to merge by their names, one family per file.

To add one, write a function from a :class:`tsvlib.layers.Layer` to its update, and a row below. One that must see the
whole suite before it can merge a layer, say to find a threshold, is a function from the suite to such a function; its
row goes without ``layerwise``.
"""

from tsvlib.errors import InputError
from tsvlib.methods import averages, isotropic, masks, ties, tsv
from tsvlib.methods.base import TENTHS, THIRTIETHS, VALIDATION, Method, layerwise

_ROWS = (
    Method("weight_averaging", "Weight averaging", layerwise(averages.weight_averaging), (1.0,)),
    Method("task_arithmetic", "Task arithmetic", layerwise(averages.task_arithmetic), THIRTIETHS, VALIDATION),
    Method("ties", "TIES", ties.ties, TENTHS, VALIDATION),
    Method("iso_c", "Iso-C", layerwise(isotropic.iso_c), TENTHS, VALIDATION),
    Method("consensus_ta", "Consensus TA", layerwise(masks.consensus_ta), THIRTIETHS, VALIDATION),
    Method("tsv_m", "TSV-M", layerwise(tsv.tsv_m), TENTHS),
    Method("tsv_m_eigen", "TSV-M, eigen form", layerwise(tsv.tsv_m_eigen), TENTHS),
    Method("low_rank", "Low rank only", layerwise(tsv.low_rank), THIRTIETHS, VALIDATION),
    Method(
        "interference_reduction",
        "Interference reduction only",
        layerwise(tsv.interference_reduction),
        TENTHS,
        VALIDATION,
    ),
)
METHODS = {method.name: method for method in _ROWS}


def named(name: str) -> Method:
    """Return a method by its name, in which ``-`` may stand for ``_``; InputError for an unknown one."""
    found = METHODS.get(name.replace("-", "_"))
    if found is None:
        raise InputError(f"there is no merging method `{name}`; choose one of {', '.join(METHODS).replace('_', '-')}.")
    return found
