# SPDX-License-Identifier: MIT
"""Task vectors: what fine-tuning changed, tensor by tensor, in memory or on disk."""

import math
import warnings
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor

from tsvlib.errors import InputError, LostUpdate
from tsvlib.precision import added, is_finite, lost, type_name, wider

StateDict = Mapping[str, Tensor]
_REMEDY = "use checkpoints of one architecture"
_QKV = "in_proj_weight"


@dataclass(frozen=True)
class MatrixRule:
    """What counts as a task matrix: by default what the paper's code decomposes.

    That is every two-dimensional tensor but the text projection, so position embeddings too. ``split_qkv`` takes
    the fused projections of an attention layer as three matrices. ``convolutions`` takes kernels as matrices
    with one row per output channel.
    """

    split_qkv: bool = False
    convolutions: bool = False

    def parts(self, key: str, shape: Sequence[int]) -> int:
        """Return how many task matrices a tensor holds, one above the other; 0 if it is none.

        >>> paper, finer = MatrixRule(), MatrixRule(split_qkv=True, convolutions=True)
        >>> paper.parts("attn.in_proj_weight", (12, 4)), finer.parts("attn.in_proj_weight", (12, 4))
        (1, 3)
        >>> paper.parts("conv1.weight", (8, 3, 4, 4)), finer.parts("conv1.weight", (8, 3, 4, 4))
        (0, 1)
        >>> paper.parts("visual.proj", (4, 2)), paper.parts("text_projection", (4, 2)), paper.parts("ln.bias", (4,))
        (1, 0, 0)
        """
        if "text_projection" in key or len(shape) < 2 or 0 in shape:
            return 0
        if len(shape) > 2:
            return int(self.convolutions)
        return 3 if self.split_qkv and key.endswith(_QKV) and shape[0] % 3 == 0 else 1


class TaskVector(dict[str, Tensor]):
    """The change of every parameter by its name, with the arithmetic of a vector.

    >>> one, two = TaskVector(w=torch.tensor([3.0, 4.0])), TaskVector(w=torch.tensor([0.0, 1.0]))
    >>> one.norm(), one.dot(two), (2 * one - two)["w"], (sum([one, two]) / 2)["w"]
    (5.0, 4.0, tensor([6., 7.]), tensor([1.5000, 2.5000]))
    """

    def __add__(self, other: StateDict) -> "TaskVector":
        """Return the sum, key by key; InputError when keys or shapes differ."""
        if not isinstance(other, Mapping):
            return NotImplemented
        check_alike(self, other, "the first task vector", "the second task vector")
        return TaskVector({key: tensor + other[key] for key, tensor in self.items()})

    def __radd__(self, start: int | StateDict) -> "TaskVector":
        """Return the sum with a state dict, or with the zero that ``sum`` begins with."""
        if isinstance(start, Mapping):
            return self + start
        return self if start == 0 else NotImplemented

    def __sub__(self, other: StateDict) -> "TaskVector":
        """Return the difference, key by key; InputError when keys or shapes differ."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return self + TaskVector(other) * -1

    def __mul__(self, factor: float | int) -> "TaskVector":
        """Return every change times a number."""
        return TaskVector({key: factor * tensor for key, tensor in self.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | int) -> "TaskVector":
        """Return every change divided by a number."""
        return self * (1 / divisor)

    def __neg__(self) -> "TaskVector":
        """Return the task vector that undoes this one."""
        return self * -1

    def dot(self, other: StateDict) -> float:
        """Return the inner product over all parameters, summed in float64; InputError when keys or shapes differ."""
        check_alike(self, other, "the first task vector", "the second task vector")
        return sum(float((tensor.double() * other[key].double()).sum()) for key, tensor in self.items())

    def norm(self) -> float:
        """Return the Euclidean norm over all parameters (the Frobenius norm, for matrices)."""
        return math.sqrt(self.dot(self))

    @property
    def matrices(self) -> list[str]:
        """Return the names of the tensors that the paper's code decomposes."""
        return [key for key, tensor in self.items() if MatrixRule().parts(key, tensor.shape)]

    def matrix(self, key: str) -> Tensor:
        """Return the task matrix of a layer; for any other name, an InputError that lists those that there are."""
        if key not in self.matrices:
            raise InputError(f"there is no task matrix {key!r}; choose one of {', '.join(self.matrices)}.")
        return self[key]

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes the values take."""
        return sum(tensor.nbytes for tensor in self.values())

    def apply(self, base: StateDict, alpha: float = 1.0) -> dict[str, Tensor]:
        """Return base + alpha * task vector in the base's own types.

        ``UserWarning`` where rounding to these loses much of it. InputError when keys or shapes differ, for a change of
        whole numbers, and for values that their type cannot hold.
        """
        check_alike(base, self, "the base", "the update")
        found = {key: added(key, start, self[key], alpha, start.dtype) for key, start in base.items()}
        if text := lost(rounding for _, rounding in found.values()):
            warnings.warn(f"{text}; apply it to a base of a wider type.", LostUpdate, stacklevel=2)
        return {key: value for key, (value, _) in found.items()}


def task_vector(base: StateDict, expert: StateDict, name: str = "the expert") -> TaskVector:
    """Return expert minus base, in float32 or, where one of the two is, in float64.

    Whole numbers, such as the position numbers of published models, are zero there and must be equal in both.
    InputError, naming ``name`` and the key, when keys or shapes differ or a value is not a finite float.
    """
    check_alike(base, expert, "the base", name)
    return TaskVector(
        {key: _difference(key, start.detach(), expert[key].detach(), name) for key, start in base.items()}
    )


def _difference(key: str, start: Tensor, end: Tensor, name: str) -> Tensor:
    if not start.is_floating_point() and torch.equal(start, end):
        return torch.zeros(start.shape)
    if start.is_floating_point() and end.is_floating_point():
        dtype = wider(start.dtype, end.dtype)
        change = end.to(dtype) - start.to(dtype)
        # NaN and Inf survive subtraction, so that one look is enough where all is well.
        if is_finite(change):
            return change
    check_finite(key, start, "the base")
    check_finite(key, end, name)
    raise InputError(beyond(key, name, wider(start.dtype, end.dtype)))


def beyond(key: str, name: str, dtype: torch.dtype) -> str:
    """Return what is wrong with an expert whose changes are too large for their type."""
    trouble = f"differs from the base by more than {type_name(dtype)} can hold"
    return f"`{key}` of {name} {trouble}; train or download that checkpoint again."


def check_enough(count: int) -> None:
    """Raise InputError for fewer than two experts."""
    if count < 2:
        raise InputError(f"merging needs at least two experts, and there are {count}; name more experts.")


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


def check_finite(key: str, tensor: Tensor, owner: str) -> None:
    """Raise InputError, naming ``owner`` and ``key``, for whole numbers, NaN and Inf."""
    if not tensor.is_floating_point():
        raise InputError(f"`{key}` of {owner} is of type {tensor.dtype}; only floating-point weights can be merged.")
    if not is_finite(tensor):
        raise InputError(f"`{key}` of {owner} holds NaN or Inf; train or download that checkpoint again.")


def _listed(keys: AbstractSet[str], limit: int = 3) -> str:
    names = ", ".join(f"`{key}`" for key in sorted(keys)[:limit])
    return names if len(keys) <= limit else f"{names} and {len(keys) - limit} more keys"
