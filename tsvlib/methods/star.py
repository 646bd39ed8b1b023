# SPDX-License-Identifier: MIT
"""STAR, spectral truncation and rescaling (Lee et al., arXiv 2502.10339, NAACL 2025).

Of each task matrix U diag(s) Vᵀ the fewest leading components stay whose singular values add up to at least the share
eta of all, its nuclear norm; they are multiplied by what brings the sum back to the whole nuclear norm. The mean of
these matrices over all tasks is the update. What is no matrix is averaged as it is. Nothing has to be chosen: the paper
and its code use eta = 40 % and alpha = 1.
"""

import torch
from torch import Tensor

from tsvlib import linalg
from tsvlib.errors import InputError
from tsvlib.layers import Layer
from tsvlib.linalg import Factors
from tsvlib.methods.base import Binding

ETA = 0.4
"""The share of the nuclear norm that the paper keeps."""


def star(layer: Layer) -> Tensor:
    """Return STAR with eta = 0.4; ``truncated`` makes the same method with another share.

    An expert that did not change a layer is a zero matrix in the mean.
    """
    return _merged(layer, ETA)


def truncated(eta: float) -> Binding:
    """Return the binding of STAR that keeps the share ``eta`` of each nuclear norm.

    InputError for a share that is not above 0 and up to 1.
    """
    if not 0 < eta <= 1:
        raise InputError(f"{eta} is no share of a nuclear norm to keep; choose one above 0 and up to 1, such as {ETA}.")
    return lambda suite: lambda layer: _merged(layer, eta)


def _merged(layer: Layer, eta: float) -> Tensor:
    if not layer.is_matrix:
        return layer.mean()
    total = torch.zeros(layer.shape, dtype=torch.float64, device=layer.device)
    for factors in layer.factors(min(layer.shape)):
        total += _rescaled(factors, eta).product()
    return (total / layer.n_tasks).to(layer.suite.dtype)


def _rescaled(factors: Factors, eta: float) -> Factors:
    """Return the leading components that hold a share of the nuclear norm, rescaled to the whole of it."""
    running = factors.s.double().cumsum(0)
    # The one that reaches the share stays too; rounding must not make a whole share one component more than all.
    k = min(int((running < eta * running[-1]).sum()) + 1, len(running))
    kept = linalg.truncate(factors, k)
    return Factors(kept.u, kept.s * float(running[-1] / running[k - 1]), kept.vh)
