# SPDX-License-Identifier: MIT
"""AdaMerging (Yang et al., arXiv 2310.02575, ICLR 2024): how much of each expert goes in is learnt from inputs.

The update is Σ λ Δ over the experts. Layer-wise, every expert has a coefficient λ for each of its tensors; task-wise,
one for all of them. They are learnt at test time: all are 0.3 at first, and Adam lowers the mean entropy of what the
merged model predicts on inputs without labels. That takes the model itself, so whoever has it learns them, and gives
them here as what was measured: of each expert, one number by the name of each tensor. The published code keeps λ
between 0 and 1; the paper's formula does not, and neither does this.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tsvlib.layers import Layer, Suite
from tsvlib.methods.base import Binding, Merge
from tsvlib.methods.statistics import Statistics, check_given, measured

_KIND = "coefficient"


def adamerging(coefficients: Sequence[Statistics]) -> Binding:
    """Return the binding of AdaMerging by the coefficients of each expert, in their order.

    Merging raises InputError when there are coefficients of more or fewer experts, and for a tensor that an expert
    changed and has none of, or one that is not a single finite number.
    """

    def bind(suite: Suite) -> Merge:
        check_given(suite, coefficients, _KIND)
        return lambda layer: _weighted(layer, coefficients)

    return bind


def _weighted(layer: Layer, coefficients: Sequence[Statistics]) -> Tensor:
    merged = torch.zeros(layer.shape, dtype=layer.suite.dtype, device=layer.device)
    for expert, change in layer.numbered_changes():
        merged.add_(change, alpha=float(measured(coefficients, expert, layer.key, (), _KIND)))
    return merged
