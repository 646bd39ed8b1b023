# SPDX-License-Identifier: MIT
"""EMR-Merging (Huang et al., arXiv 2405.17461, 2024): one elected update, and per task a mask and a rescaler.

*Elect*: each weight takes the sign of the sum of all task vectors, and of the entries that have this sign the largest
magnitude. *Mask*: of the elected update, a task keeps the weights at which its own entry has the elected sign.
*Rescale*: what it keeps is multiplied by a number, sum |own| / sum |kept| over the whole model, so that its mean
magnitude is that of the task vector. All tensors are treated alike, and there is neither data nor an alpha.

The published code adds up the *means* of tensors in both places, so that a bias of a hundred entries counts as much as
a matrix of a million; ours is the paper's formula. Where the sum is zero no sign is elected, as the paper's sgn has it;
the code takes the negative one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from tsvlib.layers import Layer, Suite
from tsvlib.methods.masks import Masked, check_names
from tsvlib.precision import check_held
from tsvlib.taskvectors import TaskVector


@dataclass(frozen=True)
class Rescaled:
    """Experts as one elected update, and for each of them one bit per weight and one number."""

    masked: Masked
    rescalers: Float64[Tensor, " experts"]

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes the values take."""
        return self.masked.stored_bytes + self.rescalers.nbytes

    def expert(self, name: str) -> TaskVector:
        """Return what stands for the task vector of an expert; alpha is 1.

        InputError for an unknown one, and where its rescaler makes numbers beyond all of their type.
        """
        kept = self.masked.expert(name)
        factor = float(self.rescalers[self.masked.experts.index(name)])
        found = TaskVector({key: (tensor.double() * factor).to(tensor.dtype) for key, tensor in kept.items()})
        for key, tensor in found.items():
            check_held(key, tensor)
        return found


def elected(layer: Layer) -> Tensor:
    """Return the update that all experts share: the elected signs, and the largest magnitudes that have them."""
    # In float64 such sums are practically exact, so that no sign depends on the order of tasks.
    total = torch.zeros(layer.shape, dtype=torch.float64, device=layer.device)
    highest, lowest = torch.zeros_like(total), torch.zeros_like(total)
    for change in layer.changes():
        total += change
        highest, lowest = torch.maximum(highest, change), torch.minimum(lowest, change)
    return torch.where(total > 0, highest, torch.where(total < 0, lowest, 0)).to(layer.suite.dtype)


def pack(suite: Suite, experts: Sequence[str]) -> Rescaled:
    """Return the experts of a suite by their names, as EMR-Merging keeps them; each change is read twice.

    The update is in float32, or in float64 where experts are. The rescaler of an expert of which no entry has an
    elected sign is 0, as it keeps nothing. InputError for fewer or more names than experts.
    """
    check_names(suite, experts)
    shared, masks = {}, {}
    own, held = torch.zeros(2, suite.n_tasks, dtype=torch.float64)
    for key in suite.shapes:
        shared[key] = update = elected(Layer(suite, key))
        # An expert that left a tensor alone keeps nothing of it.
        rows = np.zeros((suite.n_tasks, -(-update.numel() // 8)), np.uint8)
        for expert, change in suite.changes(key):
            # Signs, because the product of two small numbers may be zero.
            agreeing = change.sign() * update.sign() > 0
            rows[expert] = np.packbits(agreeing.numpy())
            own[expert] += _absolute(change)
            held[expert] += _absolute(update[agreeing])
        masks[key] = torch.from_numpy(rows)
    rescalers = torch.where(held > 0, own / held, 0)
    return Rescaled(Masked(tuple(experts), TaskVector(shared), masks), rescalers)


def _absolute(x: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(x, 1, dtype=torch.float64)
    return found
