# SPDX-License-Identifier: MIT
"""What a selection has to know of a model, be it on disk or in memory."""

from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

GLIMPSE = 64
"""How many of its first numbers tell one tensor from most others."""


@runtime_checkable
class Info(Protocol):
    """Type and shape of a tensor, which a tensor itself knows as well."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape."""


@runtime_checkable
class Source(Protocol):
    """A model by the names of its tensors."""

    @property
    def owner(self) -> str:
        """Return what sentences call it."""

    @property
    def label(self) -> str:
        """Return how sentences about it begin."""

    @property
    def layout(self) -> Mapping[str, Info]:
        """Return type and shape of every tensor."""

    @property
    def shared(self) -> Mapping[str, str]:
        """Return, for tensors that are the same memory as others, the first name of these."""

    def read(self, key: str) -> Tensor:
        """Return a tensor."""

    def glimpse(self, key: str) -> Tensor:
        """Return the first numbers of a tensor, at most ``GLIMPSE``."""


class Held:
    """A state dict in memory as a source."""

    def __init__(self, state: Mapping[str, Tensor], name: str) -> None:
        self.layout, self.owner, self.label = state, name, name

    @cached_property
    def shared(self) -> Mapping[str, str]:
        """Return, for tensors that are the same memory as others, the first name of these."""
        return same_memory(self.layout.items())

    def read(self, key: str) -> Tensor:
        """Return a tensor, without its graph."""
        return self.layout[key].detach()

    def glimpse(self, key: str) -> Tensor:
        """Return the first numbers of a tensor."""
        return self.read(key).reshape(-1)[:GLIMPSE]


def same_memory(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """Return, for tensors that are the same memory as others in just the same way, the first name of these."""
    first: dict[Hashable, str] = {}
    found = {}
    for key, tensor in sorted(tensors, key=lambda item: item[0]):
        if tensor.numel() and tensor.layout == torch.strided:
            view = (tensor.device, tensor.dtype, tensor.data_ptr(), tensor.shape, tensor.stride())
            found[key] = first.setdefault(view, key)
    many = {name for key, name in found.items() if key != name}
    return {key: name for key, name in found.items() if name in many}
