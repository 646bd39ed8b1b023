# SPDX-License-Identifier: MIT
"""Task vectors: what fine-tuning changed, tensor by tensor."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from torch import Tensor

from tsvlib.errors import InputError

StateDict = Mapping[str, Tensor]
_REMEDY = "use checkpoints of one architecture"


def is_task_matrix(key: str, tensor: Tensor) -> bool:
    """Tell whether a parameter is treated as a matrix: two-dimensional, and not the text projection.

    The rule of the paper's code: position embeddings are matrices, the patch convolution is none.

    >>> import torch
    >>> is_task_matrix("visual.proj", torch.ones(4, 2)), is_task_matrix("visual.ln_pre.bias", torch.ones(4))
    (True, False)
    """
    return tensor.ndim == 2 and "text_projection" not in key


def task_vector(base: StateDict, expert: StateDict, name: str = "the expert") -> dict[str, Tensor]:
    """Return expert minus base in float32.

    InputError, naming ``name`` and the key, when keys or shapes differ or a value is not a finite float.
    """
    check_alike(base, expert, "the base", name)
    for owner, state in (("the base", base), (name, expert)):
        check_finite(state, owner)
    return {key: expert[key].float() - start.float() for key, start in base.items()}


def apply(base: StateDict, update: StateDict, alpha: float) -> dict[str, Tensor]:
    """Return base + alpha * update, summed in the wider type of the two and cast once to the base's own.

    InputError when keys or shapes differ.
    """
    check_alike(base, update, "the base", "the update")
    return {key: (start + alpha * update[key]).to(start.dtype) for key, start in base.items()}


def check_alike(first: StateDict, second: StateDict, first_name: str, second_name: str) -> None:
    """Raise InputError unless two state dicts have the same keys and shapes."""
    for owner, lacking in (
        (second_name, first.keys() - second.keys()),
        (first_name, second.keys() - first.keys()),
    ):
        if lacking:
            raise InputError(f"{owner} lacks {_listed(lacking)}; {_REMEDY}.")
    for key, tensor in first.items():
        if tensor.shape != second[key].shape:
            shapes = f"{tuple(tensor.shape)} in {first_name} and {tuple(second[key].shape)} in {second_name}"
            raise InputError(f"`{key}` has shape {shapes}; {_REMEDY}.")


def check_finite(state: StateDict, name: str) -> None:
    """Raise InputError, naming the key, unless a state dict holds finite floating-point numbers only."""
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            raise InputError(f"`{key}` of {name} is of type {tensor.dtype}; only floating-point weights can be merged.")
        if not tensor.isfinite().all():
            raise InputError(f"`{key}` of {name} holds NaN or Inf; train or download that checkpoint again.")


def _listed(keys: AbstractSet[str], limit: int = 3) -> str:
    names = ", ".join(f"`{key}`" for key in sorted(keys)[:limit])
    return names if len(keys) <= limit else f"{names} and {len(keys) - limit} more keys"
