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
from tsvlib.precision import Rounding, added, is_finite, lost, type_name, wider
from tsvlib.selection import Held, is_whole, left_out, select

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
        products = (tensor.detach().double() * other[key].detach().double() for key, tensor in self.items())
        return sum(float(product.sum()) for product in products)

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
        """Return base + alpha * task vector in the base's own types, whole numbers and flags as they are in the base.

        ``UserWarning`` where rounding to these loses much of it. InputError when keys or shapes differ, and for values
        that their type cannot hold.
        """
        check_alike(base, self, "the base", "the update")
        found = {key: _moved(key, start, self[key], alpha) for key, start in base.items()}
        if text := lost(rounding for _, rounding in found.values()):
            warnings.warn(f"{text}; apply it to a base of a wider type.", LostUpdate, stacklevel=2)
        return {key: value for key, (value, _) in found.items()}


def task_vector(
    base: StateDict, expert: StateDict, name: str = "the expert", *, leave_out: Sequence[str] = ()
) -> TaskVector:
    """Return expert minus base, in float32 or, where one of the two is, in float64.

    It is zero for whole numbers and flags, whatever the expert holds, and for what ``leave_out`` names (see
    ``tsvlib.selection``, which reads names of wrappers and tied tensors too). InputError, naming ``name`` and the key,
    when an expert does not fit the base, or changed a tensor to or from NaN or Inf.
    """
    selection = select(Held(base, "the base"), [Held(expert, name)], leave_out)
    (own,) = selection.own

    def change(key: str, start: Tensor) -> Tensor:
        if key not in own:
            return torch.zeros(start.shape)
        return difference(key, start.detach(), expert[own[key]].detach(), "the base", name)

    return TaskVector({key: change(key, start) for key, start in base.items()})


def difference(key: str, start: Tensor, end: Tensor, owner: str, name: str) -> Tensor:
    """Return what an expert changed in a tensor, in float32 or float64; zero where nothing is other, even NaN or Inf.

    InputError, naming base, expert and key, for a change to or from NaN or Inf, and for one beyond all numbers.
    """
    dtype = wider(start.dtype, end.dtype)
    change = end.to(dtype) - start.to(dtype)
    # NaN and Inf survive subtraction, so that one look is enough where all is well.
    if is_finite(change):
        return change
    if torch.isclose(end.to(dtype), start.to(dtype), rtol=0, atol=0, equal_nan=True).all():
        return torch.zeros_like(change)
    check_finite(key, start, owner)
    check_finite(key, end, name)
    raise InputError(beyond(key, name, dtype))


def beyond(key: str, name: str, dtype: torch.dtype) -> str:
    """Return what is wrong with an expert whose changes are too large for their type."""
    trouble = f"differs from the base by more than {type_name(dtype)} can hold"
    return f"`{key}` of {name} {trouble}; train or download that checkpoint again."


def _moved(key: str, start: Tensor, update: Tensor, alpha: float) -> tuple[Tensor, Rounding]:
    if is_whole(start.dtype):
        return start.clone(), Rounding(0.0, 0.0, start.dtype)
    return added(key, start, update, alpha, start.dtype)


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
    """Raise InputError, naming ``owner`` and ``key``, for NaN and Inf, and for complex numbers."""
    if tensor.is_complex():
        raise InputError(f"`{key}` of {owner} is of type {tensor.dtype}; only real numbers can be merged.")
    if not is_finite(tensor):
        remedy = f"train or download that checkpoint again, or {left_out([key])}"
        raise InputError(f"`{key}` of {owner} holds NaN or Inf; {remedy}.")


def _listed(keys: AbstractSet[str], limit: int = 3) -> str:
    names = ", ".join(f"`{key}`" for key in sorted(keys)[:limit])
    return names if len(keys) <= limit else f"{names} and {len(keys) - limit} more keys"
