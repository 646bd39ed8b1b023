# SPDX-License-Identifier: MIT
"""What the linear layers of an encoder are given, whatever it is built of: known by the products that it computes.

PyTorch tells every operation below its modules to a dispatch mode. A product ``x @ w.T`` with the weights of a tensor
of the state shows x, be it of a linear layer, of the fused projections of an attention layer or of a function on state
dicts. Weights that are copied on the way, to a device or side by side into one tensor, are followed. A tensor that is
used as ``x @ w``, such as the projection of a CLIP, and convolutions are no linear layers here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from compendium.study.adaptation import Encoder
from compendium.worlds.protocol import Inputs
from tsvlib.taskvectors import StateDict

_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.cat.default)


def layer_inputs(
    encoder: Encoder, state: StateDict, inputs: Inputs
) -> Iterator[dict[str, list[Float[Tensor, "rows columns"]]]]:
    """Yield for one input after the other what each linear layer is given, by the names of weights.

    These are the factors of its products, one after the other: rows are tokens, as a rule. One input at a time, since
    texts that are encoded together are padded, and layers are given the padding, too.
    """
    for n in range(len(inputs)):
        with torch.no_grad(), _step_by_step(), _Watch(state) as watch:
            encoder(state, inputs[n : n + 1])
        yield watch.given


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what is multiplied by the weights of a state while it is active."""

    def __init__(self, state: StateDict) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given: dict[str, list[Tensor]] = {}
        # Copies are held as well, so that nothing else can come to lie in their place.
        self._weights = [(tensor, [key]) for key, tensor in state.items() if tensor.ndim == 2]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was to be done, and look at it."""
        made = func(*args, **(kwargs or {}))
        if func in _COPIES:
            parts = args[0] if isinstance(args[0], list | tuple) else [args[0]]
            if keys := [key for part in parts for key in self._keys(part)]:
                self._weights.append((made, keys))
        if func in _PRODUCTS:
            left, right = args[-2:]
            # Rows of weights lie one after the other in memory, so that these columns are rows.
            if right.stride(0) == 1:
                for key in self._keys(right):
                    self.given.setdefault(key, []).append(left.detach().clone())
        return made

    def _keys(self, tensor: Tensor) -> list[str]:
        """Return the names of the weights of which a tensor is a view."""
        place = tensor.data_ptr()
        found = (keys for weights, keys in self._weights if 0 <= place - weights.data_ptr() < weights.nbytes)
        return next(found, [])


@contextmanager
def _step_by_step() -> Iterator[None]:
    """Let attention layers compute what they are built of, which PyTorch would do in one operation without a trace."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
