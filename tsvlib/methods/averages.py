# SPDX-License-Identifier: MIT
"""The oldest methods: means and sums of task vectors."""

from torch import Tensor

from tsvlib.layers import Layer


def weight_averaging(layer: Layer) -> Tensor:
    """Return the mean of the changes."""
    return layer.mean()


def task_arithmetic(layer: Layer) -> Tensor:
    """Return the sum of the changes, matrix or not (Ilharco et al.)."""
    return layer.total()
