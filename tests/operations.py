# SPDX-License-Identifier: MIT
"""Operations of linear algebra counted as PyTorch is asked for them, and the size of what they make."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ATEN = torch.ops.aten


class Counter(TorchDispatchMode):
    """Counts multiplications of products and decompositions inside the block, and the numbers of the largest tensor.

    A QR decomposition of m x n counts as 2 m n² with its Q, a singular value decomposition as m n² + 9 n³, n being the
    short side.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0.0
        self.largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.largest = max([self.largest, *(x.numel() for x in tree_leaves(made) if isinstance(x, Tensor))])
        if function.overloadpacket in (_ATEN.mm, _ATEN.bmm):
            self.operations += made.numel() * args[0].shape[-1]
        elif function.overloadpacket in (_ATEN.linalg_qr, _ATEN._linalg_svd):
            short, long = sorted(args[0].shape[-2:])
            cube = 0 if function.overloadpacket == _ATEN.linalg_qr else 9 * short**3
            self.operations += (2 if not cube else 1) * long * short**2 + cube
        return made
