# SPDX-License-Identifier: MIT
"""Methods that came after the paper's and make the spectrum of the update flat."""

from torch import Tensor

from tsvlib import linalg
from tsvlib.layers import Layer
from tsvlib.linalg import Factors
from tsvlib.precision import check_held


def iso_c(layer: Layer) -> Tensor:
    """Return Iso-C (Marczak et al., arXiv 2502.04959), which is not in the TSV paper.

    That is the sum of the task matrices with every singular value replaced by the mean of all of them, and the mean of
    what is no matrix. Directions that only rounding error fills are left out, since they are arbitrary. The weakest of
    the others count as much as the strongest, so they are computed in float64.
    """
    if not layer.is_matrix:
        return layer.mean()
    total = layer.total()
    check_held(layer.key, total)
    whole = linalg.svd(total.double())
    kept = linalg.truncate(whole, max(1, linalg.numerical_rank(whole, total.dtype)))
    return Factors(kept.u, whole.s.mean().expand(len(kept.s)), kept.vh).product().to(total.dtype)
